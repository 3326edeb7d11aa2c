"""What rows and locks may do, one command after another: the model that histories are held against.

Time: an operation takes effect at some moment between its call and its reply, so a lease's deadline is known
as a range, and "over" and "not over" may both be possible. `State.now` is the earliest that the present
moment can be, and every decision makes it or the range narrower. Nothing that is possible is refused. Where
the clock stood still between call and reply, nothing impossible is let through either.

What the selling verbs do is in tests/sim/selling.py.

Crash: all locks go. Holds stay, and the time that the server was down does not count for them; how much of
its time a hold has left behind it is between what it had, and all that it was told. A write without a reply
may be taken back by the crash, and then every write behind it goes too, for the log is cut there. Until the
crash its effect is in memory: nobody gets a reply that shows it, but its UNLOCK can be seen. `State.kept` is
what there will be behind such a cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sim import selling
from tests.sim.commands import (
    DEFAULT_LEASE_MS,
    LOST,
    Command,
    Crash,
    Find,
    Multi,
    Past,
    Replace,
    Seek,
    Selling,
    Single,
    TryLock,
    Unlock,
    rows_of,
)
from tests.sim.state import LIVE, OVER, Held, Lease, Row, State, Write, inserted

Outcome = tuple[Any, State]


def successors(
    state: State, command: Command, reply: Any, called_ns: int, returned_ns: int, *, may_be_lost: bool
) -> Iterator[State]:
    """The states behind a command that takes effect now and answers `reply`; LOST fits any.

    `may_be_lost`: a crash comes later, and the command has no reply: its writes may be taken back.
    """
    if isinstance(command, Crash):
        yield _crashed(state, command, called_ns, returned_ns)
        return
    if returned_ns < state.now:
        return
    if called_ns > state.now and not isinstance(command, Seek | Past):  # whose moment no lease depends on
        state = state._replace(now=called_ns)
    for answer, after in outcomes(state, command, reply, returned_ns):
        if reply is not LOST:
            if answer != reply:
                continue
            after = _shown_over(after, command, answer)
        writes = after.lasting() != state.lasting()
        if state.kept is not None:
            if reply is LOST or (not writes and not _shows_what_is_lost(state, command, answer)):
                yield after
            continue
        yield after
        if writes and may_be_lost and reply is LOST:
            yield after._replace(kept=(state.rows, state.shop))


def _shown_over(state: State, command: Command, answer: Any) -> State:
    """The answer waited until the ends of the holds on its rows were written down, also where something that
    is lost comes behind them."""
    for at in _looked_at(state, command, answer):
        held = state.shop.holds[at]
        if held.phase == OVER and not held.is_shown:
            held = held._replace(is_shown=True)
            state = state.with_hold(at, held)
            if state.kept is not None and at < len(state.kept[1].holds):
                rows, shop = state.kept
                if shop.holds[at].phase in (LIVE, OVER):
                    state = state._replace(kept=(rows, shop.with_hold(at, held)))
    return state


def _looked_at(state: State, command: Command, answer: Any) -> list[int]:
    """The holds that an answer is about. Sold out is no matter of who holds what."""
    if isinstance(command, Multi):
        found = zip(command.parts, answer if isinstance(answer, tuple) else (), strict=False)
        return [at for part, one in found for at in _looked_at(state, part, one)]
    if isinstance(command, Selling):
        rows = () if answer == () else selling.rows_of(state, command)
    else:
        is_look = isinstance(command, TryLock) or (isinstance(command, Find) and command.free)
        rows = rows_of(command) if is_look and not isinstance(answer, str) else ()
    return [at for at, one in enumerate(state.shop.holds) if _is_on(one, rows)]


def _crashed(state: State, crash: Crash, called_ns: int, returned_ns: int) -> State:
    rows, shop = (state.rows, state.shop) if state.kept is None else state.kept
    now = max(state.now, called_ns)
    holds = tuple(_held_after(one, crash, now, returned_ns) for one in shop.holds)
    return State(rows, (), state.token, now, None, shop._replace(holds=holds))


def _held_after(one: Held, crash: Crash, now: int, late: int) -> Held:
    """What is left of a hold counts from here, and nobody knows what was written down of its time. One that
    came to its deadline may be live again, if nobody was shown that."""
    if one.phase not in (LIVE, OVER) or one.is_shown:
        return one
    earliest = one.earliest + crash.down_ns if one.phase == LIVE else now
    return one._replace(phase=LIVE, earliest=earliest, latest=late + one.lasts + selling.TICK_NS)


def _shows_what_is_lost(state: State, command: Command, answer: Any) -> bool:
    """A refusal and EXEC wait for all that was appended, the others for the rows that they show."""
    if isinstance(command, Multi) or isinstance(answer, str):
        return True
    if isinstance(command, Unlock):
        return False
    assert state.kept is not None
    lost = state._replace(rows=state.kept[0], shop=state.kept[1])
    if isinstance(command, Selling):
        return selling.shows_what_is_lost(state, lost, command, answer)
    if isinstance(command, Find):
        if command.free and _held_rows(state, command.row) != _held_rows(lost, command.row):
            return True
        return _has(state.row(command.row), command.state) != _has(lost.row(command.row), command.state)
    shown = set(rows_of(command))
    if isinstance(command, TryLock) and any(_held_rows(state, row) != _held_rows(lost, row) for row in shown):
        return True
    now, kept = state.rows, lost.rows
    return [pair for pair in now if pair[0] in shown] != [pair for pair in kept if pair[0] in shown]


def _held_rows(state: State, row: int) -> list[tuple[int, Held]]:
    """The holds that have the row, as they are written down."""
    return [(i, one) for i, one in enumerate(state.shop.lasting().holds) if row in one.rows]


def outcomes(state: State, command: Command, reply: Any, late: int) -> Iterator[Outcome]:
    """What may happen at a moment from `state.now` to `late`; `reply` tells the token that a grant drew."""
    if isinstance(command, Multi):
        yield from _all_of(state, command.parts, reply, late)
        return
    assert not isinstance(command, Crash)
    if isinstance(command, Selling):
        for decided in _decided(state, selling.rows_of(state, command), late):
            yield from selling.outcomes(decided, command, reply, late)
        return
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
    """For each lease and each hold on the rows: it is over, or it is not."""
    leases = [lease for lease in state.leases if _is_on(lease, rows)]
    holds = [i for i, one in enumerate(state.shop.holds) if one.phase == LIVE and _is_on(one, rows)]
    states = [state]
    for lease in leases:
        states = [after for one in states for after in _judged(one, lease, late)]
    for at in holds:
        states = [after for one in states for after in _hold_judged(one, at, late)]
    if len(leases) + len(holds) > 1:  # all at one moment
        states = [one for one in states if all(x.latest > one.now for x in _live_on(one, rows))]
    return states


def _live_on(state: State, rows: tuple[int, ...]) -> list[Lease | Held]:
    holds = [one for one in state.shop.holds if one.phase == LIVE and _is_on(one, rows)]
    return [*(lease for lease in state.leases if _is_on(lease, rows)), *holds]


def _judged(state: State, lease: Lease, late: int) -> Iterator[State]:
    if late < lease.earliest:
        yield state
        return
    others = state.without(lease)
    if state.now < lease.latest:
        yield others.with_lease(lease._replace(earliest=max(lease.earliest, state.now + 1)))
    yield others._replace(now=max(state.now, lease.earliest))


def _hold_judged(state: State, at: int, late: int) -> Iterator[State]:
    held = state.shop.holds[at]
    if late < held.earliest:
        yield state
        return
    if state.now < held.latest:
        yield state.with_hold(at, held._replace(earliest=max(held.earliest, state.now + 1)))
    yield state.with_hold(at, selling.ended(held, OVER, held.earliest))._replace(
        now=max(state.now, held.earliest)
    )


def _is_on(one: Lease | Held, rows: tuple[int, ...]) -> bool:
    return any(row in one.rows for row in rows)


def _one(state: State, command: Single, reply: Any, late: int) -> Outcome:
    """All leases and holds on its rows are live."""
    assert not isinstance(command, Selling)
    if isinstance(command, TryLock):
        return _try_lock(state, command, reply, late)
    if isinstance(command, Replace):
        return _replace(state, command)
    if isinstance(command, Unlock):
        return _unlock(state, command)
    row = state.row(command.row)
    if isinstance(command, Find):
        is_listed = _has(row, command.state)
        return is_listed and not (command.free and not state.is_free(command.row)), state
    if isinstance(command, Seek):
        return (None if row is None else row.fields), state
    if isinstance(command, Past):
        return (() if row is None else row.past), state
    if row is None:
        return 1, state.with_row(command.row, inserted(command.fields))
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
    if not all(map(state.is_free, rows)):
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
    write = Write("replace", command.token, None, None, command.fields)
    after = selling.taken(state.with_row(command.row, row.written(write)), (command.row,))
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
