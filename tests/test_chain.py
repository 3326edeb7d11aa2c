"""The chain of hashes over the log's batches: what is shown of it stays on it, whatever a crash does."""

from __future__ import annotations

import random
import struct
from hashlib import sha256
from pathlib import Path

import pytest

from klani_resp.committer import Committer
from storage.engine import EngineOptions
from storage.syncer import ThreadSyncer
from storage.wal import Anchor, Wal
from tests.fake_disk import Crash, FakeDisk
from tests.store import Model, open_store, row, schema
from tests.walk import Walk

OPTIONS = EngineOptions(segment_bytes=2048)


def heads(disk: FakeDisk) -> dict[int, bytes]:
    """Position -> head behind the batch that ends there, by hand: no code of ours computes it."""
    found: dict[int, bytes] = {}
    latest: dict[int, tuple[int, Path]] = {}
    for path in disk.named:
        if path.suffix == ".wal":
            first, epoch = (int(part, 16) for part in path.stem.split("-"))
            latest[first] = max(latest.get(first, (0, path)), (epoch, path))
    firsts = sorted(latest)
    for number, first in enumerate(firsts):
        data = bytes(disk.named[latest[first][1]].seen)
        head, position, offset = data[52:84], first, 512
        assert found.setdefault(first, head) == head, "a segment begins with the head of what was before it"
        stop = firsts[number + 1] if number + 1 < len(firsts) else 1 << 63
        while position < stop and data[offset : offset + 4] == b"LKCT":
            length, at = struct.unpack_from("<IQ", data, offset + 4)
            assert at == position
            payload = data[offset + 40 : offset + 40 + length]
            head = sha256(head + data[offset : offset + 32] + payload).digest()
            position += length
            found[position] = head
            offset += -(-(40 + length) // 512) * 512
    return found


def test_each_commit_is_a_link() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, OPTIONS)
    wal = engine.wal
    engine.create(b"seats", schema(), False)
    seen = [wal.anchor]
    for number in range(60):
        engine.insert(engine.table(b"seats"), number, row(1))
        wal.commit()
        seen.append(wal.anchor)
    assert len(wal.segments) > 3 and len(set(seen)) == 61
    found = heads(disk)
    assert min(found) == 0 and found[0] == bytes(32)
    assert all(found[anchor.position] == anchor.head for anchor in seen)
    assert seen[-1].position == wal.durable


def test_what_is_not_durable_is_not_shown() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=1 << 16, appendfsync="no"))
    wal, shown = engine.wal, engine.wal.anchor
    for name in (b"a", b"b", b"c"):
        engine.create(name, schema(), False)
        wal.commit()
        assert wal.anchor == shown and wal.written > shown.position
    wal.sync()
    assert wal.anchor == Anchor(wal.written, heads(disk)[wal.written]) != shown


def test_the_committer_chains_while_the_sync_is_under_way() -> None:
    disk = FakeDisk()
    engine, _ = open_store(disk, EngineOptions(segment_bytes=1 << 16))
    syncer = ThreadSyncer(disk)
    committer = Committer(engine.wal, syncer, always=True, roll=lambda: None, prepare=lambda: None)
    chained: list[int] = []
    plain = Wal.chain

    def chain(wal: Wal) -> None:
        chained.append(wal.written)
        plain(wal)

    before = engine.wal.anchor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wal, "chain", chain)
        engine.create(b"a", schema(), False)
        committer.wake()
        assert chained == [engine.wal.written] and engine.wal.anchor == before
        committer.sync_ended()
    assert engine.wal.anchor == Anchor(engine.wal.durable, heads(disk)[engine.wal.durable])
    committer.stop()


def test_a_head_that_was_shown_stays_though_its_batch_is_written_again() -> None:
    """The last batches are durable, but nothing on disk says so: each start carries them over."""
    disk = FakeDisk()
    engine, _ = open_store(disk)
    for name in (b"a", b"b"):
        engine.create(name, schema(), False)
        engine.wal.commit()
    shown = engine.wal.anchor
    for _ in range(3):
        disk = disk.crash()
        engine, _ = open_store(disk)
        assert heads(disk)[shown.position] == shown.head
        assert heads(disk)[engine.wal.durable] == engine.wal.anchor.head


def test_a_batch_that_is_written_again_keeps_its_time() -> None:
    disk = FakeDisk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time_ns", lambda: 1_000_000_000_000)
        engine, _ = open_store(disk)
        engine.create(b"a", schema(), False)
        engine.wal.commit()
    disk = disk.crash()
    engine, _ = open_store(disk)
    data = bytes(disk.named[engine.wal.segments[-1][1]].seen)
    assert struct.unpack_from("<Q", data, 512 + 24)[0] == 1_000_000


@pytest.mark.parametrize("seed", range(60))
def test_lives_that_lose_power_keep_every_head_that_they_showed(seed: int) -> None:
    """Whatever is lost, torn or garbled of what was not synced, in starts too."""
    chance = random.Random(f"chain/{seed}")
    disk, shown = FakeDisk(), dict[int, bytes]()
    for _ in range(5):
        disk.fail(chance.randrange(20, 200))
        walk = Watched(disk, chance, shown)
        with pytest.raises(Crash):
            walk.run()
        disk = disk.crash(chance)
        found = heads(disk)
        for position, head in shown.items():
            assert position < min(found, default=0) or found[position] == head


class Watched(Walk):
    """Notes what INFO could show, and follows no model: tests/test_lives.py does."""

    def __init__(self, disk: FakeDisk, chance: random.Random, shown: dict[int, bytes]) -> None:
        super().__init__(disk, chance, Model(), chance.choice(("always", "no")))
        self._shown = shown

    def open(self) -> None:
        self.engine, _ = open_store(self._disk, self._options)
        self._note()

    def commit(self) -> None:
        super().commit()
        self._note()

    def checkpoint(self) -> None:
        super().checkpoint()
        self._note()

    def _note(self) -> None:
        anchor = self.engine.wal.anchor
        known = self._shown.setdefault(anchor.position, anchor.head)
        assert known == anchor.head
