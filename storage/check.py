"""`klani-resp check DIR`: says what is wrong with a directory, and where. Changes nothing.

With `--export FILE` it writes what is sound as commands (storage.export). With `--audit` it proves that
nothing in the log that is kept was altered (storage.audit).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyroaring import BitMap

from storage import event_files, index_file, row_file
from storage import format as fmt
from storage.audit import Audit
from storage.columns import column_reader
from storage.errors import DamageError, StartError
from storage.events import Event, decode
from storage.export import export
from storage.fs import Fs, OsFs
from storage.log_reader import Log, read_log
from storage.manifest import NAME as MANIFEST_NAME
from storage.manifest import Manifest, TableState
from storage.recovery import LOCK_NAME
from storage.replay import Replay
from storage.scan import RowFile
from storage.schema import Schema, Value
from storage.table import Table
from storage.wal import Anchor

Lists = dict[tuple[int, Value], BitMap]  # column and value -> the rows that have it


def main(argv: list[str] | None = None) -> int:
    """0 when the directory is sound, 1 when it is not, 2 when it cannot be looked at."""
    parser = argparse.ArgumentParser(prog="klani-resp check", description="Verify a data directory offline.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write what is sound there as KL.CREATE and KL.INSERT, for redis-cli --pipe",
    )
    parser.add_argument(
        "--audit", action="store_true", help="prove the chain of hashes over archive and log unbroken"
    )
    parser.add_argument(
        "--anchor",
        type=_anchor,
        nargs="+",
        action="extend",
        metavar="POSITION:HEX",
        help="a head that INFO once showed, kept elsewhere: it must lie on the chain",
    )
    options = parser.parse_args(argv)
    anchors = options.anchor or ([] if options.audit else None)
    try:
        return _look(OsFs(), options.directory, options.export, anchors)
    except OSError as error:  # a file that cannot be read may be sound, and its neighbours too
        print(f"{options.directory} cannot be looked at: {error}", file=sys.stderr)
        return 2


def _anchor(text: str) -> Anchor:
    position, _, head = text.partition(":")
    if not position.isdecimal() or len(head) != 2 * len(fmt.CHAIN_START):
        raise argparse.ArgumentTypeError(f"'{text}' is not POSITION:HEX with 64 hex digits")
    try:
        return Anchor(int(position), bytes.fromhex(head))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not POSITION:HEX: {error}") from error


def _look(fs: Fs, directory: Path, file: Path | None = None, anchors: Sequence[Anchor] | None = None) -> int:
    if not fs.exists(directory / MANIFEST_NAME):
        print(f"{directory}: no {MANIFEST_NAME} here: not a data directory", file=sys.stderr)
        return 2
    if file is not None and (fs.exists(file) or file.resolve().is_relative_to(directory.resolve())):
        print(f"{file} is there already, or in the data directory: nothing was done", file=sys.stderr)
        return 2
    fd = fs.open_readonly(directory / LOCK_NAME) if fs.exists(directory / LOCK_NAME) else -1
    try:
        if fd >= 0 and not fs.lock(fd):
            print(f"{directory} is in use by a server; stop it, or ask it with KL.VERIFY", file=sys.stderr)
            return 2
        troubles = list(check(fs, directory, print))
        if anchors is not None:
            with _reading(directory / "wal"):
                troubles += _audit(fs, directory, anchors)
        for trouble in troubles:
            print(f"DAMAGED {trouble}")
        if file is not None:
            export(fs, directory, file, print)
    finally:
        if fd >= 0:
            fs.close(fd)
    print("damaged" if troubles else "sound")
    return 1 if troubles else 0


def _audit(fs: Fs, directory: Path, anchors: Sequence[Anchor]) -> Iterator[str]:
    try:
        yield from Audit(fs, directory, anchors, print).troubles()
    except StartError as error:
        yield f"audit: {error.text}"


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
    try:
        events = sum(1 for name in manifest.event_files for _ in _events(fs, directory / name))
        tell(f"sales: {events} events")
    except DamageError as error:
        yield error.text
    listed: dict[int, Lists] = {}
    try:
        if manifest.index_file:
            with _reading(directory / manifest.index_file):
                listed = _listed(fs, directory, manifest)
    except (DamageError, ValueError) as error:
        yield f"{error} (a start makes the lists again from the rows)"
    for state in manifest.tables:
        with _reading(row_file.table_path(directory, state.number)):
            table = TableCheck(fs, directory, manifest, state)
            yield from table.read(copies)
        tell(
            f"table {state.name}: {len(table.rows)} rows, "
            f"{table.restorable} blocks to restore from double-write"
        )
        yield from table.judge(listed.get(state.number))


def _events(fs: Fs, path: Path) -> Iterator[Event]:
    with _reading(path):
        yield from map(decode, event_files.load(fs, path))


def _walk(manifest: Manifest, log: Log) -> Iterator[str]:
    """The records' own form, and that each bears the position at which it stands."""
    replay = Replay(
        {s.number: Table(s.number, b"", Schema.from_description(s.schema)) for s in manifest.tables}, manifest
    )
    try:
        for batch in log.batches:
            for _ in replay.batch(batch):
                pass
        for _, body in replay.events:
            decode(body)
    except DamageError as error:
        yield error.text


def _listed(fs: Fs, directory: Path, manifest: Manifest) -> dict[int, Lists]:
    """The lists of the index file, by table. Raises DamageError."""
    path = directory / manifest.index_file
    if not fs.exists(path):
        raise DamageError(f"{path}: the posting lists are missing")
    listed: dict[int, Lists] = {state.number: {} for state in manifest.tables}
    for (number, column, value), rows in index_file.load(fs, path).items():
        listed.setdefault(number, {})[column, value] = rows
    return listed


class TableCheck:
    """One table's row file beside the checkpoint, the double-write file and the posting lists."""

    def __init__(self, fs: Fs, directory: Path, manifest: Manifest, state: TableState) -> None:
        self._state = state
        self._path = row_file.table_path(directory, state.number)
        self._index_path = directory / manifest.index_file
        self._position = manifest.position
        self._file = RowFile(fs, directory, state)
        self._schema = self._file.schema
        self._lists: Lists = {(index_file.PRESENT, 0): BitMap()}
        self._is_newer = False  # some block is ahead of the checkpoint, and of the lists
        self.restorable = 0

    @property
    def rows(self) -> BitMap:
        return self._lists[index_file.PRESENT, 0]

    def read(self, copies: dict[row_file.Place, bytes]) -> Iterator[str]:
        """Takes in the row file; yields the blocks that are damaged."""
        schema = self._schema
        readers = [(schema.value_column(name), column_reader(schema, name)) for name in schema.indexed]
        for step in self._file.steps():
            for block in (*step.corrupt, *step.empty):
                copy = copies.get(row_file.Place(self._state.number, block))
                is_sound = copy is not None and fmt.block_is_sound(copy, block)
                if not is_sound and block in step.empty:
                    continue
                if copy is None or not is_sound:
                    yield f"{self._path}: block {block} (offset {block * fmt.BLOCK_BYTES}) fails its checksum"
                    continue
                self.restorable += 1
                step.put(block, copy)
            self._is_newer |= any(position > self._position for position in step.positions())
            mask = step.present()
            self.rows.update(step.ids(mask))
            for column, reader in readers:
                self._note(column, step.values(reader, mask))

    def _note(self, column: int, values: Iterator[tuple[int, Value]]) -> None:
        by_value: defaultdict[Value, list[int]] = defaultdict(list)
        for row, value in values:
            by_value[value].append(row)
        for value, ids in by_value.items():
            self._lists.setdefault((column, value), BitMap()).update(ids)

    def judge(self, listed: Lists | None) -> Iterator[str]:
        """Yields where the checkpoint, or the posting lists, say something else than the rows."""
        if self._is_newer:
            return
        if len(self.rows) != self._state.rows:
            yield f"{self._path}: {len(self.rows)} rows, the checkpoint says {self._state.rows}"
        if listed is None:
            return
        names = {self._schema.value_column(name): name.decode() for name in self._schema.indexed}
        for key in sorted(self._lists.keys() | listed.keys(), key=repr):
            differing = self._lists.get(key, BitMap()) ^ listed.get(key, BitMap())
            if not differing:
                continue
            column, value = key
            if column == index_file.PRESENT:
                yield (
                    f"{self._path}: row {differing[0]} is not there, "
                    "or was not when the posting lists were written"
                )
            else:
                yield (
                    f"{self._index_path}: table {self._state.name}, field {names.get(column, column)}, "
                    f"value {value!r}: the list and the rows differ in row {differing[0]}"
                )
