"""`klani-resp check DIR --audit`: whatever is altered in the log that is kept is found, and where is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from klani_resp.__main__ import main
from storage import format as fmt
from storage.audit import Audit
from storage.backup import Backup
from storage.engine import Engine, EngineOptions
from storage.recovery import Opening
from storage.wal import Anchor
from tests.fake_disk import Crash, FakeDisk, File
from tests.store import DIRECTORY, Model, batch_offsets, checkpoint, open_store, row, schema
from tests.walk import Walk

OPTIONS = EngineOptions(segment_bytes=8192)
SEGMENTS = 5


class Shop:
    """A store that was killed, most of its log in the archive; `anchors` has each head that was shown."""

    def __init__(self) -> None:
        self.disk = FakeDisk()
        self.engine, _ = open_store(self.disk, OPTIONS)
        self.anchors = [self.engine.wal.anchor]
        self.engine.create(b"seats", schema(), False)
        while len(self.engine.wal.segments) < SEGMENTS:
            self._sell()
        checkpoint(self.engine)
        self.anchors.append(self.engine.wal.anchor)
        while len(self.engine.wal.segments) < 2:
            self._sell()
        self._sell()
        self.disk = self.disk.crash()

    def _sell(self) -> None:
        seats = self.engine.table(b"seats")
        self.engine.insert(seats, len(seats.rows.present), row(1, 2, b"abc"))
        self.engine.wal.commit()
        self.anchors.append(self.engine.wal.anchor)

    def paths(self) -> list[Path]:
        return sorted((p for p in self.disk.named if p.suffix == ".wal"), key=lambda path: path.name)

    def rewrite(self, path: Path, data: bytes) -> None:
        self.disk.named[path] = File(bytearray(data), bytearray(data))


def audited(disk: FakeDisk, *anchors: Anchor, directory: Path = DIRECTORY) -> tuple[list[str], list[str]]:
    """The troubles, and what was said beside them."""
    said: list[str] = []
    return list(Audit(disk, directory, anchors, said.append).troubles()), said


def forged(data: bytes, batch: int, at: int = 55) -> bytes:
    """One byte of a batch is another, and every checksum that depends on it was set right."""
    made, offsets = bytearray(data), batch_offsets(data)
    salt = fmt.SEGMENT.unpack_from(data)[4]
    made[offsets[batch] + at] ^= 1
    previous = 0 if not batch else fmt.BATCH.unpack_from(data, offsets[batch - 1])[6]
    for offset in offsets[batch:-1]:
        begin = offset + fmt.BATCH.size
        made[begin - 8 : begin - 4] = previous.to_bytes(4, "little")
        payload = bytes(made[begin : begin + fmt.BATCH.unpack_from(made, offset)[1]])
        previous = fmt.batch_crc(salt, bytes(made[offset:begin]), payload)
        made[begin - 4 : begin] = previous.to_bytes(4, "little")
    return bytes(made)


def test_an_unbroken_chain_is_proven() -> None:
    shop = Shop()
    troubles, said = audited(shop.disk, *shop.anchors)
    end = shop.anchors[-1]
    batches = len(shop.anchors) - 2  # one is there twice, one is that of the start
    assert troubles == []
    assert said[-2:] == [
        f"audit: positions 0..{end.position}: {batches + 1} batches in {SEGMENTS + 1} segments are one chain",
        f"audit: head {end.position}:{end.head.hex()}",
    ]
    assert len(said) - 2 == len(set(shop.anchors))
    engine, _ = open_store(shop.disk, OPTIONS)
    assert audited(shop.disk, *shop.anchors, engine.wal.anchor)[0] == []


@pytest.mark.parametrize("segment", range(SEGMENTS))
def test_a_forged_batch_is_found_though_all_checksums_are_right(segment: int) -> None:
    shop = Shop()
    path, following = shop.paths()[segment : segment + 2]
    data = bytes(shop.disk.named[path].seen)
    count = len(batch_offsets(data)) - 1
    for batch in {0, 1, count - 1}:
        shop.rewrite(path, forged(data, batch))
        troubles, said = audited(shop.disk)
        (trouble,) = troubles
        first, end = int(path.name[:16], 16), int(following.name[:16], 16)
        assert trouble.startswith(f"audit: {following}: offset 0: at position {end} the chain's head was ")
        assert f"{path}, offset 512, positions {first}..{end}: something was altered" in trouble
        assert [line.split(":")[1] for line in said if "one chain" in line] == [
            f" positions 0..{end}",
            f" positions {end}..{shop.anchors[-1].position}",
        ]


def test_a_forged_batch_of_the_last_segment_is_found_by_an_anchor() -> None:
    shop = Shop()
    path = shop.paths()[-1]
    shop.rewrite(path, forged(bytes(shop.disk.named[path].seen), 0))
    assert audited(shop.disk)[0] == [], "nothing in the directory says so"
    end = shop.anchors[-1]
    (trouble,) = audited(shop.disk, end)[0]
    assert f"{path}: offset" in trouble and f"at position {end.position} the chain's head is" in trouble
    assert audited(shop.disk, shop.anchors[3])[0] == [], "what is before it was not altered"


def test_all_of_the_log_written_anew_is_found_by_an_anchor() -> None:
    """Heads in the segments' headers set right, too: a log of a store that never was."""
    shop = Shop()
    head = fmt.CHAIN_START
    for number, path in enumerate(shop.paths()):
        data = bytes(shop.disk.named[path].seen)
        data = forged(data, 0) if number == 0 else data
        _, _, uuid, epoch, salt, first, _, _ = fmt.SEGMENT.unpack_from(data)
        header = fmt.encode_segment(uuid, epoch, salt, first, head)
        data = header + data[fmt.SEGMENT_BYTES :]
        shop.rewrite(path, data)
        for offset in batch_offsets(data)[:-1]:
            length = fmt.BATCH.unpack_from(data, offset)[1]
            begin = offset + fmt.BATCH.size
            head = fmt.chained(head, data[offset:begin], data[begin : begin + length])
    assert audited(shop.disk)[0] == []
    for anchor in shop.anchors[1:]:
        (trouble,) = audited(shop.disk, anchor)[0]
        assert "something was altered before it" in trouble


@pytest.mark.parametrize("field", [8, 16, 24, 32, 36, 45, 70])
def test_a_batch_that_was_altered_and_no_more(field: int) -> None:
    """Its own checksum, or that which the next one names, does not fit."""
    shop = Shop()
    path = shop.paths()[2]
    data = bytearray(shop.disk.named[path].seen)
    offset = batch_offsets(bytes(data))[1]
    position = fmt.BATCH.unpack_from(data, offset)[2]
    data[offset + field] ^= 4
    shop.rewrite(path, bytes(data))
    troubles, said = audited(shop.disk)
    assert troubles == [
        f"audit: {path}: offset {offset}: the batch at position {position} is altered or damaged"
    ]
    assert f"audit: positions 0..{position}: " in said[0]


def test_a_segment_that_is_missing_in_between() -> None:
    shop = Shop()
    before, gone, behind = shop.paths()[1:4]
    first, end = (int(path.name[:16], 16) for path in (gone, behind))
    del shop.disk.named[gone]
    (trouble,) = audited(shop.disk)[0]
    assert trouble.startswith(f"audit: {before}: offset ")
    assert trouble.endswith(f"the segment with positions {first}..{end} is missing")


def test_the_oldest_may_be_gone() -> None:
    shop = Shop()
    oldest, second = shop.paths()[:2]
    del shop.disk.named[oldest]
    troubles, said = audited(shop.disk)
    assert troubles == [] and f"positions {int(second.name[:16], 16)}.." in said[0]
    anchor = shop.anchors[1]
    (trouble,) = audited(shop.disk, anchor)[0]
    assert "no batch ends at that position in the log that is kept" in trouble


def test_a_header_that_was_altered() -> None:
    shop = Shop()
    path = shop.paths()[2]
    shop.disk.damage(path, 60)
    troubles, _ = audited(shop.disk)
    assert troubles == [f"audit: {path}: the segment header's checksum is wrong"]


def test_a_log_that_was_cut() -> None:
    shop = Shop()
    path = shop.paths()[-1]
    data = bytes(shop.disk.named[path].seen)
    offsets = batch_offsets(data)
    shop.rewrite(path, data[: offsets[-2]])
    assert audited(shop.disk)[0] == [], "as if it had never been written"
    (trouble,) = audited(shop.disk, shop.anchors[-1])[0]
    assert f"anchor {shop.anchors[-1].position}:" in trouble and "no batch ends" in trouble
    for gone in shop.paths()[-2:]:
        del shop.disk.named[gone]
    troubles, _ = audited(shop.disk)
    assert "but the log was durable up to position" in troubles[-1]


def test_anchors_between_two_batches_only() -> None:
    shop = Shop()
    end = shop.anchors[-1]
    troubles, _ = audited(shop.disk, Anchor(end.position - 1, end.head), Anchor(end.position + 1, end.head))
    assert len(troubles) == 2 and all("no batch ends at that position" in trouble for trouble in troubles)


@pytest.mark.parametrize("seed", range(40))
def test_lives_that_lose_power_stay_one_chain(seed: int) -> None:
    """Archive and log, after crashes at any call, in starts too; and every head that was shown is on it."""
    chance = random.Random(f"audit/{seed}")
    disk, anchors = FakeDisk(), list[Anchor]()
    for _ in range(4):
        disk.fail(chance.randrange(30, 250))
        with pytest.raises(Crash):
            Noting(disk, chance, anchors).run()
        disk = disk.crash(chance)
        if DIRECTORY / "CHECKPOINT" in disk.named and anchors:
            print(f"replay: seed {seed}, after {disk.log[-1:]}")
            assert audited(disk, *anchors)[0] == []
    engine, _ = open_store(disk)
    assert audited(disk, *anchors, engine.wal.anchor)[0] == []


class Noting(Walk):
    """Notes what INFO could show, and follows no model: tests/test_lives.py does."""

    def __init__(self, disk: FakeDisk, chance: random.Random, anchors: list[Anchor]) -> None:
        super().__init__(disk, chance, Model())
        self._anchors = anchors

    def open(self) -> None:
        self.engine, _ = open_store(self._disk, self._options)

    def commit(self) -> None:
        super().commit()
        self._anchors.append(self.engine.wal.anchor)


def test_a_backup_begins_a_chain_of_its_own() -> None:
    shop = Shop()
    engine, _ = open_store(shop.disk, OPTIONS)
    backup = Backup(engine, Path("backups"), "monday")
    backup.start()
    engine.wal.commit()
    backup.finish(backup.run())
    copy = Path("backups") / "monday"
    assert not shop.disk.exists(copy / "archive")
    for _ in range(2):
        troubles, said = audited(shop.disk, directory=copy)
        assert troubles == [] and f"positions {backup.position}.." in said[0]
        opening = Opening(copy, OPTIONS, shop.disk)
        for _ in opening:
            pass
        opening.engine.close()


# --- the command --------------------------------------------------------------------------------------


def on_disk(shop: Shop, directory: Path) -> Path:
    for path, data in shop.disk.image().items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return directory / DIRECTORY


def test_the_command_proves_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop()
    directory = on_disk(shop, tmp_path)
    anchors = [f"{anchor.position}:{anchor.head.hex()}" for anchor in shop.anchors[3:5]]
    assert main(["check", str(directory)]) == 0
    assert "audit" not in capsys.readouterr().out
    assert main(["check", str(directory), "--audit", "--anchor", *anchors]) == 0
    said = capsys.readouterr().out
    assert said.count("lies on the chain") == 2 and said.endswith("sound\n")
    assert main(["check", "--anchor", anchors[0], "--anchor", anchors[1], "--", str(directory)]) == 0
    path = directory / shop.paths()[1].relative_to(DIRECTORY)
    path.write_bytes(forged(path.read_bytes(), 1))
    assert main(["check", str(directory)]) == 0, "nothing that a start would read"
    assert main(["check", str(directory), "--audit"]) == 1
    said = capsys.readouterr().out
    assert "DAMAGED audit: " in said and "something was altered" in said and said.endswith("damaged\n")


@pytest.mark.parametrize(
    "text", ["5", "5:", f"x:{64 * '0'}", f"5:{63 * '0'}", f"5:{63 * '0'}x", f"-5:{64 * '0'}"]
)
def test_anchors_of_another_form_are_usage_errors(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "somewhere", "--audit", f"--anchor={text}"])
    assert caught.value.code == 2
    assert "POSITION:HEX" in capsys.readouterr().err


def test_a_store_without_an_archive_is_proven_as_far_as_its_log_goes() -> None:
    disk = FakeDisk()
    engine: Engine
    engine, _ = open_store(disk, EngineOptions(segment_bytes=4096, history_bytes_max=0))
    engine.create(b"seats", schema(), False)
    for number in range(40):
        engine.insert(engine.table(b"seats"), number, row(1))
        engine.wal.commit()
    checkpoint(engine)
    troubles, said = audited(disk.crash(), engine.wal.anchor)
    assert troubles == [] and f"positions {engine.wal.segments[0][0]}.." in said[1]
