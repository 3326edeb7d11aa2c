"""Claims, holds and their ends: the rules of a sale. Which rows a question gets is storage.offers.

Each command that changes anything writes its rows and one event as one frame of the log. What the events
stand for is in storage.book.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from storage import events, locks
from storage import format as fmt
from storage.book import Book, unix_ms
from storage.errors import StoreError, no_hold
from storage.events import Event, Verb
from storage.holds import Hold, State, digest_of
from storage.index import Posting
from storage.offers import Criteria, Offer, Wanted
from storage.schema import Value
from storage.table import Table

ROWS_MAX = 1000  # of one claim or hold
FORGET_WHEN_FULL = 1000  # answers whose time is over, at once
_CLAIM, _ONE = int(fmt.Kind.CLAIM), Wanted()
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@dataclass(slots=True)
class Terms:
    """For whom, how many at most, and what makes a resend known: its id and the digest of what was asked."""

    owner: bytes = b""
    most: int | None = None
    request: bytes = b""
    args: bytes = b""


class Selling(Book):
    # --- claim and hold -------------------------------------------------------------------------------

    def claim(
        self, table: Table, criteria: Criteria, changes: dict[bytes, Value], wanted: Wanted, terms: Terms
    ) -> list[int]:
        """The rows that were sold, ascending; none when it is sold out. Raises `BUSY`, `LIMIT`, `REQUEST`,
        `OOM`."""
        if terms.request:
            known: list[int] | None = self._known(table, terms)
            if known is not None:
                return known
        ids = self._offered(table, criteria, wanted, terms, None, needs_room=bool(terms.request))
        if ids:
            self._sell_to(table, ids, changes, wanted, terms)
        return ids

    def claim_lowest(
        self, table: Table, posting: Posting | None, changes: dict[bytes, Value], terms: Terms | None
    ) -> list[int] | None:
        """The usual claim, of one row; None where others are in its way, and a choice is to be made."""
        engine = self._engine
        if terms is not None:
            if terms.request:
                known: list[int] | None = self._known(table, terms)
                if known is not None:
                    return known
            if self._deadlines:
                self.expire()
        if posting is None:
            engine.note(engine.catalog_position)
            return []
        if posting.position > engine.released:
            engine.note(posting.position)
        if not posting.rows:
            return []
        if terms is not None and terms.most is not None:
            self._limit(table, terms, 1, None)
        row = posting.rows.min()
        if row in table.leases:
            return None
        if terms is None:
            self._sell_one(table, row, changes)
        else:
            if terms.request:
                self._need_room()
            self._sell_to(table, [row], changes, _ONE, terms)
        return [row]

    def _sell_one(self, table: Table, row: int, changes: dict[bytes, Value]) -> None:
        """To nobody in particular: no event."""
        old = table.read_trimmed(row)
        assert old is not None, "a listed row is there"
        fields = [*old]
        table.schema.assign(fields, changes)
        fields[0], fields[2] = self._engine.draw_token(), fmt.NO_OWNER
        self._engine.write(table, row, _CLAIM, old, fields)
        table.tally.plain_claims += 1
        if old[2] != fmt.NO_OWNER:
            table.sales.resold(old[2], fmt.NO_OWNER)

    def _sell_to(
        self, table: Table, ids: list[int], changes: dict[bytes, Value], wanted: Wanted, terms: Terms
    ) -> None:
        event = None
        if terms.owner or terms.request:
            event = self._event(Verb.CLAIM, table, terms, wanted, ids)
            event.answer = _pack(ids) if terms.request else b""
        digest = None if wanted.field else digest_of(terms.owner) if terms.owner else fmt.NO_OWNER
        self._sell(table, ids, fmt.Kind.CLAIM, self._with_units(table, changes, wanted, ids), digest, event)
        table.tally.claimed(len(ids), wanted.units)

    def hold(
        self, table: Table, criteria: Criteria, px_ms: int, wanted: Wanted, terms: Terms, replacing: int
    ) -> list[Any]:
        """`[token, ids, deadline as unix ms]`, or nothing when it is sold out."""
        if terms.request:
            known: list[Any] | None = self._known(table, terms)
            if known is not None:
                return known
        self.expire()
        old = self._replaced(table, terms.owner, replacing) if replacing else None
        mine = old if old is not None and old.state is State.LIVE else None
        ids = self._offered(table, criteria, wanted, terms, mine, needs_room=True)
        if not ids:
            return ids
        token = self._engine.draw_token()
        event = self._event(Verb.HOLD, table, terms, wanted, ids)
        event.token, event.replacing = token, 0 if old is None else replacing
        event.deadline = self.deadline_ms(px_ms)
        event.criteria = {name.decode(): value for name, value in criteria.items()}
        answer = [token, ids, unix_ms() + px_ms]
        event.answer = _pack(answer) if terms.request else b""
        self._log(table, [], event)
        table.tally.holds_begun += 1
        table.tally.holds_replaced += mine is not None
        return answer

    def _known(self, table: Table, terms: Terms) -> Any:
        """What the request was answered, when it was; it may not be durable yet."""
        found = table.sales.requests.find(terms.request)
        if found is None:
            return None
        position, args, answer = found
        self._engine.note(position)
        if args != terms.args:
            raise StoreError("REQUEST this id was used with other arguments")
        given = _unpack(answer)
        table.tally.repeated_claims += type(given) is list  # a refund's is a number
        return given

    def _replaced(self, table: Table, owner: bytes, number: int) -> Hold | None:
        """What a new hold lets go of. Also of one that is over: or its late payment would buy both."""
        hold = self.holds.get(number)
        if hold is None or hold.state is State.CONFIRMED or hold.table is not table:
            return None
        if hold.digest != digest_of(owner):
            raise StoreError(f"NOHOLD token {number} is a hold of another owner")
        return hold

    def _offered(
        self,
        table: Table,
        criteria: Criteria,
        wanted: Wanted,
        terms: Terms,
        mine: Hold | None,
        *,
        needs_room: bool,
    ) -> list[int]:
        """What is chosen must be taken: nothing may refuse it behind that."""
        if self._deadlines:
            self.expire()
        offer = Offer(self._engine, table, criteria, wanted, mine)
        if offer.is_sold_out():
            return []
        if terms.most is not None:
            self._limit(table, terms, wanted.size, mine)
        if needs_room:
            self._need_room()
        return offer.choose()

    def _limit(self, table: Table, terms: Terms, more: int, mine: Hold | None) -> None:
        """Raises `LIMIT`."""
        self._engine.note(table.sales.position)
        self._engine.note(table.position)
        owned = table.sales.owned(digest_of(terms.owner)) - (mine.size if mine is not None else 0)
        if terms.most is not None and owned + more > terms.most:
            raise StoreError(f"LIMIT the owner has {owned} of at most {terms.most} here")

    def _need_room(self) -> None:
        """For a request or a hold to be remembered."""
        if not self.memory.has_room and not self._make_room():
            raise StoreError(
                "OOM command not allowed when what is remembered of requests and holds takes "
                f"{self.memory.bytes} bytes, the most is {self.memory.bytes_max}"
            )

    def _make_room(self) -> bool:
        """By what is to be forgotten, in whatever table: they share the room."""
        self.expire()
        for table in self._engine.tables.values():
            table.sales.requests.forget_old(self._engine.clock(), FORGET_WHEN_FULL)
            if self.memory.has_room:
                return True
        return False

    def _event(self, verb: Verb, table: Table, terms: Terms, wanted: Wanted, ids: list[int]) -> Event:
        return Event(
            verb,
            table.number,
            self.store_ms(),
            rows=tuple(ids),
            owner=terms.owner,
            field="" if wanted.field is None else wanted.field.decode(),
            units=wanted.units,
            request=terms.request,
            args=terms.args if terms.request else b"",
        )

    def _with_units(
        self, table: Table, changes: dict[bytes, Value], wanted: Wanted, ids: list[int]
    ) -> dict[bytes, Value]:
        if wanted.field is None:
            return changes
        return changes | {wanted.field: table.counter(ids[0], wanted.field) - wanted.units}

    # --- the end of a hold ----------------------------------------------------------------------------

    def table_of(self, number: int) -> Table:
        """Of a hold that is remembered. Raises `NOHOLD`."""
        self.expire()
        hold = self.holds.get(number)
        if hold is None:
            raise no_hold(number)
        return hold.table

    def confirm(self, number: int, changes: dict[bytes, Value], args: bytes) -> list[int]:
        """The rows that are sold with it. Raises `NOHOLD`, `REQUEST`, `RESOLD`."""
        hold = self.holds[number]
        table, engine = hold.table, self._engine
        engine.note(hold.position)
        if hold.state is State.CONFIRMED:
            if hold.args != args:
                raise StoreError("REQUEST this hold was confirmed with another SET")
            return list(hold.ids)
        if hold.state is State.LAPSED and (gone := self._gone(hold)):
            raise StoreError(" ".join(("RESOLD", *map(str, gone))))
        wanted = Wanted(ids=hold.ids, field=hold.field.encode() or None, units=hold.units)
        event = Event(Verb.CONFIRM, table.number, self.store_ms(), number, hold.ids, hold.holder, args=args)
        ids = list(hold.ids)
        digest, is_late = None if hold.units else hold.digest, hold.state is not State.LIVE
        self._sell(table, ids, fmt.Kind.CONFIRM, self._with_units(table, changes, wanted, ids), digest, event)
        table.tally.confirmed(len(ids), hold.units, is_late)
        return ids

    def _gone(self, hold: Hold) -> list[int]:
        """The rows of a hold that is over that another has by now, or that match no more."""
        table, now = hold.table, self._engine.clock()
        gone = []
        for row in hold.ids:
            values = table.read_trimmed(row)
            is_there = (
                values is not None
                and locks.is_free(table, row, now)
                and all(table.schema.value(values, name.encode()) == v for name, v in hold.criteria.items())
            )
            if is_there and hold.units:
                is_there = table.sales.units_left(row, hold.field.encode(), table) >= hold.units
            if not is_there:
                gone.append(row)
        return gone

    def release(self, number: int) -> int:
        """How many rows, or units, went back."""
        hold = self._live(number)
        if hold is None:
            return 0
        self._log(hold.table, [], Event(Verb.RELEASE, hold.table.number, self.store_ms(), number, hold.ids))
        hold.table.tally.holds_released += 1
        return hold.size

    def extend(self, number: int, px_ms: int) -> int:
        """The new deadline as unix ms. Raises `NOHOLD`."""
        hold = self._live(number)
        if hold is None:
            raise no_hold(number)
        deadline = self.deadline_ms(px_ms)
        self._log(
            hold.table, [], Event(Verb.EXTEND, hold.table.number, self.store_ms(), number, deadline=deadline)
        )
        return unix_ms() + px_ms

    def _live(self, number: int) -> Hold | None:
        self.expire()
        hold = self.holds.get(number)
        if hold is None:
            self._engine.note(self._engine.appended)  # whatever took it away
            return None
        self._engine.note(max(hold.position, hold.table.sales.position))
        return hold if hold.state is State.LIVE else None

    # --- refunds --------------------------------------------------------------------------------------

    def give_back(
        self, table: Table, ids: list[int], changes: dict[bytes, Value], terms: Terms, wanted: Wanted
    ) -> int:
        """KL.RETURN: how many rows, or units, went back. Raises `BUSY`, `REQUEST`, `OOM`."""
        if terms.request:
            known: int | None = self._known(table, terms)
            if known is not None:
                return known
        self.expire()
        digest = digest_of(terms.owner)
        mine = [row for row in ids if self._is_sold_to(table, row, digest, wanted)]
        now = self._engine.clock()
        self._engine.note(table.sales.position)
        if not mine:
            return 0
        if not all(locks.is_free(table, row, now) for row in mine):
            raise StoreError(f"BUSY a row of {table.name.decode()} is locked: ask again")
        if terms.request:
            self._need_room()
        count = wanted.units or len(mine)
        event = self._event(Verb.RETURN, table, terms, wanted, mine)
        event.answer = _pack(count) if terms.request else b""
        if wanted.field is not None:
            field = table.schema.field(wanted.field)
            total = table.counter(mine[0], wanted.field) + wanted.units
            if total > field.high:
                raise StoreError(f"ERR field '{field.name.decode()}': value is out of range: {total}")
            changes = changes | {wanted.field: total}
        digest_after = None if wanted.field else fmt.NO_OWNER
        self._sell(table, mine, fmt.Kind.RETURN, changes, digest_after, event)
        table.tally.returned(len(mine), wanted.units)
        return count

    def _is_sold_to(self, table: Table, row: int, digest: bytes, wanted: Wanted) -> bool:
        values = table.read(row)
        if values is None:
            self._engine.note(self._engine.catalog_position)
            return False
        self._engine.note(values[1])
        if wanted.field is None:
            return bool(values[2] == digest)
        key = (digest, row, wanted.field.decode())
        return table.sales.units_sold.get(key, 0) >= wanted.units

    # --- writing --------------------------------------------------------------------------------------

    def _sell(
        self,
        table: Table,
        ids: list[int],
        kind: fmt.Kind,
        changes: dict[bytes, Value],
        digest: bytes | None,
        event: Event | None,
    ) -> None:
        """Writes the rows as one frame with the event. `digest`: the new owner's; None leaves the old one."""
        engine, schema = self._engine, table.schema
        token = engine.draw_token()
        position, length = engine.wal.appended, table.record_bytes
        writes = []
        for row in ids:
            old = table.read_trimmed(row)
            assert old is not None
            fields = [*old]
            schema.assign(fields, changes)
            position += length
            fields[0], fields[1] = token, position
            if digest is not None:
                fields[2] = digest
            record = table.pack(length, int(kind), 0, table.number, row, old[1], *fields)
            writes.append((row, old, fields, record))
        self._log(table, [record for *_, record in writes], event)
        for row, old, fields, record in writes:
            table.apply(row, old, fields, record[fmt.RECORD.size :])
            table.sales.resold(old[2], fields[2])
        engine.note(position)

    def _log(self, table: Table, records: list[bytes], event: Event | None) -> None:
        engine = self._engine
        if event is None:
            engine.wal.append_frame(records)
            return
        body = events.encode(event)
        engine.wal.append_frame([*records, events.record_of(table.number, body)])
        self.apply(event, body, engine.appended)
        engine.note(engine.appended)
