"""Leases by a clock that steps, stands still and jumps: judged exactly, one ns to either side of their end.

The model here is exact, for the clock stands still while a command runs. The wall clock steps by years in
both directions beside it, and must not matter.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis
import pytest

from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.transport import Transport
from storage import locks
from storage.table import Table
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.proof import scaled, share
from tests.sim.commands import (
    DEFAULT_LEASE_MS,
    EMPTY,
    SCHEMA,
    TABLE,
    Command,
    Insert,
    Replace,
    TryLock,
    Unlock,
    plain,
    request,
)
from tests.store import FakeClock, open_store

SEEDS = scaled(500, 5_000)
PARTS = 5
STEPS = 60
MS = 1_000_000
LEASES_MS = (1, 2, None, 999, 86_399_999, 86_400_000)
ROWS = (1, 2, 3)
YEAR_NS = 365 * 86_400 * 1_000_000_000

pytestmark = pytest.mark.proof


@dataclass(eq=False)
class Held:
    token: int
    owner: bytes | None
    rows: list[int]
    deadline: int


class Till:
    """One session on a store of its own, and what each of its answers has to be."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"leases {seed}")
        self.clock = FakeClock()
        app = App(CONFIG)
        engine, _ = open_store(FakeDisk(), clock=self.clock)
        app.opened(engine, InlineCommitter(engine.wal, app.release))
        self._session = app.open_session(Transport("", ""))
        self._session.receive(frame(b"KL.CREATE", TABLE, b"SCHEMA", *SCHEMA))
        self.held: dict[int, Held] = {}
        self.past: list[Held] = []
        self.written = dict.fromkeys(ROWS, 0)
        self.token = 0
        for row in ROWS:
            assert self.ask(Insert(row, EMPTY)) == 1

    def ask(self, command: Command) -> Any:
        reader = hiredis.Reader()
        reader.feed(self._session.receive(request(command)))
        return plain(command, reader.gets())

    def live(self, row: int) -> Held | None:
        held = self.held.get(row)
        return None if held is None or held.deadline <= self.clock.now else held

    # --- steps ----------------------------------------------------------------------------------------

    def step(self) -> None:
        self.random.choice((self.lock, self.lock, self.resend, self.write, self.unlock, self.list_locks))()
        self.move_clock()

    def move_clock(self) -> None:
        """To the end of a lease, one ns before or behind it; by an odd step; by a suspend; or not at all."""
        random, clock = self.random, self.clock
        ends = sorted({held.deadline for held in self.held.values() if held.deadline > clock.now})
        kind = random.random()
        if ends and kind < 0.5:
            clock.now = max(clock.now, random.choice(ends) + random.choice((-1, 0, 1)))
        elif kind < 0.6:
            clock.now += random.randrange(3 * MS)
        elif kind < 0.65:
            clock.now += random.randrange(3 * 86_400_000) * MS

    def lock(self) -> None:
        rows = tuple(self.random.sample(ROWS, self.random.choice((1, 1, 2))))
        owner = b"%d" % self.random.getrandbits(40) if self.random.random() < 0.6 else None
        ms = self.random.choice(LEASES_MS)
        answer = self.ask(TryLock(rows, ms, owner))
        if any(self.live(row) for row in rows):
            assert answer is None
            return
        self.token_rises(answer)
        held = Held(answer, owner, list(rows), self.deadline(ms))
        self.past = [*self.past[-5:], held]
        for row in rows:
            self.held[row] = held

    def token_rises(self, answer: Any) -> None:
        assert isinstance(answer, int), "refused, though all is free"
        assert answer > self.token
        self.token = answer

    def deadline(self, ms: int | None) -> int:
        return self.clock.now + (DEFAULT_LEASE_MS if ms is None else ms) * MS

    def resend(self) -> None:
        """The same owner on the same rows: its lease begins again, or it is an attempt like another."""
        known = [held for held in self.past if held.owner is not None and held.rows]
        if not known:
            return
        old, ms = self.random.choice(known), self.random.choice(LEASES_MS)
        answer = self.ask(TryLock(tuple(old.rows), ms, old.owner))
        held = self.live(old.rows[0])
        if held is not None and held.owner == old.owner and set(held.rows) == set(old.rows):
            assert answer == held.token
            held.deadline = self.deadline(ms)
        elif any(self.live(row) for row in old.rows):
            assert answer is None
        else:
            self.token_rises(answer)
            held = Held(answer, old.owner, list(old.rows), self.deadline(ms))
            self.past.append(held)
            for row in held.rows:
                self.held[row] = held

    def write(self) -> None:
        if not self.past:
            return
        old, row = self.random.choice(self.past), self.random.choice(ROWS)
        unlock = self.random.random() < 0.3
        answer = self.ask(Replace(row, old.token, (1, old.token, 0, b""), unlock))
        if self.live(row) is old:
            assert answer == "OK"
            self.written[row] = old.token
            if unlock:
                self.release(row, old)
        else:
            assert answer == ("OK" if self.written[row] == old.token else "NOLOCK")

    def unlock(self) -> None:
        if self.past:
            old = self.random.choice(self.past)
            mine = [row for row in ROWS if self.live(row) is old]
            assert self.ask(Unlock(ROWS, old.token)) == len(mine)
            for row in mine:
                self.release(row, old)

    def release(self, row: int, held: Held) -> None:
        del self.held[row]
        held.rows.remove(row)

    def list_locks(self) -> None:
        reader = hiredis.Reader()
        reader.feed(self._session.receive(frame(b"KL.LOCKS", TABLE)))
        answer = reader.gets()
        shown = [(row, token, owner) for row, token, owner, _ in answer]
        live = [(row, held) for row in ROWS if (held := self.live(row)) is not None]
        assert shown == [(row, held.token, held.owner) for row, held in live]
        for (_, held), (_, _, _, left) in zip(live, answer, strict=True):
            assert abs(left * MS - (held.deadline - self.clock.now)) <= MS


CONFIG = Config()


def play(seed: int, patch: pytest.MonkeyPatch) -> None:
    wall = random.Random(f"wall {seed}")
    patch.setattr(time, "time_ns", lambda: 50 * YEAR_NS + wall.randrange(-49 * YEAR_NS, 49 * YEAR_NS))
    till = Till(seed)
    for step in range(STEPS):
        try:
            till.step()
        except AssertionError as error:
            raise AssertionError(f"step {step}; replay: play({seed}, monkeypatch): {error}") from error


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(3600)
def test_leases_end_exactly(
    part: int, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str, int], None]
) -> None:
    for seed in share(SEEDS, part, PARTS):
        play(seed, monkeypatch)
        figure("A10 seeds, leases and a clock that jumps", 1)


def _one_ns_late(table: Table, row: int, now: int) -> bool:
    lease = table.leases.get(row)
    return lease is None or lease.deadline < now


def _one_ns_early(table: Table, row: int, now: int) -> bool:
    lease = table.leases.get(row)
    return lease is None or lease.deadline <= now + 1


@pytest.mark.parametrize("is_free", [_one_ns_late, _one_ns_early])
def test_one_ns_is_noticed(is_free: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "is_free", is_free)
    with pytest.raises(AssertionError, match=r"replay: play\(\d"):
        for seed in range(20):
            play(seed, monkeypatch)


@pytest.mark.parametrize(("ms", "text"), [(0, "ERR"), (86_400_001, "ERR"), (-1, "ERR")])
def test_leases_beyond_the_limits_are_refused(ms: int, text: str) -> None:
    till = Till(0)
    assert till.ask(TryLock((1,), ms)) == text
    assert isinstance(till.ask(TryLock((1,), 86_400_000)), int), "and nothing is locked"
