"""The rules of a sale below the wire: what time and restarts do, what is forgotten, who is chosen."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from pyroaring import BitMap

from storage import event_files
from storage.adjacent import Scan
from storage.engine import Engine, EngineOptions
from storage.errors import DamageError, StoreError
from storage.event_files import Merge
from storage.events import Event, Verb, decode, encode
from storage.free import lowest_free
from storage.offers import Wanted
from storage.requests import ENTRY_BYTES
from storage.schema import Schema
from storage.selling import Terms
from storage.table import Table
from tests.fake_disk import FakeDisk
from tests.store import DIRECTORY, FakeClock, checkpoint, contents, open_store

FIELDS: list[list[object]] = [
    ["state", "U8", 1],
    ["seat", "U16", 0],
    ["hall", "U8", 0],
    ["left", "COUNTER", 0],
]
FREE: dict[bytes, Any] = {b"state": 0}
SOLD: dict[bytes, Any] = {b"state": 1}
DAY_MS = 86_400_000


class Shop:
    """A store with seats, its disk and its clock."""

    def __init__(self, seats: int = 6, **options: Any) -> None:
        self.disk, self.clock = FakeDisk(), FakeClock()
        self.options = EngineOptions(segment_bytes=1 << 16, **options)
        self.engine: Engine
        self.restart(crash=False)
        self.engine.create(b"seats", Schema.from_description(FIELDS), False)
        for seat in range(seats):
            self.engine.insert(self.table, seat, {b"seat": seat, b"left": 5})

    @property
    def table(self) -> Table:
        return self.engine.table(b"seats")

    def restart(self, crash: bool = True) -> None:
        if crash:
            self.engine.wal.commit()
            self.disk = self.disk.crash()
        self.engine, _ = open_store(self.disk, self.options, self.clock)

    def claim(
        self, wanted: Wanted | None = None, criteria: dict[bytes, Any] = FREE, **terms: Any
    ) -> list[int]:
        changes = {} if wanted is not None and wanted.field else SOLD
        return self.engine.selling.claim(self.table, criteria, changes, wanted or Wanted(), Terms(**terms))

    def hold(
        self,
        px_ms: int = 1000,
        wanted: Wanted | None = None,
        replacing: int = 0,
        owner: bytes = b"ann",
        **terms: Any,
    ) -> list[Any]:
        return self.engine.selling.hold(
            self.table, FREE, px_ms, wanted or Wanted(), Terms(owner=owner, **terms), replacing
        )

    def confirm(self, token: int) -> list[int]:
        self.engine.selling.table_of(token)
        return self.engine.selling.confirm(token, SOLD, b"a" * 16)


def anybody(row: int) -> bool:
    return True


def refusal(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(StoreError) as caught:
        call(*args, **more)
    return caught.value.text.partition(" ")[0]


# --- time and restarts --------------------------------------------------------------------------------


def test_a_hold_ends_to_the_nanosecond_and_not_before() -> None:
    shop = Shop(seats=1)
    token = shop.hold(px_ms=10)[0]
    shop.clock.pass_ms(10)
    shop.clock.now -= 1
    assert refusal(shop.claim) == "BUSY"
    shop.clock.now += 1
    assert shop.claim() == [0]
    assert refusal(shop.confirm, token) == "RESOLD"


def test_time_without_a_server_counts_for_nobody() -> None:
    shop = Shop(seats=1)
    shop.hold(px_ms=1000)
    shop.clock.pass_ms(400)
    shop.engine.close()
    shop.clock.pass_ms(10 * DAY_MS)
    shop.restart(crash=False)
    (hold,) = shop.engine.selling.live_holds(shop.table, None)
    assert (hold.deadline - shop.clock.now) // 1_000_000 == 600
    shop.clock.pass_ms(600)
    assert shop.engine.selling.live_holds(shop.table, None) == []


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_hold_that_is_longer_than_may_be_asked_for_is_replayed(is_checkpointed: bool) -> None:
    """Earlier versions took up to 2^53-1 ms."""
    shop = Shop(seats=1)
    token = shop.hold(px_ms=2**53 - 1)[0]
    if is_checkpointed:
        checkpoint(shop.engine)
    shop.restart()
    (hold,) = shop.engine.selling.live_holds(shop.table, None)
    assert (hold.number, (hold.deadline - shop.clock.now) // 1_000_000) == (token, 2**53 - 1)


def test_a_hold_that_a_crash_brings_back_sells_nothing_that_was_sold() -> None:
    """Its end is in no record, so a restart may take it for live; the row is another's by then."""
    shop = Shop(seats=1)
    token = shop.hold(px_ms=10)[0]
    shop.clock.pass_ms(20)
    assert shop.claim() == [0]
    shop.restart()
    assert shop.engine.selling.live_holds(shop.table, None) == []
    assert refusal(shop.confirm, token) == "RESOLD"
    assert contents(shop.engine)[b"seats"][0][b"state"] == 1


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_late_payment_after_a_restart(is_checkpointed: bool) -> None:
    shop = Shop(seats=2)
    token = shop.hold(px_ms=10)[0]
    shop.clock.pass_ms(20)
    if is_checkpointed:
        checkpoint(shop.engine)
    shop.restart()
    assert shop.confirm(token) == [0]
    shop.restart()
    assert shop.confirm(token) == [0], "and again: the same"


def test_a_hold_s_last_part_of_a_millisecond_is_its_own() -> None:
    shop = Shop(seats=1)
    shop.clock.now += 999_999
    token = shop.hold(px_ms=10)[0]
    shop.clock.pass_ms(9)
    shop.engine.selling.extend(token, 10)
    shop.clock.pass_ms(10)
    shop.clock.now -= 1
    assert refusal(shop.claim) == "BUSY"
    shop.clock.pass_ms(1)
    assert shop.claim() == [0]


# --- what is remembered -------------------------------------------------------------------------------


def test_requests_are_kept_for_their_time_and_forgotten_then() -> None:
    shop = Shop(seats=6)
    assert shop.claim(request=b"a", args=b"x" * 16) == [0]
    shop.clock.pass_ms(DAY_MS - 1)
    assert shop.claim(request=b"a", args=b"x" * 16) == [0]
    for part in range(8):  # a generation goes when its youngest may
        shop.clock.pass_ms(DAY_MS // 8)
        if part in (1, 3):
            assert len(shop.claim(request=b"b%d" % part, args=b"x" * 16)) == 1
    before = shop.engine.selling.memory.bytes
    assert shop.claim(request=b"a", args=b"y" * 16) == [3]
    assert shop.engine.selling.memory.bytes <= before + ENTRY_BYTES + 2


def test_requests_beyond_the_room_are_refused_and_none_is_forgotten() -> None:
    shop = Shop(seats=60, remembered_bytes_max=10 * ENTRY_BYTES)
    done = 0
    while done < 60:
        try:
            assert shop.claim(request=b"%d" % done, args=b"x" * 16) == [done]
        except StoreError as error:
            assert error.text.startswith("OOM")
            break
        done += 1
    assert 8 <= done <= 11
    assert refusal(shop.hold) == "OOM"
    assert shop.claim() == [done], "what need not be remembered goes on"
    for number in range(done):
        assert shop.claim(request=b"%d" % number, args=b"x" * 16) == [number]
    shop.clock.pass_ms(2 * DAY_MS)
    assert shop.claim(request=b"new", args=b"x" * 16) == [done + 1]


def test_ended_holds_are_forgotten_after_their_time() -> None:
    shop = Shop(seats=3)
    lapsed, confirmed = shop.hold(px_ms=10)[0], shop.hold(px_ms=10)[0]
    assert shop.confirm(confirmed) == [1]
    shop.clock.pass_ms(DAY_MS - 1)
    assert shop.confirm(confirmed) == [1]
    assert shop.confirm(lapsed) == [0]
    shop.clock.pass_ms(1)
    assert refusal(shop.confirm, confirmed) == "NOHOLD"
    shop.clock.pass_ms(DAY_MS - 2)
    assert shop.confirm(lapsed) == [0], "a late payment begins its own day"
    shop.clock.pass_ms(1)
    assert refusal(shop.confirm, lapsed) == "NOHOLD"
    assert shop.engine.selling.holds == {} and shop.engine.selling.memory.bytes == 0


def test_a_dropped_table_gives_all_of_it_back() -> None:
    shop = Shop(seats=5)
    shop.hold(request=b"a", args=b"x" * 16)
    shop.claim(owner=b"bob", request=b"b", args=b"x" * 16)
    shop.engine.drop(b"seats")
    assert (shop.engine.selling.holds, shop.engine.selling.memory.bytes) == ({}, 0)
    shop.restart()
    assert (shop.engine.selling.holds, shop.engine.selling.memory.bytes) == ({}, 0)


# --- checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_events_put_together_are_as_good_as_all_of_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_files, "MERGED_FROM", 1)
    print(f"seed {seed}")
    chance = random.Random(seed)
    shop = Shop(seats=40)
    tokens: list[int] = []
    files: list[list[str]] = []
    for step in range(120):
        try:
            kind = chance.randrange(7)
            terms: dict[str, Any] = {}
            if chance.random() < 0.5:
                terms = {"request": b"%d" % chance.randrange(40), "args": b"%16d" % chance.randrange(2)}
            units = Wanted(ids=(chance.randrange(40),), field=b"left", units=chance.randrange(1, 3))
            if kind == 0:
                shop.claim(owner=chance.choice((b"", b"bob")), **terms)
            elif kind == 1:
                shop.claim(units, {}, owner=b"bob", **terms)
            elif kind == 2:
                tokens.append(
                    shop.hold(chance.choice((5, 10_000)), replacing=chance.choice((0, *tokens)), **terms)[0]
                )
            elif kind == 3:
                selling = shop.engine.selling
                tokens.append(selling.hold(shop.table, {}, 1000, units, Terms(owner=b"cyd", **terms), 0)[0])
            elif kind == 4 and tokens:
                shop.confirm(chance.choice(tokens))
            elif kind == 5 and tokens:
                shop.engine.selling.release(chance.choice(tokens))
            elif kind == 6:
                ids = chance.sample(range(40), 4)
                shop.engine.selling.give_back(shop.table, ids, FREE, Terms(b"bob", **terms), Wanted())
        except (StoreError, IndexError):
            pass
        shop.clock.pass_ms(chance.choice((0, 1, 20)))
        if step % 10 == 9:
            checkpoint(shop.engine)
            files.append(list(shop.engine.manifest.event_files))
    assert any(len(now) <= len(then) for then, now in pairwise(files)), "else nothing was put together"
    before = contents(shop.engine)
    shop.restart()
    assert contents(shop.engine) == before


def test_what_ended_long_ago_leaves_the_files() -> None:
    merge = Merge({1}, now_ms=3 * DAY_MS, keep_ms=DAY_MS)
    for number in range(100):
        token = number + 1
        merge.add(
            Event(Verb.HOLD, 1, number, token, (number,), b"ann", deadline=number + 10, request=b"%d" % token)
        )
        merge.add(Event(Verb.CONFIRM, 1, number + 1, token, (number,), b"ann", args=b"a"))
        merge.add(Event(Verb.CLAIM, 1, number, 0, (7,), b"bob", field="left", units=2))
        assert merge.add(Event(Verb.CLAIM, 2, number, request=b"of a table that is gone")) is None
    merge.add(Event(Verb.RETURN, 1, 5, 0, (7,), b"bob", field="left", units=50))
    (owned,) = map(decode, merge.rest())
    assert (owned.verb, owned.rows, owned.units) == (Verb.OWNED, (7,), 150)


def test_a_damaged_event_file_refuses_the_start() -> None:
    shop = Shop()
    shop.hold()
    checkpoint(shop.engine)
    (name,) = shop.engine.manifest.event_files
    for offset in (0, 9, 13, 20):
        disk = shop.disk.crash()
        disk.damage(DIRECTORY / name, offset)
        with pytest.raises(DamageError, match=name):
            open_store(disk, shop.options)
    disk = shop.disk.crash()
    disk.unlink(DIRECTORY / name)
    with pytest.raises(DamageError, match=name):
        open_store(disk, shop.options)


def test_an_event_comes_back_as_it_was() -> None:
    event = Event(
        Verb.HOLD,
        3,
        5,
        7,
        (1, 2),
        b"\xff",
        9,
        {"state": 1, "name": b"\0"},
        "left",
        2,
        6,
        b"q",
        b"g" * 16,
        b"w",
    )
    assert decode(encode(event)) == event
    with pytest.raises(DamageError):
        decode(b"\xc1")


# --- who is chosen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_the_lowest_free_rows(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(30):
        ids = sorted(chance.sample(range(chance.choice((30, 200_000))), chance.randrange(30)))
        taken = set(chance.sample(ids, chance.randrange(len(ids) + 1)))
        held = {row for row in taken if chance.random() < 0.7}
        count = chance.randrange(1, 6)
        found = lowest_free(BitMap(ids), count, (set(ids) - taken).__contains__, BitMap(held))
        assert found == [row for row in ids if row not in taken][:count]


@pytest.mark.parametrize("seed", range(30))
def test_a_run_of_neighbours_is_found_if_there_is_one(seed: int) -> None:
    """Beside a search that knows no tricks; seats are dealt out as they are found."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    places = [(hall, seat) for hall in range(3) for seat in range(20)]
    if seed % 3 == 0:
        chance.shuffle(places)
    rows = {row: place for row, place in enumerate(places) if chance.random() < 0.7}
    count, there = chance.choice((1, 2, 3, 4)), BitMap(rows)

    def read(row: int) -> tuple[int, ...]:
        hall, seat = rows[row]
        return 0, 0, 0, seat, hall

    scan = Scan(count, 3, 4)
    while True:
        found = scan.find(there, read, anybody)
        if found is None:
            break
        assert found == sorted(found) and set(found) <= set(there)
        halls, seats = zip(*sorted(rows[row] for row in found), strict=True)
        assert len(set(halls)) == 1 and list(seats) == list(range(seats[0], seats[0] + count))
        there -= BitMap(found)
    left = {rows[row] for row in there}
    assert not any(all((hall, seat + i) in left for i in range(count)) for hall, seat in left)


def test_neighbours_that_were_refused_for_want_of_room_are_there_still() -> None:
    shop = Shop(seats=4, remembered_bytes_max=0)
    two = Wanted(count=2, adjacent=b"seat")
    assert refusal(shop.claim, two, request=b"a", args=b"x" * 16) == "OOM"
    assert refusal(shop.hold, wanted=two) == "OOM"
    assert [shop.claim(two) for _ in range(3)] == [[0, 1], [2, 3], []]


def test_neighbours_that_become_free_again_are_found() -> None:
    shop = Shop(seats=6)
    three = Wanted(count=3, adjacent=b"seat")
    first = shop.hold(wanted=three)[0]
    assert shop.hold(wanted=three)[1] == [3, 4, 5]
    assert refusal(shop.claim, three) == "BUSY"
    assert shop.engine.selling.release(first) == 3
    token = shop.engine.try_lock(((shop.table, 1),), 10, None)
    assert token is not None
    assert refusal(shop.claim, three) == "BUSY"
    shop.clock.pass_ms(10)
    assert shop.claim(three) == [0, 1, 2]
    shop.clock.pass_ms(1000)
    assert shop.claim(three) == [3, 4, 5]
    assert shop.claim(three) == []
