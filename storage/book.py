"""What is remembered of sales: holds, answers to requests, who bought what of a counter.

`apply` is the one way that an event takes effect, live and at a start. A checkpoint keeps the events since
the last one (`cut`) in a file of its own.

Times: deadlines are ns of the monotonic clock; events bear ms of the store's own time, which goes on from
where the last server left it: where the last event was written. So time in which no server runs counts for
nobody. When a hold is first seen to be over, an event says how late it is (`expire`), and what shows the end
waits for that (`settle`): what was over once is over behind a crash, too.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.errors import StoreError
from storage.events import Event, Verb, decode, encode, record_of
from storage.holds import Hold, State, digest_of
from storage.requests import BYTES_MAX, KEEP_NS, Memory, Requests
from storage.schema import Value
from storage.table import Table

if TYPE_CHECKING:
    from storage.engine import Engine

MS = 1_000_000
STEP_EVENTS = 256
DEADLINES_SPARE = 1024  # of holds that are over, or were extended
_CLAIM = int(Verb.CLAIM)


@dataclass(frozen=True, slots=True)
class Statistics:
    holds_live: int
    holds_remembered: int  # live ones too
    requests_remembered: int
    bytes: int
    bytes_max: int
    keep_seconds: int


class Book:
    def __init__(self, engine: Engine, bytes_max: int = BYTES_MAX, keep_ns: int = KEEP_NS) -> None:
        self._engine = engine
        self.memory = Memory(bytes_max, keep_ns)
        self.holds: dict[int, Hold] = {}
        self._deadlines: list[tuple[int, int]] = []  # of live holds, and of some that are not any more
        self._ended: deque[int] = deque()  # holds in the order in which they ended
        self._ended_again: set[int] = set()  # a late payment: they are in there twice
        self._journal: list[bytes] = []  # encoded events since the last cut
        self._ahead_ns = 0  # of the store's time before the monotonic clock

    def adopt(self, table: Table) -> None:
        table.sales.requests = Requests(self.memory)

    def store_ms(self) -> int:
        return (self._engine.clock() + self._ahead_ns) // MS

    def deadline_ms(self, px_ms: int) -> int:
        """In the store's time; a part of a ms is the hold's."""
        return -(-(self._engine.clock() + self._ahead_ns) // MS) + px_ms

    # --- events ---------------------------------------------------------------------------------------

    def apply(self, event: Event, body: bytes, position: int) -> None:
        """What an event does beside its rows. Live, and for what a start finds in the log."""
        self._journal.append(body)
        self.take_up(event, position)

    def take_up(self, event: Event, position: int) -> None:
        """As `apply`, of what a checkpoint keeps. At a start times are the store's, until `opened`."""
        table = self._engine.by_number.get(event.table)
        if table is None:
            return
        at = event.at * MS - self._ahead_ns
        verb = event.verb
        if verb == _CLAIM:
            if event.units and event.owner:
                table.sales.add_units(digest_of(event.owner), event.rows[0], event.field, event.units)
        elif verb == Verb.HOLD:
            self._begin(table, event, position)
        elif verb == Verb.OWNED:
            table.sales.add_units(event.owner, event.rows[0], event.field, event.units)
        elif verb == Verb.RETURN and event.units:
            table.sales.add_units(digest_of(event.owner), event.rows[0], event.field, -event.units)
        elif event.token in self.holds:
            self._end(self.holds[event.token], event, position, at)
            table.sales.position = position
        if event.request:
            table.sales.requests.remember(event.request, position, event.args, event.answer, at)

    def _begin(self, table: Table, event: Event, position: int) -> None:
        if event.replacing in self.holds:
            self._forget(self.holds[event.replacing])
        deadline = event.deadline * MS - self._ahead_ns
        hold = Hold(
            event.token,
            table,
            event.rows,
            event.owner,
            deadline,
            table.sales.shared(event.criteria),
            event.field,
            event.units,
            position,
        )
        self.holds[event.token] = hold
        self.memory.bytes += hold.bytes
        table.sales.enlist(hold)
        table.sales.position = position
        heapq.heappush(self._deadlines, (deadline, event.token))

    def _end(self, hold: Hold, event: Event, position: int, at: int) -> None:
        sales = hold.table.sales
        hold.position = position
        if event.verb == Verb.EXTEND:
            hold.deadline = event.deadline * MS - self._ahead_ns
            heapq.heappush(self._deadlines, (hold.deadline, hold.number))
            if len(self._deadlines) > 2 * len(self.holds) + DEADLINES_SPARE:
                self._note_deadlines()  # whoever extends without end leaves as many behind
        elif event.verb == Verb.RELEASE:
            self._forget(hold)
        elif event.verb == Verb.CONFIRM:
            sales.strike(hold)
            hold.state, hold.args = State.CONFIRMED, event.args
            if hold.units:
                sales.add_units(hold.digest, hold.ids[0], hold.field, hold.units)
            self._remember_end(hold, at)

    def _forget(self, hold: Hold) -> None:
        hold.table.sales.strike(hold)
        del self.holds[hold.number]
        self.memory.bytes -= hold.bytes

    def settle(self, table: Table) -> None:
        """A reply is about to show what is free or held: it waits for what was written of holds."""
        if self._deadlines:
            self.expire()
        position, engine = table.sales.position, self._engine
        if position > engine.seen:
            engine.seen = position

    def expire(self) -> None:
        """What time has ended until now. Deadlines are judged at each use: this is how."""
        deadlines, ended = self._deadlines, self._ended
        if not deadlines and not ended:
            return
        now = self._engine.clock()
        if deadlines and deadlines[0][0] <= now and (lapsed := self._lapse(now)):
            self._write_down_time(lapsed)
        while ended:
            hold = self.holds.get(ended[0])
            is_first = ended[0] in self._ended_again
            if hold is not None and hold.until > now and not is_first:
                break
            self._ended_again.discard(ended.popleft())
            if hold is not None and not is_first:
                self._forget(hold)

    def _lapse(self, now: int) -> list[Hold]:
        """Ends the live holds that came to their deadline."""
        deadlines, lapsed = self._deadlines, []
        while deadlines and deadlines[0][0] <= now:
            _, number = heapq.heappop(deadlines)
            hold = self.holds.get(number)
            if hold is not None and hold.state is State.LIVE and hold.deadline <= now:
                hold.state = State.LAPSED
                hold.table.sales.strike(hold)
                self._remember_end(hold, now)
                lapsed.append(hold)
        return lapsed

    def _write_down_time(self, lapsed: list[Hold]) -> None:
        """Once for all that are over by now. It does not go into a checkpoint, which has the time itself."""
        number = lapsed[0].table.number
        body = encode(Event(Verb.PASSED, number, self.store_ms()))
        self._engine.wal.append_frame([record_of(number, body)])
        for hold in lapsed:
            hold.table.sales.position = self._engine.appended
            hold.table.tally.holds_expired += 1

    def _remember_end(self, hold: Hold, at: int) -> None:
        if hold.until:
            self._ended_again.add(hold.number)
        hold.until = at + self.memory.keep_ns
        self._ended.append(hold.number)

    def live_holds(self, table: Table, owner: bytes | None) -> list[Hold]:
        """By ascending token."""
        self.settle(table)
        sales = table.sales
        return list((sales.live if owner is None else sales.holds.get(digest_of(owner), {})).values())

    def statistics(self) -> Statistics:
        self.expire()
        sales, memory = [table.sales for table in self._engine.tables.values()], self.memory
        return Statistics(
            holds_live=sum(len(one.live) for one in sales),
            holds_remembered=len(self.holds),
            requests_remembered=sum(len(one.requests) for one in sales),
            bytes=memory.bytes,
            bytes_max=memory.bytes_max,
            keep_seconds=memory.keep_ns // 1_000_000_000,
        )

    def refuse_counters(
        self, table: Table, row: int, changes: dict[bytes, Value], old: tuple[Any, ...], lock: int
    ) -> None:
        """A counter from which units are held is changed by sales alone. They go on in spite of a lock, whose
        holder may have read the counter before, and has to lock and read again. Raises `BUSY`."""
        self.expire()
        for name in changes.keys() & table.schema.counters:
            if (row, name.decode()) in table.sales.units_held:
                raise StoreError(f"BUSY units of field '{name.decode()}' are held")
            if old[0] > lock:
                raise StoreError(f"BUSY units of field '{name.decode()}' were sold since the row was locked")

    def forget_table(self, table: Table) -> None:
        """It is dropped: its tokens are unknown for ever."""
        for number in [number for number, hold in self.holds.items() if hold.table is table]:
            self.memory.bytes -= self.holds.pop(number).bytes
        table.sales.requests.drop()

    # --- a start, and checkpoints ---------------------------------------------------------------------

    def resume(
        self, kept: Iterable[bytes], recent: list[tuple[int, bytes, Event]], store_ms: int
    ) -> Generator[None, None, None]:
        """The events that checkpoints kept, then those of the log; yields now and then."""
        latest_ms = store_ms
        for count, data in enumerate(kept):
            event = decode(data)
            self.take_up(event, 0)
            latest_ms = max(latest_ms, event.at)
            if count % STEP_EVENTS == 0:
                yield
        for count, (position, body, event) in enumerate(recent):
            if event.verb != Verb.PASSED:
                self.apply(event, body, position)
            if count % STEP_EVENTS == 0:
                yield
        self._opened(max(latest_ms, *(event.at for *_, event in recent), 0))

    def _opened(self, store_ms: int) -> None:
        """All events are applied, by the store's time: from here on it goes on with the clock."""
        ahead = store_ms * MS - self._engine.clock()
        self._ahead_ns = ahead
        for hold in self.holds.values():
            hold.deadline -= ahead
            hold.until -= ahead if hold.until else 0
        self._note_deadlines()
        self._lapse(self._engine.clock())
        for table in self._engine.tables.values():
            table.sales.requests.shift(-ahead)

    def _note_deadlines(self) -> None:
        """Anew, of live holds only."""
        self._deadlines = [(h.deadline, h.number) for h in self.holds.values() if h.state is State.LIVE]
        heapq.heapify(self._deadlines)

    def cut(self) -> list[bytes]:
        """The events since the last one, for a checkpoint to keep."""
        journal, self._journal = self._journal, []
        return journal

    def uncut(self, journal: list[bytes]) -> None:
        """That checkpoint was given up."""
        self._journal[:0] = journal


def unix_ms() -> int:
    return time.time_ns() // MS
