"""`check --export`: what is sound comes out in a form that loads again; what is left out is said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from klani_resp.__main__ import main
from klani_resp.protocol.parser import ParserLimits, RequestParser
from storage import format as fmt
from storage.engine import Engine
from storage.export import export
from storage.row_file import table_path
from tests.fake_disk import FakeDisk
from tests.store import (
    DIRECTORY,
    Contents,
    batch_offsets,
    checkpoint,
    contents,
    open_store,
    row,
    schema,
)

if TYPE_CHECKING:
    from bench.harness.launch import Server

Start = Callable[..., "Server"]
FILE = Path("out") / "rows.resp"
PER_BLOCK = schema().rows_per_block


def store() -> tuple[FakeDisk, Engine]:
    """300 rows in their places; 20 new ones, changes and two tables in the log behind the checkpoint."""
    disk = FakeDisk()
    disk.make_directory(FILE.parent)
    engine, _ = open_store(disk)
    engine.create(b"seats", schema(), False)
    engine.create(b"gone", schema(), False)
    for number in range(300):
        engine.insert(engine.table(b"seats"), number, row(number % 4, 7, b"n%d\0" % number))
    checkpoint(engine)
    for number in range(70_000, 70_020):
        engine.insert(engine.table(b"seats"), number, row(1))
    engine.wal.commit()
    for number in (5, 70_001):
        write(engine, number, 200)
    engine.drop(b"gone")
    engine.create(b"gone", schema(), False)
    engine.insert(engine.table(b"gone"), 3, row(3))
    engine.create(b"empty", schema(), False)
    engine.wal.commit()
    return disk, engine


def write(engine: Engine, number: int, state: int) -> None:
    table = engine.table(b"seats")
    token = engine.try_lock(((table, number),), None, None)
    assert token is not None
    engine.replace(table, number, token, {b"state": state}, True)


def exported(disk: FakeDisk) -> tuple[Contents, list[str]]:
    """What loading the exported commands into an empty store makes of them, and what was said."""
    said: list[str] = []
    export(disk, DIRECTORY, FILE, said.append)
    return (loaded(bytes(disk.named[FILE].seen)) if FILE in disk.named else {}), said


def loaded(commands: bytes) -> Contents:
    made, _ = open_store(FakeDisk())
    for request in RequestParser(ParserLimits(request_bytes_max=64 << 20)).feed(commands):
        name, key, *words = request
        if name == b"KL.CREATE":
            assert words[:2] == [b"IFNOTEXISTS", b"SCHEMA"]
            assert words[2:] == b"state U8 INDEX row U16 INDEX note BYTES 12".split()
            made.create(key, schema(), True)
        else:
            assert name == b"KL.INSERT"
            table, _, number = key.partition(b":")
            values = dict(zip(words[::2], words[1::2], strict=True))
            fields = {n: schema().field(n).parse(text) for n, text in values.items()}
            assert made.insert(made.table(table), int(number), fields) == 1
    return contents(made)


def test_a_sound_store_comes_back_as_it_was() -> None:
    for is_stopped in (False, True):
        disk, engine = store()
        before = contents(engine)
        if is_stopped:
            engine.close()
        disk = disk.crash()
        disk.make_directory(FILE.parent)
        image = disk.image()
        assert exported(disk) == (
            before,
            [
                "export: table seats: 320 rows",
                "export: table gone: 1 rows",
                "export: table empty: 0 rows",
            ],
        )
        del disk.named[FILE]
        assert disk.image() == image


def test_a_torn_tail_is_left_out_as_a_start_would() -> None:
    disk, engine = store()
    before = contents(engine)
    engine.insert(engine.table(b"seats"), 900, row(1))
    engine.wal.write()
    path = engine.wal.segments[-1][1]
    disk.damage(path, batch_offsets(bytes(disk.named[path].seen))[-2] + 50)
    assert exported(disk)[0] == before


def test_a_checkpoint_that_was_under_way_changes_nothing() -> None:
    """Some blocks are ahead of the CHECKPOINT, and of the posting lists."""
    disk, engine = store()
    before = contents(engine)
    checkpoint_file = bytes(disk.named[DIRECTORY / "CHECKPOINT"].seen)
    index = {path: disk.named[path] for path in disk.named if path.name.startswith("index-")}
    segments = dict(disk.named)
    checkpoint(engine)
    disk.named = {**segments, **disk.named, **index}
    disk.named[DIRECTORY / "CHECKPOINT"].seen[:] = checkpoint_file
    assert exported(disk)[0] == before


def test_a_damaged_block_is_left_out_and_its_rows_are_named() -> None:
    disk, engine = store()
    before = contents(engine)
    disk.unlink(DIRECTORY / "doublewrite")
    disk.damage(table_path(DIRECTORY, 1), 1 * fmt.BLOCK_BYTES + 100)
    found, said = exported(disk)
    lost = range(PER_BLOCK, 2 * PER_BLOCK)
    assert found[b"seats"] == {n: r for n, r in before[b"seats"].items() if n not in lost}
    assert found[b"gone"] == before[b"gone"]
    assert said[1] == (
        f"export: table seats: left out: block 1 (rows {lost.start}..{lost.stop - 1}) fails its checksum: "
        f"{PER_BLOCK} rows: {lost.start}..{lost.stop - 1}"
    )


def test_a_row_of_a_damaged_block_that_the_log_has_is_there() -> None:
    disk, engine = store()
    disk.unlink(DIRECTORY / "doublewrite")
    disk.damage(table_path(DIRECTORY, 1), 100)
    found, said = exported(disk)
    assert min(found[b"seats"]) == 5
    assert found[b"seats"][5] == contents(engine)[b"seats"][5]
    assert f"{PER_BLOCK - 1} rows: 0..4, 6..{PER_BLOCK - 1}" in said[1]


def test_a_damaged_block_is_taken_from_the_double_write_file() -> None:
    disk, engine = store()
    disk.damage(table_path(DIRECTORY, 1), 1 * fmt.BLOCK_BYTES + 100)
    found, said = exported(disk)
    assert found == contents(engine)
    assert not any("left out" in line for line in said)


def test_without_posting_lists_it_says_which_rows_there_may_have_been() -> None:
    disk, engine = store()
    disk.damage(table_path(DIRECTORY, 1), 1 * fmt.BLOCK_BYTES + 100)
    disk.unlink(DIRECTORY / "doublewrite")
    disk.unlink(DIRECTORY / engine.manifest.index_file)
    found, said = exported(disk)
    assert len(found[b"seats"]) == 320 - PER_BLOCK
    assert "whatever rows it had" in said[1]


def test_a_row_file_that_is_gone_is_said() -> None:
    disk, _ = store()
    disk.unlink(table_path(DIRECTORY, 1))
    found, said = exported(disk)
    assert len(found[b"seats"]) == 21
    assert said[1] == (
        "export: table seats: left out: their blocks are empty or missing: 299 rows: 0..4, 6..299"
    )


def test_a_damaged_batch_of_the_log_costs_what_is_in_it_alone() -> None:
    """The batch that made rows 70,000 to 70,019: the one behind it has row 70,001 whole."""
    disk, engine = store()
    before = contents(engine)
    path = engine.wal.segments[-1][1]
    offsets = batch_offsets(bytes(disk.named[path].seen))
    disk.damage(path, offsets[-3] + 60)
    with pytest.raises(Exception, match="is damaged or missing"):
        open_store(disk.crash())
    found, said = exported(disk)
    lost = {*range(70_000, 70_020)} - {70_001}
    assert found[b"seats"] == {n: r for n, r in before[b"seats"].items() if n not in lost}
    assert found.keys() == before.keys()
    assert said[0].startswith("export: left out of all tables: writes at positions ")
    assert path.name in said[0]


def test_a_damaged_batch_with_a_drop_and_a_create() -> None:
    disk, engine = store()
    engine.insert(engine.table(b"gone"), 4, row(4))
    engine.wal.commit()
    engine.insert(engine.table(b"seats"), 900, row(9))
    engine.wal.commit()
    path = engine.wal.segments[-1][1]
    disk.damage(path, batch_offsets(bytes(disk.named[path].seen))[-4] + 60)
    found, said = exported(disk)
    assert found[b"seats"][900] == row(9)
    assert found[b"gone"] == {}, "as it was before its KL.DROP"
    assert any("1 writes of table number 3: its KL.CREATE is lost" in line for line in said)


def test_a_table_whose_drop_is_lost_gives_way_to_the_next_of_its_name() -> None:
    disk, engine = store()
    engine.drop(b"seats")
    engine.wal.commit()
    engine.create(b"seats", schema(), False)
    engine.insert(engine.table(b"seats"), 1, row(77))
    engine.wal.commit()
    path = engine.wal.segments[-1][1]
    disk.damage(path, batch_offsets(bytes(disk.named[path].seen))[-3] + 60)
    assert exported(disk)[0][b"seats"] == {1: row(77)}


def test_segments_that_are_missing_or_damaged_are_passed_over() -> None:
    disk, engine = store()
    for number in range(1000, 1200):
        engine.insert(engine.table(b"seats"), number, row(1))
        engine.wal.commit()
    assert len(engine.wal.segments) > 10
    before = contents(engine)[b"seats"]
    disk.unlink(engine.wal.segments[4][1])
    disk.damage(engine.wal.segments[6][1], 20)
    found, said = exported(disk)
    lost = before.keys() - found[b"seats"].keys()
    assert 5 < len(lost) < 60
    assert found[b"seats"] == {n: r for n, r in before.items() if n not in lost}
    assert sum("left out of all tables" in line for line in said) >= 3


def test_without_a_log_the_rows_of_the_checkpoint_come() -> None:
    disk, _ = store()
    for path in [path for path in disk.named if path.suffix == ".wal"]:
        disk.unlink(path)
    found, said = exported(disk)
    assert len(found[b"seats"]) == 300
    assert "left out of all tables" in said[0]


def test_without_a_checkpoint_nothing_is_written() -> None:
    disk, _ = store()
    disk.damage(DIRECTORY / "CHECKPOINT", 40)
    found, said = exported(disk)
    assert (found, FILE in disk.named) == ({}, False)
    assert "nothing is written" in said[0]


@pytest.mark.parametrize("name", ["CHECKPOINT", "doublewrite", "index", "rows", "wal"])
def test_whatever_byte_is_damaged_it_comes_to_an_end(name: str) -> None:
    """And never shows a row that was not there."""
    disk, engine = store()
    before = contents(engine)
    older = contents_at_checkpoint(disk)
    path = next(path for path in disk.named if name in str(path))
    used = len(bytes(disk.named[path].seen[:9000]).rstrip(b"\0"))
    for offset in range(0, used, max(1, used // 40)):
        disk.damage(path, offset, 0x10)
        found, _ = exported(disk)
        for table, rows in found.items():
            for number, values in rows.items():
                assert values in (before.get(table, {}).get(number), older.get(table, {}).get(number)), offset
        disk.named.pop(FILE, None)
        disk.damage(path, offset, 0x10)


def contents_at_checkpoint(disk: FakeDisk) -> Contents:
    """The same store, as if nothing had been written since."""
    alone = disk.crash()
    for path in [path for path in alone.named if path.suffix == ".wal"]:
        alone.cut(path, fmt.SEGMENT_BYTES + 512)
    alone.make_directory(FILE.parent)
    found, _ = exported(alone)
    return found


# --- the program, and a stock client that loads what it wrote -----------------------------------------


def load(port: int, file: Path, redis_cli: str) -> None:
    with file.open("rb") as commands:
        done = subprocess.run(
            [redis_cli, "-p", str(port), "--pipe"],
            stdin=commands,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"errors: 0" in done.stdout


def everything(port: int) -> dict[bytes, list[object]]:
    with redis.Redis(port=port) as client:
        ask = client.execute_command
        return {
            name: [ask("KL.INFO", name)[b"schema"], ask("KL.SCAN", name, 0, "COUNT", 1000)[1]]
            for name in ask("KL.TABLES")
        }


def fill(port: int) -> None:
    with redis.Redis(port=port) as client:
        ask = client.execute_command
        ask(
            "KL.CREATE",
            "seats",
            "SCHEMA",
            "a",
            "U8",
            "INDEX",
            "b",
            "I64",
            "c",
            "BYTES",
            8,
            "INDEX",
            "d",
            "U64",
        )
        ask("KL.CREATE", "no-rows", "SCHEMA", "limits", "U32")
        for number in (0, 1, 2, 70_000, 2**32 - 1):
            ask("KL.INSERT", number, "a", 255, "b", -(2**63), "c", b"\r\n\0 $1", "d", 2**63 - 1)
        ask("KL.INSERT", 5, "a", 0)


def test_a_stock_client_loads_it_into_an_empty_server(
    start: Callable[..., Server],
    need: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    redis_cli = need("redis-cli")
    first = start()
    fill(first.port)
    before = everything(first.port)
    first.process.kill()
    first.process.wait()
    file = tmp_path / "rows.resp"
    assert main(["check", str(tmp_path / "data"), "--export", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "sound"
    other = start(directory=tmp_path / "other")
    load(other.port, file, redis_cli)
    assert everything(other.port) == before
    load(other.port, file, redis_cli)
    assert everything(other.port) == before, "loading it twice is harmless"
    assert other.stop() == 0
    assert main(["check", str(tmp_path / "other")]) == 0


def test_the_status_is_that_of_check_and_nothing_is_overwritten(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = start()
    fill(first.port)
    data, file = tmp_path / "data", tmp_path / "rows.resp"
    assert main(["check", str(data), "--export", str(file)]) == 2, "a server uses it"
    assert first.stop() == 0
    rows = data / "tables" / "1.rows"
    with rows.open("r+b") as damaged:
        damaged.seek(100)
        damaged.write(b"damage")
    shutil.copytree(data, tmp_path / "untouched")
    (data / "doublewrite").unlink()
    capsys.readouterr()
    assert main(["check", str(data), "--export", str(file)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "damaged"
    assert any("table seats: left out: block 0" in line for line in out)
    written = file.read_bytes()
    assert written.count(b"KL.INSERT") == 2
    assert main(["check", str(data), "--export", str(file)]) == 2
    assert main(["check", str(data), "--export", str(data / "new")]) == 2
    assert main(["check", str(data), "--export", str(tmp_path / "nowhere" / "rows.resp")]) == 2
    assert file.read_bytes() == written
    for path in ("CHECKPOINT", "tables/1.rows"):
        assert (data / path).read_bytes() == (tmp_path / "untouched" / path).read_bytes()
