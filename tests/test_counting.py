"""Counting from disk: many rows at once says what row by row says, here or in a process of its own."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from pyroaring import BitMap

from storage import counting_process, scan
from storage.counting import Counted, Counting, CountingError, InPlace, Question
from storage.counting_process import Beside, ChildProcess, counting_beside
from storage.engine import Engine
from storage.fs import OsFs
from storage.manifest import Manifest
from storage.recovery import Opening
from storage.scan import Needle, RowFile
from storage.schema import Schema, Value
from storage.verify import Verdict, Verification
from tests.fake_disk import FakeDisk
from tests.store import DIRECTORY, OPTIONS, FakeClock, checkpoint, contents, open_store, row, schema

# Ids on both sides of the ends of blocks, of directories and of the whole range.
IDS = [*range(300), *range(600, 620), *range(65_000, 66_000), 131_071, 131_072, (1 << 32) - 1]
SCHEMAS: dict[str, tuple[list[list[object]], list[Value]]] = {
    "U8": ([["x", "U8", 1]], [0, 1, 255]),
    "U64": ([["y", "U8", 0], ["x", "U64", 1]], [0, 1, 256, 1 << 62]),
    "I64": ([["x", "I64", 1], ["y", "U16", 0]], [0, -1, 1, -(1 << 63)]),
    "BYTES": ([["y", "BYTES 3", 0], ["x", "BYTES 9", 1]], [b"", b"a", b"a\0", b"ab", b"123456789"]),
    "BYTES, one row per block": ([["x", "BYTES 4000", 1]], [b"", b"a" * 3999, b"a" * 4000]),
}


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("step_blocks", [1, 3, 128])
def test_masks_say_what_the_rows_say(name: str, step_blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_STEP_BLOCKS", step_blocks)
    fields, values = SCHEMAS[name]
    ids = IDS if "one row" not in name else IDS[:500]
    chance = random.Random(name)
    disk = FakeDisk()
    engine, _ = open_store(disk)
    engine.create(b"t", Schema.from_description(fields), False)
    table = engine.table(b"t")
    for number in ids:
        engine.token += chance.choice((0, 0, 1 << 8, 1 << 16))  # tokens whose lowest bytes are 0, too
        engine.insert(table, number, {b"x": chance.choice(values)})
    checkpoint(engine)
    assert any(token & 0xFF == 0 for token, *_ in filter(None, map(table.rows.read, ids)))
    state = Manifest.load(disk, DIRECTORY).tables[0]
    for value in values:
        present, having = BitMap(), BitMap()
        for step in RowFile(disk, DIRECTORY, state).steps():
            there = step.present()
            present |= step.ids(there)
            having |= step.ids(there & step.having(Needle.of(table.schema, b"x", value)))
            assert step.corrupt == []
        assert list(present) == ids
        assert list(having) == [
            number for number, held in contents(engine)[b"t"].items() if held[b"x"] == value
        ]


# --- in a process of its own --------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """On real files: 400 rows in their places, and 20 more in the log alone; state 1 has 105 of them."""
    opening = Opening(tmp_path / "a store", OPTIONS, clock=FakeClock())
    list(opening)
    engine = opening.engine
    engine.create(b"seats", schema(), False)
    table = engine.table(b"seats")
    for number in range(400):
        engine.insert(table, number, row(number % 4, note=b"odd" if number % 2 else b""))
    checkpoint(engine)
    for number in range(400, 420):
        engine.insert(table, number, row(number % 4))
    engine.wal.commit()
    return engine


def question(engine: Engine, name: bytes = b"state", value: Value = 1) -> Question:
    table = engine.table(b"seats")
    return Question(
        directory=engine.directory,
        table=table.number,
        schema=table.schema.describe(),
        name=name,
        value=value,
        position=engine.wal.appended,
        log_bytes=engine.wal.disk_bytes,
    )


def test_the_process_counts_as_this_one_does(engine: Engine) -> None:
    child = ChildProcess()
    try:
        for name, value in ((b"state", 1), (b"note", b"odd"), (b"note", b"o"), (b"row", 0)):
            asked = question(engine, name, value)
            assert child.from_log(asked) == InPlace(OsFs()).from_log(asked)
            assert child.from_rows(asked) == InPlace(OsFs()).from_rows(asked)
        assert child.from_log(question(engine)) == Counted(400, BitMap(range(1, 420, 4))).sum()
    finally:
        child.close()
    engine.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_set_has_one_digest_however_it_was_put_together(seed: int) -> None:
    chance = random.Random(seed)
    ids = set(range(chance.randrange(200_000))) | {chance.randrange(1 << 32) for _ in range(2000)}
    once, bit_by_bit = BitMap(ids), BitMap(range(1 << 18))
    bit_by_bit.run_optimize()
    bit_by_bit -= BitMap(range(1 << 18)) - once
    for number in chance.sample(sorted(ids), len(ids)):
        bit_by_bit.add(number)
    first = Counted(0, once).sum()
    assert Counted(0, bit_by_bit).sum() == first
    in_runs = BitMap(ids)
    in_runs.run_optimize()
    assert Counted(0, in_runs).sum() == first
    bit_by_bit.discard(chance.choice(sorted(ids)))
    assert Counted(0, bit_by_bit).sum().digest != first.digest


@pytest.mark.parametrize("runs", range(1, 6))
def test_the_digest_of_a_set_that_takes_as_much_in_runs_as_in_ids(runs: int) -> None:
    """Its compressed form stays whichever it was: a sale's last seats were counted as other ones."""
    ids = [*range(runs + 2), *range(100, 100 + 2 * (runs - 1), 2)]  # 2 x runs + 1 ids
    from_range = BitMap(range(1000))
    from_range.run_optimize()
    from_range &= BitMap(ids)
    one_by_one = BitMap()
    for number in ids:
        one_by_one.add(number)
    whole = BitMap(range(ids[0], ids[-1] + 1))
    whole.run_optimize()
    for number in set(whole) - set(ids):
        whole.discard(number)
    sums = [Counted(0, rows).sum() for rows in (BitMap(ids), from_range, one_by_one, whole)]
    assert [one.digest for one in sums] == [sums[0].digest] * 4


def test_what_a_process_cannot_see_is_counted_in_place() -> None:
    assert isinstance(counting_beside(FakeDisk()), InPlace)


def verify(engine: Engine, counting: Counting) -> Verdict:
    asked = Verification(engine, engine.table(b"seats"), b"state", 1, counting)
    asked.start()
    engine.wal.commit()
    return asked.finish(asked.run())


@pytest.mark.parametrize("rest", [0, -1], ids=["small", "large"])
def test_what_is_large_is_counted_by_a_process(
    engine: Engine, rest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows, its index, and the log: what is small there may be many batches, each padded to a sector."""
    files = [engine.directory / "tables" / "1.rows", engine.directory / engine.manifest.index_file]
    for number in range(1000, 1020):
        engine.insert(engine.table(b"seats"), number, row(1))
        engine.wal.commit()
    assert engine.wal.disk_bytes >= 20 * 512
    size = sum(file.stat().st_size for file in files) + engine.wal.disk_bytes
    monkeypatch.setattr(counting_process, "IN_PLACE_BYTES_MAX", size + rest)
    counting = counting_beside(engine.fs)
    assert isinstance(counting, Beside)
    assert verify(engine, counting) == Verdict(440, 125, 125, 125, 0, True)
    assert isinstance(counting._chosen, ChildProcess if rest else InPlace)
    engine.close()


ANSWER = '{"rows": 1, "corrupt": [], "is_whole": true, "matc'


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), "its process ended with status 3"),
        ((sys.executable, "-c", "input()"), "its process ended with status 0"),
        (
            (sys.executable, "-c", f"input(); print({ANSWER!r}, end='', flush=True)"),
            "its process ended with status",
        ),
        ((sys.executable, "-c", 'print(\'{"error": "no luck"}\', flush=True); input()'), "no luck"),
        (("./no such program",), "No such file or directory"),
    ],
    ids=["ends at once", "ends without an answer", "ends within it", "refuses", "does not start"],
)
def test_a_process_that_fails_costs_the_answer_only(
    engine: Engine, command: tuple[str, ...], reason: str
) -> None:
    """The checkpoint that was begun is made, and the next question finds the store as it should be."""
    appended, checkpoints = engine.wal.appended, engine.checkpoints
    with pytest.raises(CountingError, match=reason) as caught:
        verify(engine, ChildProcess(command))
    assert caught.value.text.startswith("ERR KL.VERIFY could not count: ")
    assert (engine.checkpoint_position, engine.checkpoints) == (appended, checkpoints + 1)
    assert verify(engine, counting_beside(engine.fs)).ok
    engine.close()


def test_the_process_says_what_it_could_not_read(engine: Engine) -> None:
    path = engine.directory / "CHECKPOINT"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    child = ChildProcess()
    try:
        with pytest.raises(CountingError, match=r"CHECKPOINT: checksum is"):
            child.from_rows(question(engine))
        path.write_bytes(whole)
        assert child.from_rows(question(engine)).rows == 400, "and lives on"
    finally:
        child.close()
    engine.close()


def test_it_ends_with_its_input() -> None:
    child = subprocess.Popen(
        counting_process._COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    answers, _ = child.communicate(timeout=30)
    assert (child.returncode, answers) == (0, b"")
