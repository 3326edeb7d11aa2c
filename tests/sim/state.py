"""What a store holds, as the model sees it: rows, locks, and what the selling verbs keep.

A deadline is known as a range on the store's clock, for the moment from which it counts lies somewhere
between a call and its reply. The present is known the same way: `State.now` is the earliest that it can be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.sim.commands import PAST_WRITES, Buying, Fields


class Write(NamedTuple):
    verb: str
    token: int | None  # of a lock
    owner: bytes | None
    request: bytes | None
    fields: Fields


class Row(NamedTuple):
    token: int | None  # of the last write; None for one that no client can know
    fields: Fields
    past: tuple[Write, ...] = ()  # newest first; only as many as are asked for, or none if nobody asks

    def written(self, write: Write) -> Row:
        return Row(write.token, write.fields, (write, *self.past)[:PAST_WRITES] if self.past else ())


def inserted(fields: Fields) -> Row:
    return Row(None, fields, (Write("insert", None, None, None, fields),))


class Lease(NamedTuple):
    token: int | None  # None as long as no client was told
    above: int  # and then it is higher than this
    owner: bytes | None
    rows: tuple[int, ...]
    earliest: int  # of its deadline, ns
    latest: int


LIVE, OVER, LET_GO, PAID = "live", "over", "let go", "paid"


class Held(NamedTuple):
    """A hold, live or ended: a late payment may come for it at any time."""

    token: int | None
    above: int
    owner: bytes
    rows: tuple[int, ...]
    want: int  # the state that its rows had
    lasts: int  # ns, as it was last told: no restart leaves more
    earliest: int
    latest: int
    phase: str = LIVE
    extended: int = 0  # how often
    is_shown: bool = False  # to be over, to somebody, so that no restart makes it live again
    ended: int | None = None  # ns, at the earliest: from then on it is remembered for a day
    paid_with: Fields | None = None
    deadline: int | None = None  # unix ms, as the first answer had it
    units: int = 0  # of the one row's counter: the row is not taken

    def takes(self, row: int) -> bool:
        return self.phase == LIVE and not self.units and row in self.rows

    @property
    def size(self) -> int:
        return self.units or len(self.rows)


class Request(NamedTuple):
    """A REQUEST id that took rows."""

    id: bytes
    command: Buying
    answer: Any  # ids, or of a refund how many
    hold: int | None  # which of the holds it made
    made: int  # ns; at the earliest


class Shop(NamedTuple):
    """What the selling verbs keep on disk. A hold stays where it is in `holds`, whatever becomes of it."""

    holds: tuple[Held, ...] = ()
    requests: tuple[Request, ...] = ()
    owners: tuple[tuple[int, bytes], ...] = ()  # row, and whom it was sold to
    units: tuple[tuple[int, bytes, int], ...] = ()  # row, owner, how many units of it were sold to it

    def with_hold(self, at: int, held: Held) -> Shop:
        return self._replace(holds=(*self.holds[:at], held, *self.holds[at + 1 :]))

    def live(self, row: int) -> int | None:
        """Which hold has the row, unless it is over."""
        return next((i for i, one in enumerate(self.holds) if one.takes(row)), None)

    def at(self, token: int) -> int | None:
        return next((i for i, one in enumerate(self.holds) if one.token == token), None)

    def lasting(self) -> Shop:
        """Without what a look at the clock, or a reply, adds to it: all that is written down."""
        holds = tuple(
            one._replace(
                token=None,
                above=0,
                deadline=None,
                ended=None,
                earliest=0,
                latest=0,
                phase=LIVE if one.phase == OVER else one.phase,
            )
            for one in self.holds
        )
        return self._replace(holds=holds)


Rows = tuple[tuple[int, Row], ...]  # ascending; rows that are not there are not in it


class State(NamedTuple):
    rows: Rows = ()
    leases: tuple[Lease, ...] = ()
    token: int = 0  # the highest that a client was told
    now: int = 0
    kept: tuple[Rows, Shop] | None = None  # what a crash will leave, when it takes a write back
    shop: Shop = Shop()

    def row(self, number: int) -> Row | None:
        return next((row for other, row in self.rows if other == number), None)

    def lease(self, number: int) -> Lease | None:
        return next((lease for lease in self.leases if number in lease.rows), None)

    def is_free(self, number: int) -> bool:
        return self.lease(number) is None and self.shop.live(number) is None

    def with_row(self, number: int, row: Row) -> State:
        others = [pair for pair in self.rows if pair[0] != number]
        return self._replace(rows=tuple(sorted([*others, (number, row)])))

    def without(self, lease: Lease) -> State:
        return self._replace(leases=tuple(other for other in self.leases if other is not lease))

    def with_lease(self, lease: Lease) -> State:
        return self._replace(leases=tuple(sorted((*self.leases, lease), key=lambda one: one.rows)))

    def with_hold(self, at: int, held: Held) -> State:
        return self._replace(shop=self.shop.with_hold(at, held))

    def told_of(self, at: int, token: int, deadline: int | None) -> State:
        """A client was told of a hold: whatever a crash takes back, this hold's token is known now."""
        known = self.shop.holds[at]._replace(token=token, above=0, deadline=deadline)
        state = self.with_hold(at, known)
        if self.kept is not None and at < len(self.kept[1].holds):
            rows, shop = self.kept
            known = shop.holds[at]._replace(token=token, above=0, deadline=deadline)
            state = state._replace(kept=(rows, shop.with_hold(at, known)))
        return state._replace(token=max(state.token, token))

    def lasting(self) -> tuple[Rows, Shop]:
        return self.rows, self.shop.lasting()
