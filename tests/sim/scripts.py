"""What simulated clients want: generators that yield a command and are sent its reply, or LOST.

A LOST reply means that the client has given up resending, and does not know. Each script is one visit to a
group of rows; all keep to what the book relies on: one write per lease, which names what was read under it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.sim.book import Book
from tests.sim.commands import (
    DEFAULT_LEASE_MS,
    LOST,
    Claim,
    Command,
    Confirm,
    Extend,
    Fields,
    Find,
    Hold,
    Holds,
    Insert,
    Multi,
    Past,
    Release,
    Replace,
    Return,
    Seek,
    Take,
    TryLock,
    Unlock,
)

Script = Generator[Command, Any, None]
UNITS = 6  # of a door's counter
LEASES_MS = (1, 2, 20, 1000, None, 86_400_000)


@dataclass(slots=True)
class Desk:
    """What a client works with: chance, the book, and tokens that it remembers."""

    client: int
    random: Random
    book: Book
    leases_ms: tuple[int | None, ...] = LEASES_MS
    asks_past_of_units: bool = True
    sales: int = 0
    old_writes: list[Replace] = field(default_factory=list)
    old_tokens: list[tuple[int, int]] = field(default_factory=list)  # row and token
    requests: list[tuple[tuple[int, ...], bytes]] = field(default_factory=list)  # hall, and an id used there
    carts: list[tuple[tuple[int, ...], int]] = field(default_factory=list)  # hall, and token of a hold there

    def lease(self, *rows: int) -> TryLock:
        random = self.random
        owner = b"%d" % random.getrandbits(48) if random.random() < 0.7 else None
        return TryLock(rows, random.choice(self.leases_ms), owner)

    def next_note(self) -> bytes:
        self.sales += 1
        return b"%d/%d" % (self.client, self.sales)

    def choice_in(self, hall: tuple[int, ...]) -> dict[str, Any]:
        """Which of its rows, for whom, and whether a resend is to be known."""
        random = self.random
        words: dict[str, Any] = {}
        kind = random.random()
        if kind < 0.3:
            words["ids"] = tuple(random.sample(hall, random.choice((1, 1, 2))))
        elif kind < 0.6:
            words["count"] = random.randint(1, len(hall))
        words |= self.request_in(hall)
        if random.random() < 0.3:
            words["most"] = random.randint(1, len(hall))
        return words

    def request_in(self, hall: tuple[int, ...]) -> dict[str, Any]:
        random = self.random
        words: dict[str, Any] = {}
        if random.random() < 0.8:
            used = [request for of, request in self.requests if of == hall]
            if used and random.random() < 0.1:  # a mistake: an id that was used for something else
                words["request"] = random.choice(used)
            else:
                words["request"] = b"%d/%b" % (hall[0], self.next_note())
                self.requests = [*self.requests[-5:], (hall, words["request"])]
        return words

    def remember(self, row: int, token: int, write: Replace) -> None:
        self.old_tokens = [*self.old_tokens[-3:], (row, token)]
        self.old_writes = [*self.old_writes[-3:], write]


def visit_seat(desk: Desk, rows: tuple[int, ...]) -> Script:
    """Buys it, unless it is sold. Whoever reads that it is sold knows that it stays so."""
    (row,) = rows
    free = yield Find(row, 0, free=True)
    if free is False and desk.random.random() < 0.7:
        fields = yield Seek(row)
        if isinstance(fields, tuple) and fields[0] == 1:
            desk.book.sold(row, fields[3])
        return
    token = yield desk.lease(row)
    if not isinstance(token, int):
        return
    fields = yield Seek(row)
    if not isinstance(fields, tuple) or fields[0] == 1:
        yield Unlock((row,), token)
        return
    sale = desk.next_note()
    reply = yield from _write(desk, row, token, (1, token, fields[1], sale))
    if reply == "OK":
        desk.book.sold(row, sale)
    elif reply is LOST:
        fields = yield Seek(row)
        if isinstance(fields, tuple) and fields[3] == sale:
            desk.book.sold(row, sale)  # who has seen it may count on it


def _write(desk: Desk, row: int, token: int, fields: Fields) -> Generator[Command, Any, Any]:
    random = desk.random
    write = Replace(row, token, fields, unlock=random.random() < 0.6)
    desk.book.sent(write)
    reply = yield write
    if reply == "OK":
        desk.book.written(write)
        if not write.unlock and random.random() < 0.8:
            yield Unlock((row,), token)
    desk.remember(row, token, write)
    return reply


def visit_page(desk: Desk, rows: tuple[int, ...]) -> Script:
    """Adds a write to the row's path; or looks; or comes too late; or locks it and goes away."""
    (row,) = rows
    random = desk.random
    if random.random() < 0.25:
        yield random.choice((Seek(row), Find(row, random.randrange(3), random.random() < 0.5)))
        return
    old_writes = [write for write in desk.old_writes if write.row == row]
    if old_writes and random.random() < 0.25:
        write = random.choice(old_writes)
        reply = yield write  # a resend that was long on its way
        if reply == "OK":
            desk.book.written(write)
        return
    if desk.old_tokens and random.random() < 0.1:
        other, token = random.choice(desk.old_tokens)
        if other != row:
            yield Replace(row, token, (7, token, 7, b"foreign"))
        yield Unlock((row,), token)
        return
    lease = desk.lease(row)
    token = yield lease
    if not isinstance(token, int):
        return
    if random.random() < 0.1:
        return  # vanished as far as the row can tell: its lease has to end
    fields = yield Seek(row)
    if lease.owner is not None and random.random() < 0.2:
        yield TryLock((row,), random.choice(desk.leases_ms), lease.owner)
    if isinstance(fields, tuple):
        yield from _write(desk, row, token, (random.randrange(3), token, fields[1], b"page"))


def visit_twins(desk: Desk, rows: tuple[int, ...]) -> Script:
    """Two rows that are written as one: by MULTI, under one lease, the same into both."""
    one, other = rows
    random = desk.random
    looks = random.random()
    if looks < 0.15:
        yield random.choice((Multi((Seek(one), Seek(other))), Seek(one), Seek(other)))
        return
    if looks < 0.3:
        row = random.choice(rows)
        token = yield desk.lease(row)
        if isinstance(token, int) and random.random() < 0.8:
            yield Unlock((row,), token)
        return
    token = yield desk.lease(*random.sample(rows, 2))
    if not isinstance(token, int):
        return
    seen = yield random.choice((Seek(one), Multi((Seek(other), Seek(one)))))
    if not isinstance(seen, tuple):
        return
    before = seen[-1] if isinstance(seen[-1], tuple) else seen
    fields = (random.randrange(3), token, before[1], desk.next_note())
    unlock = random.random() < 0.5
    writes = Replace(one, token, fields, unlock), Replace(other, token, fields, unlock)
    for write in writes:
        desk.book.sent(write)
    parts = writes if unlock or random.random() < 0.5 else (*writes, Unlock(rows, token))
    reply = yield Multi(parts)
    if isinstance(reply, tuple):
        for write, answer in zip(writes, reply, strict=False):
            if answer == "OK":
                desk.book.written(write)
    if not unlock and random.random() < 0.5:
        yield Unlock(rows, token)


def visit_fresh(desk: Desk, rows: tuple[int, ...]) -> Script:
    """Rows that are not there at first, inserted by whoever comes first; few contents, so that some agree."""
    random = desk.random
    row, note = random.choice(rows), random.choice((b"x", b"y", desk.next_note()))
    insert = Insert(row, (2, 0, 0, note))
    choice = random.random()
    if choice < 0.4:
        if (yield insert) == 1:
            desk.book.was_inserted(row, note)
    elif choice < 0.6:
        inserts = tuple(Insert(each, (2, 0, 0, note)) for each in rows)
        reply = yield Multi(inserts)
        if isinstance(reply, tuple):
            for each, answer in zip(rows, reply, strict=True):
                if answer == 1:
                    desk.book.was_inserted(each, note)
    elif choice < 0.7:
        token = yield desk.lease(row)
        if isinstance(token, int):
            yield Unlock((row,), token)
    else:
        yield random.choice((Seek(row), Multi((Seek(rows[0]), Seek(rows[1]))), Find(row, 2)))


def visit_hall(desk: Desk, rows: tuple[int, ...]) -> Script:
    """Claims seats, or takes them into a cart; pays, in time or late, or lets go; or brings sold ones back.
    What a table counts for an owner, here it counts for one in one hall."""
    random, owner = desk.random, b"%d in hall %d" % (desk.client, rows[0])
    choice = random.random()
    old = [token for hall, token in desk.carts if hall == rows]
    if choice < 0.13:
        row = random.choice(rows)
        looks = Seek(row), Find(row, 0, free=True), Find(row, random.randrange(2)), Past(row), Past(row)
        holds = Holds(rows, b"%d in hall %d" % (random.randrange(8), rows[0]))  # anybody's
        yield random.choice((*looks, holds, holds))
    elif choice < 0.19:
        yield from _bring_back(desk, random.choice(rows))
    elif choice < 0.27:
        some = tuple(random.sample(rows, random.randint(1, len(rows))))
        refund = Return(some, owner, (0, desk.client, 0, desk.next_note()), **desk.request_in(rows))
        yield refund
        if random.random() < 0.4:
            yield replace(refund, request=None)  # asked for twice, and not as a resend
    elif choice < 0.4 and old:
        yield from _end_of_cart(desk, random.choice(old))
    elif choice < 0.55:
        words = desk.choice_in(rows)
        if random.random() < 0.5 or "most" in words:
            words["owner"] = owner
        yield Claim(rows, 0, (1, desk.client, 0, desk.next_note()), **words)
    elif choice < 0.62:
        first = Claim(rows, 0, (1, desk.client, 0, desk.next_note()), **desk.choice_in(rows), owner=owner)
        parts = first, Find(rows[0], 1), Claim(rows, 0, (1, desk.client, 0, b""))
        answers = yield Multi(tuple(random.sample(parts, 3)))
        bought = [ids for ids in answers if isinstance(ids, tuple)] if isinstance(answers, tuple) else []
        for ids in bought:
            if ids:
                yield Past(random.choice(ids))
    else:
        replacing = random.choice(old) if old and random.random() < 0.4 else None
        ms = random.choice(desk.leases_ms) or DEFAULT_LEASE_MS
        cart = yield Hold(rows, 0, ms, owner, replacing=replacing, **desk.choice_in(rows))
        if isinstance(cart, tuple) and cart:
            desk.carts = [*desk.carts[-5:], (rows, cart[0])]
            while random.random() < 0.7:
                yield from _end_of_cart(desk, cart[0])


def visit_door(desk: Desk, rows: tuple[int, ...]) -> Script:
    """Buys units of a counter, or holds and pays them, or brings some back; there are too few."""
    (row,) = rows
    random, owner = desk.random, b"%d at door %d" % (desk.client, rows[0])
    choice, units = random.random(), random.randint(1, 3)
    old = [token for door, token in desk.carts if door == rows]
    most = random.randint(1, UNITS) if random.random() < 0.3 else None
    if choice < 0.25:
        holds = Holds(rows, b"%d at door %d" % (random.randrange(8), rows[0]))
        yield random.choice((Seek(row), Past(row) if desk.asks_past_of_units else holds, holds))
    elif choice < 0.4:
        yield Return(rows, owner, units=units, **desk.request_in(rows))
    elif choice < 0.55 and old:
        yield from _end_of_cart(desk, random.choice(old), of_units=True)
    elif choice < 0.75:
        yield Take(row, units, owner, most=most, **desk.request_in(rows))
    else:
        ms = random.choice(desk.leases_ms) or DEFAULT_LEASE_MS
        cart = yield Take(row, units, owner, ms, most, **desk.request_in(rows))
        if isinstance(cart, tuple) and cart:
            desk.carts = [*desk.carts[-5:], (rows, cart[0])]
            while random.random() < 0.7:
                yield from _end_of_cart(desk, cart[0], of_units=True)


def _end_of_cart(desk: Desk, token: int, of_units: bool = False) -> Script:
    """Or what its owner took for the end; the same sale each time, or another."""
    random = desk.random
    choice = random.random()
    if choice < 0.6:
        yield Confirm(token, (1, token, 0, b"paid" if random.random() < 0.9 else b"otherwise"), of_units)
    elif choice < 0.8:
        yield Release(token)
    else:
        yield Extend(token, random.choice(desk.leases_ms) or DEFAULT_LEASE_MS)


def _bring_back(desk: Desk, row: int) -> Script:
    """With a lock and a write, as a till without selling verbs would."""
    random = desk.random
    token = yield desk.lease(row)
    if not isinstance(token, int):
        return
    if random.random() < 0.3:
        yield random.choice((Confirm(token, (1, 0, 0, b"by a lock")), Release(token), Extend(token, 5)))
    fields = yield Seek(row)
    if isinstance(fields, tuple) and random.random() < 0.9:
        yield Replace(row, token, (0, token, fields[1], b""), unlock=True)
    else:
        yield Unlock((row,), token)


KINDS = {
    "seat": (visit_seat, 1),
    "page": (visit_page, 1),
    "twins": (visit_twins, 2),
    "fresh": (visit_fresh, 2),
    "hall": (visit_hall, 3),
    "door": (visit_door, 1),
}
