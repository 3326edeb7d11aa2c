"""Leases by a clock that passes when told: resent attempts, partial unlocks, ends to the millisecond."""

from __future__ import annotations

import random

import pytest

from storage import locks
from storage.engine import Engine
from storage.errors import StoreError
from tests.fake_disk import FakeDisk
from tests.store import FakeClock, open_store, row, schema


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine(clock: FakeClock) -> Engine:
    engine, _ = open_store(FakeDisk(), clock=clock)
    engine.create(b"seats", schema(), False)
    for number in range(4):
        engine.insert(engine.table(b"seats"), number, row(1))
    return engine


def lock(engine: Engine, *rows: int, ms: int | None = None, owner: bytes | None = None) -> int | None:
    table = engine.table(b"seats")
    return engine.try_lock(tuple((table, number) for number in rows), ms, owner)


def unlock(engine: Engine, token: int, *rows: int) -> int:
    table = engine.table(b"seats")
    return engine.unlock([(table, number) for number in rows], token)


def test_all_keys_or_none(engine: Engine) -> None:
    first = lock(engine, 1)
    assert first is not None
    assert lock(engine, 0, 1) is None
    second = lock(engine, 0)
    assert second is not None
    assert second > first


def test_absent_row(engine: Engine) -> None:
    with pytest.raises(StoreError, match="NOROW no row seats:9"):
        lock(engine, 0, 9)
    assert lock(engine, 0) is not None


def test_resent_attempt_gets_the_same_token_and_a_fresh_lease(engine: Engine, clock: FakeClock) -> None:
    token = lock(engine, 0, 1, ms=100, owner=b"a")
    clock.pass_ms(99)
    assert lock(engine, 1, 0, ms=100, owner=b"a") == token
    clock.pass_ms(99)
    assert lock(engine, 0, owner=b"b") is None
    assert lock(engine, 0, owner=b"a") is None, "another set that overlaps its own lock"
    assert lock(engine, 0, 1, 2, owner=b"a") is None
    clock.pass_ms(1)
    fresh = lock(engine, 0, 1, owner=b"a")
    assert fresh is not None
    assert token is not None
    assert fresh > token


def test_without_owner_each_call_is_an_attempt_of_its_own(engine: Engine) -> None:
    assert lock(engine, 0) is not None
    assert lock(engine, 0) is None


def test_key_given_twice_counts_once(engine: Engine) -> None:
    token = lock(engine, 2, 2, 3, owner=b"a")
    assert token is not None
    assert lock(engine, 3, 2, owner=b"a") == token
    assert unlock(engine, token, 2, 2) == 1


def test_partial_unlock_leaves_the_others(engine: Engine) -> None:
    token = lock(engine, 0, 1, 2, owner=b"a")
    assert token is not None
    assert unlock(engine, token, 1) == 1
    assert unlock(engine, token + 1, 0) == 0
    assert lock(engine, 0) is None
    assert lock(engine, 0, 1, 2, owner=b"a") is None, "it does not hold exactly these any more"
    assert lock(engine, 0, 2, owner=b"a") == token
    assert lock(engine, 1) is not None
    assert unlock(engine, token, 0, 1, 2) == 2


@pytest.mark.parametrize("ms", [1, 2, 10_000, locks.LEASE_MS_MAX])
def test_lease_ends_to_the_nanosecond(engine: Engine, clock: FakeClock, ms: int) -> None:
    token = lock(engine, 0, ms=ms)
    assert token is not None
    table = engine.table(b"seats")
    clock.pass_ms(ms)
    clock.now -= 1
    assert lock(engine, 0) is None
    engine.replace(table, 0, token, {b"state": 2}, False)
    clock.now += 1
    with pytest.raises(StoreError, match="NOLOCK"):
        engine.replace(table, 0, token, {b"state": 3}, False)
    assert unlock(engine, token, 0) == 0
    assert list(locks.live(table, clock())) == []
    assert lock(engine, 0) is not None


def test_lease_without_time_passing_holds(engine: Engine, clock: FakeClock) -> None:
    token = lock(engine, 0, ms=1)
    assert token is not None
    assert [row for row, _ in locks.live(engine.table(b"seats"), clock())] == [0]
    assert unlock(engine, token, 0) == 1


def test_default_lease_is_the_option(engine: Engine, clock: FakeClock) -> None:
    lock(engine, 0)
    clock.pass_ms(engine.options.lease_ms - 1)
    assert lock(engine, 0) is None
    clock.pass_ms(1)
    assert lock(engine, 0) is not None


def test_replace_resent_after_unlock_is_ok_and_writes_nothing(engine: Engine) -> None:
    table = engine.table(b"seats")
    token = lock(engine, 0)
    assert token is not None
    engine.replace(table, 0, token, {b"state": 9}, True)
    appended = engine.appended
    engine.replace(table, 0, token, {b"state": 9}, True)
    assert engine.appended == appended
    with pytest.raises(StoreError, match="NOLOCK"):
        engine.replace(table, 0, token, {b"state": 8}, True)
    later = lock(engine, 0)
    assert later is not None
    engine.replace(table, 0, later, {b"row": 5}, True)
    with pytest.raises(StoreError, match="NOLOCK"):
        engine.replace(table, 0, token, {b"state": 9}, False)


def test_drop_ends_the_locks_of_its_table_alone(engine: Engine) -> None:
    engine.create(b"other", schema(), False)
    seats, other = engine.table(b"seats"), engine.table(b"other")
    engine.insert(other, 0, row(1))
    token = engine.try_lock(((seats, 0), (other, 0)), None, b"a")
    assert token is not None
    engine.drop(b"seats")
    assert engine.try_lock(((other, 0),), None, None) is None
    assert engine.unlock([(other, 0)], token) == 1


@pytest.fixture
def swept_early(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(locks, "SWEEP_FROM", 8)
    return 8


def test_leases_that_nobody_ends_do_not_pile_up(engine: Engine, clock: FakeClock, swept_early: int) -> None:
    """Ten are live at any time, among them one that is extended again and again, and one for a day."""
    table = engine.table(b"seats")
    for number in range(4, 5000):
        engine.insert(table, number, row(1))
    extended = lock(engine, 0, ms=8, owner=b"a")
    for_a_day = lock(engine, 1, ms=locks.LEASE_MS_MAX)
    most = 0
    for number in range(2, 5000):
        assert lock(engine, number, ms=8) is not None
        clock.pass_ms(1)
        assert lock(engine, 0, ms=8, owner=b"a") == extended
        most = max(most, len(table.leases))
    assert most <= 3 * 10
    assert for_a_day is not None
    assert unlock(engine, for_a_day, 1) == 1
    assert len(table.unswept) <= most


def test_a_rush_is_forgotten_while_others_lock(engine: Engine, clock: FakeClock, swept_early: int) -> None:
    table = engine.table(b"seats")
    for number in range(4, 4000):
        engine.insert(table, number, row(1))
    assert lock(engine, *range(4, 4000), ms=5) is not None
    room = table.leases.__sizeof__()
    clock.pass_ms(5)
    for _ in range(4000):
        token = lock(engine, 0)
        assert token is not None
        assert unlock(engine, token, 0) == 1
    assert len(table.leases) <= swept_early
    lock(engine, 0, 1, 2, 3, *range(10, 20))
    assert table.leases.__sizeof__() < room / 10


def test_counting_what_is_free_forgets_what_has_ended(engine: Engine, clock: FakeClock) -> None:
    table = engine.table(b"seats")
    lock(engine, 1, ms=5)
    lock(engine, 2, ms=6)
    clock.pass_ms(5)
    assert engine.count(table, {b"state": 1}, True) == 3
    assert list(table.leases) == [2]


def test_sweeping_changes_no_answer(engine: Engine, clock: FakeClock, swept_early: int) -> None:
    """Against a model that only knows when each row's lock ends."""
    chance = random.Random(20261123)
    table = engine.table(b"seats")
    for number in range(4, 60):
        engine.insert(table, number, row(1))
    ends: dict[int, int] = {}
    for _ in range(5000):
        rows, ms = chance.sample(range(60), chance.randint(1, 3)), chance.randint(1, 40)
        is_free = all(ends.get(number, 0) <= clock.now for number in rows)
        token = lock(engine, *rows, ms=ms)
        assert (token is not None) == is_free
        if token is not None:
            ends |= dict.fromkeys(rows, clock.now + ms * 1_000_000)
            if chance.random() < 0.3:
                assert unlock(engine, token, rows[0]) == 1
                del ends[rows[0]]
        clock.pass_ms(chance.randint(0, 2))
        if chance.random() < 0.02:
            live = sum(end > clock.now for end in ends.values())
            assert engine.count(table, {b"state": 1}, True) == 60 - live


def test_free_rows_leave_out_what_is_locked_now(engine: Engine, clock: FakeClock) -> None:
    table = engine.table(b"seats")
    lock(engine, 1, ms=5)
    assert engine.intersect(table, {b"state": 1}, 0, None, True) == [0, 2, 3]
    assert engine.count(table, {b"state": 1}, True) == 3
    assert engine.count(table, {b"state": 1}, False) == 4
    clock.pass_ms(5)
    assert engine.intersect(table, {b"state": 1}, 2, 0, True) == [1, 2]
    assert engine.count(table, {b"state": 1}, True) == 4
