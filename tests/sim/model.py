"""What rows and locks may do, one command after another: the model that histories are held against.

Time: an operation takes effect at some moment between its call and its reply, so a lease's deadline is known
as a range, and "over" and "not over" may both be possible. `State.now` is the earliest that the present
moment can be, and every decision makes it or the range narrower. Nothing that is possible is refused. Where
the clock stood still between call and reply, nothing impossible is let through either.

Crash: all locks go. A write without a reply may be taken back by the crash, and then every write behind it
goes too, for the log is cut there. Until the crash its effect is in memory: nobody gets a reply that shows
the row, but its UNLOCK can be seen. `State.kept` is what the rows will be behind such a cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.sim.commands import (
    DEFAULT_LEASE_MS,
    LOST,
    Command,
    Crash,
    Fields,
    Find,
    Multi,
    Replace,
    Seek,
    Single,
    TryLock,
    Unlock,
    rows_of,
)


class Row(NamedTuple):
    token: int | None  # of the last write; None for one that no client can know
    fields: Fields


class Lease(NamedTuple):
    token: int | None  # None as long as no client was told
    above: int  # and then it is higher than this
    owner: bytes | None
    rows: tuple[int, ...]
    earliest: int  # of its deadline, ns
    latest: int


Rows = tuple[tuple[int, Row], ...]  # ascending; rows that are not there are not in it
Outcome = tuple[Any, "State"]


class State(NamedTuple):
    rows: Rows = ()
    leases: tuple[Lease, ...] = ()
    token: int = 0  # the highest that a client was told
    now: int = 0
    kept: Rows | None = None

    def row(self, number: int) -> Row | None:
        return next((row for other, row in self.rows if other == number), None)

    def lease(self, number: int) -> Lease | None:
        return next((lease for lease in self.leases if number in lease.rows), None)

    def with_row(self, number: int, row: Row) -> State:
        others = [pair for pair in self.rows if pair[0] != number]
        return self._replace(rows=tuple(sorted([*others, (number, row)])))

    def without(self, lease: Lease) -> State:
        return self._replace(leases=tuple(other for other in self.leases if other is not lease))

    def with_lease(self, lease: Lease) -> State:
        return self._replace(leases=tuple(sorted((*self.leases, lease), key=lambda one: one.rows)))


def successors(
    state: State, command: Command, reply: Any, called_ns: int, returned_ns: int, *, may_be_lost: bool
) -> Iterator[State]:
    """The states behind a command that takes effect now and answers `reply`; LOST fits any.

    `may_be_lost`: a crash comes later, and the command has no reply: its writes may be taken back.
    """
    if isinstance(command, Crash):
        rows = state.rows if state.kept is None else state.kept
        yield State(rows, (), state.token, max(state.now, called_ns))
        return
    if returned_ns < state.now:
        return
    if called_ns > state.now and not isinstance(command, Seek):  # whose moment no lease depends on
        state = state._replace(now=called_ns)
    for answer, after in outcomes(state, command, reply, returned_ns):
        if reply is not LOST and answer != reply:
            continue
        writes = after.rows != state.rows
        if state.kept is not None:
            if reply is LOST or (not writes and not _shows_what_is_lost(state, command, answer)):
                yield after
            continue
        yield after
        if writes and may_be_lost and reply is LOST:
            yield after._replace(kept=state.rows)


def _shows_what_is_lost(state: State, command: Command, answer: Any) -> bool:
    """A refusal and EXEC wait for all that was appended, the others for the rows that they show."""
    if isinstance(command, Multi) or isinstance(answer, str):
        return True
    if isinstance(command, Unlock):
        return False
    lost = State(state.kept or ())
    if isinstance(command, Find):
        return _has(state.row(command.row), command.state) != _has(lost.row(command.row), command.state)
    shown = set(rows_of(command))
    now, kept = state.rows, lost.rows
    return [pair for pair in now if pair[0] in shown] != [pair for pair in kept if pair[0] in shown]


def outcomes(state: State, command: Command, reply: Any, late: int) -> Iterator[Outcome]:
    """What may happen at a moment from `state.now` to `late`; `reply` tells the token that a grant drew."""
    if isinstance(command, Multi):
        yield from _all_of(state, command.parts, reply, late)
        return
    assert not isinstance(command, Crash)
    for decided in _decided(state, rows_of(command), late):
        yield _one(decided, command, reply, late)


def _all_of(state: State, parts: tuple[Single, ...], reply: Any, late: int) -> Iterator[Outcome]:
    if not parts:
        yield (), state
        return
    first = reply[0] if isinstance(reply, tuple) else LOST
    others = reply[1:] if isinstance(reply, tuple) else LOST
    for answer, after in outcomes(state, parts[0], first, late):
        if first is LOST or answer == first:
            for answers, end in _all_of(after, parts[1:], others, late):
                yield (answer, *answers), end


def _decided(state: State, rows: tuple[int, ...], late: int) -> list[State]:
    """For each lease on the rows: it is over, and gone, or it is not."""
    leases = [lease for lease in state.leases if _is_on(lease, rows)]
    states = [state]
    for lease in leases:
        states = [after for one in states for after in _judged(one, lease, late)]
    if len(leases) > 1:  # all at one moment
        states = [one for one in states if all(x.latest > one.now for x in one.leases if _is_on(x, rows))]
    return states


def _judged(state: State, lease: Lease, late: int) -> Iterator[State]:
    if late < lease.earliest:
        yield state
        return
    others = state.without(lease)
    if state.now < lease.latest:
        yield others.with_lease(lease._replace(earliest=max(lease.earliest, state.now + 1)))
    yield others._replace(now=max(state.now, lease.earliest))


def _is_on(lease: Lease, rows: tuple[int, ...]) -> bool:
    return any(row in lease.rows for row in rows)


def _one(state: State, command: Single, reply: Any, late: int) -> Outcome:
    """All leases on its rows are live."""
    if isinstance(command, TryLock):
        return _try_lock(state, command, reply, late)
    if isinstance(command, Replace):
        return _replace(state, command)
    if isinstance(command, Unlock):
        return _unlock(state, command)
    row = state.row(command.row)
    if isinstance(command, Find):
        is_listed = _has(row, command.state)
        return is_listed and not (command.free and state.lease(command.row)), state
    if isinstance(command, Seek):
        return (None if row is None else row.fields), state
    if row is None:
        return 1, state.with_row(command.row, Row(None, command.fields))
    return (1 if row.fields == command.fields else "EXISTS"), state


def _has(row: Row | None, state: int) -> bool:
    return row is not None and row.fields[0] == state


def _try_lock(state: State, command: TryLock, reply: Any, late: int) -> Outcome:
    rows = tuple(sorted(set(command.rows)))
    if any(state.row(row) is None for row in rows):
        return "NOROW", state
    lease_ns = (DEFAULT_LEASE_MS if command.ms is None else command.ms) * 1_000_000
    earliest, latest = state.now + lease_ns, late + lease_ns
    told = reply if isinstance(reply, int) else None
    held = state.lease(command.rows[0])
    if held is not None and held.owner is not None and held.owner == command.owner and held.rows == rows:
        token = held.token
        if token is None and told is not None and told > held.above:
            token = told
        again = held._replace(token=token, earliest=earliest, latest=latest)
        after = state.without(held).with_lease(again)
        return token or "a token", after._replace(token=max(state.token, token or 0))
    if any(state.lease(row) is not None for row in rows):
        return None, state
    if told is not None and told <= state.token:
        return "a token that does not rise", state
    above = state.token if told is None else told
    after = state.with_lease(Lease(told, above, command.owner, rows, earliest, latest))
    return told or "a token", after._replace(token=above)


def _replace(state: State, command: Replace) -> Outcome:
    row = state.row(command.row)
    if row is None:
        return "NOROW", state
    lease = state.lease(command.row)
    if lease is None or lease.token != command.token:
        is_resend = row.token == command.token and row.fields == command.fields
        return ("OK" if is_resend else "NOLOCK"), state
    after = state.with_row(command.row, Row(command.token, command.fields))
    return "OK", _released(after, lease, command.row) if command.unlock else after


def _unlock(state: State, command: Unlock) -> Outcome:
    count = 0
    for row in command.rows:
        lease = state.lease(row)
        if lease is not None and lease.token == command.token:
            state = _released(state, lease, row)
            count += 1
    return count, state


def _released(state: State, lease: Lease, row: int) -> State:
    left = tuple(other for other in lease.rows if other != row)
    after = state.without(lease)
    return after.with_lease(lease._replace(rows=left)) if left else after
