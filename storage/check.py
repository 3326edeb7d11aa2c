"""`klani-resp check DIR`: says what is wrong with a directory, and where. Changes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroaring import BitMap

from storage import format as fmt
from storage import index_file, row_file
from storage.errors import DamageError, StartError
from storage.fs import Fs, OsFs
from storage.log_reader import Log, read_log
from storage.manifest import NAME as MANIFEST_NAME
from storage.manifest import Manifest, TableState
from storage.recovery import LOCK_NAME
from storage.replay import Replay
from storage.scan import RowFile
from storage.schema import Schema
from storage.table import Table


def main(argv: list[str] | None = None) -> int:
    """0 when the directory is sound, 1 when it is not, 2 when it cannot be looked at."""
    parser = argparse.ArgumentParser(prog="klani-resp check", description="Verify a data directory offline.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    options = parser.parse_args(argv)
    try:
        return _look(OsFs(), options.directory)
    except OSError as error:  # a file that cannot be read may be sound, and its neighbours too
        print(f"{options.directory} cannot be looked at: {error}", file=sys.stderr)
        return 2


def _look(fs: Fs, directory: Path) -> int:
    if not fs.exists(directory / MANIFEST_NAME):
        print(f"{directory}: no {MANIFEST_NAME} here: not a data directory", file=sys.stderr)
        return 2
    fd = fs.open_readonly(directory / LOCK_NAME) if fs.exists(directory / LOCK_NAME) else -1
    try:
        if fd >= 0 and not fs.lock(fd):
            print(f"{directory} is in use by a server; stop it, or ask it with KL.VERIFY", file=sys.stderr)
            return 2
        troubles = list(check(fs, directory, print))
    finally:
        if fd >= 0:
            fs.close(fd)
    for trouble in troubles:
        print(f"DAMAGED {trouble}")
    print("damaged" if troubles else "sound")
    return 1 if troubles else 0


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What cannot be read is named: the system names a file only where it cannot be opened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def check(fs: Fs, directory: Path, say: object = None) -> Iterator[str]:
    """Yields what is wrong; prints what it found through `say`."""
    tell = say if callable(say) else (lambda _: None)
    try:
        with _reading(directory / MANIFEST_NAME):
            manifest = Manifest.load(fs, directory)
    except StartError as error:
        yield error.text
        return
    tell(f"checkpoint: position {manifest.position}, epoch {manifest.epoch}, {len(manifest.tables)} tables")
    try:
        with _reading(directory / "wal"):
            log = read_log(fs, directory / "wal", manifest.uuid_bytes, manifest.position, manifest.position)
    except StartError as error:
        yield error.text
        log = None
    except FileNotFoundError:
        yield f"{directory / 'wal'}: the log is missing"
        log = None
    if log is not None:
        tell(f"log: {len(log.batches)} batches to position {log.end}, durable to {log.durable} at least")
        if log.torn:
            tell(f"log: {log.torn}")
        yield from _walk(manifest, log)
    with _reading(directory / row_file.DOUBLEWRITE_NAME):
        copies = dict(row_file.read_doublewrite(fs, directory, manifest.uuid_bytes))
    present = _present(fs, directory, manifest)
    for state in manifest.tables:
        with _reading(row_file.table_path(directory, state.number)):
            yield from _check_table(fs, directory, state, manifest, copies, present.get(state.number), tell)


def _walk(manifest: Manifest, log: Log) -> Iterator[str]:
    """The records' own form, and that each bears the position at which it stands."""
    replay = Replay(
        {s.number: Table(s.number, b"", Schema.from_description(s.schema)) for s in manifest.tables}, manifest
    )
    try:
        for batch in log.batches:
            for _ in replay.batch(batch):
                pass
    except DamageError as error:
        yield error.text


def _present(fs: Fs, directory: Path, manifest: Manifest) -> dict[int, BitMap]:
    if not manifest.index_file:
        return {}
    try:
        entries = index_file.load(fs, directory / manifest.index_file)
    except (DamageError, OSError):
        return {}
    return {
        number: BitMap.deserialize(data)
        for number, column, _, data in entries
        if column == index_file.PRESENT
    }


def _check_table(
    fs: Fs,
    directory: Path,
    state: TableState,
    manifest: Manifest,
    copies: dict[row_file.Place, bytes],
    present: BitMap | None,
    tell: object,
) -> Iterator[str]:
    path = row_file.table_path(directory, state.number)
    found = BitMap()
    newer = restorable = 0
    for step in RowFile(fs, directory, state).steps():
        for block in step.corrupt:
            copy = copies.get(row_file.Place(state.number, block))
            if copy is None or not fmt.block_is_sound(copy, block):
                yield f"{path}: block {block} (offset {block * fmt.BLOCK_BYTES}) fails its checksum"
                continue
            restorable += 1
            step.put(block, copy)
        newer += sum(position > manifest.position for position in step.positions())
        found |= step.ids(step.present())
    if callable(tell):
        tell(f"table {state.name}: {len(found)} rows, {restorable} blocks to restore from double-write")
    if not newer and len(found) != state.rows:
        yield f"{path}: {len(found)} rows, the checkpoint says {state.rows}"
    if present is not None and not newer and found != present:
        lost = next(iter(found ^ present))
        yield f"{path}: row {lost} is not there, or was not when the posting lists were written"
