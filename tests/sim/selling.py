"""What the selling verbs may do, one command after another: the part of the model that is about holds.

The contract leaves open what is said first when several refusals fit (too many for MAX, and not enough rows):
any of them is right. So is what becomes of REPLACING with a hold of somebody else's, as long as that stays.
Requests and ended holds are remembered for a day at least, give or take a minute here, and may be forgotten
then: a state that only differs in when they began is one state less to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sim.commands import Claim, Confirm, Fields, Hold, Release, Selling
from tests.sim.state import LET_GO, LIVE, OVER, PAID, Held, Request, Row, State

MS = 1_000_000
TICK_NS = MS  # a hold's deadline is told in whole ms, and comes that much later at most
MINUTE_NS = 60_000 * MS
REMEMBERED_NS = 86_400_000 * MS
Outcome = tuple[Any, State]


def rows_of(state: State, command: Selling) -> tuple[int, ...]:
    """The rows whose locks and holds it looks at."""
    if isinstance(command, Claim | Hold):
        return command.hall
    at = state.shop.at(command.token)
    return () if at is None else state.shop.holds[at].rows


def outcomes(state: State, command: Selling, reply: Any, late: int) -> Iterator[Outcome]:
    """All that is over on the rows is judged to be so."""
    if isinstance(command, Claim | Hold):
        yield from _with_request(state, command, reply, late)
        return
    at = state.shop.at(command.token)
    if at is None:
        yield (0 if isinstance(command, Release) else "NOHOLD"), state
        return
    held = state.shop.holds[at]
    if isinstance(command, Confirm):
        yield _confirm(state, at, command.fields)
    elif isinstance(command, Release):
        yield _release(state, at)
    elif held.phase != LIVE:
        yield "NOHOLD", state
    else:
        lasts = command.ms * MS
        later = held._replace(
            lasts=lasts,
            earliest=state.now + lasts,
            latest=late + lasts + TICK_NS,
            extended=held.extended + 1,
            ended=None,
        )
        yield True, state.with_hold(at, later)
    if held.phase in (OVER, PAID) and held.ended is not None and late >= held.ended + REMEMBERED_NS:
        yield (0 if isinstance(command, Release) else "NOHOLD"), state


def ended(held: Held, phase: str, at: int) -> Held:
    """The first end counts, also of one that a restart made live again, and of one that was paid late."""
    first = at - at % MINUTE_NS if held.ended is None else held.ended
    return held._replace(phase=phase, earliest=0, latest=0, ended=first)


def taken(state: State, rows: tuple[int, ...]) -> State:
    """Somebody has taken rows: what was held there once has come to its deadline for good."""
    for at, one in enumerate(state.shop.holds):
        if one.phase == OVER and not one.is_taken and any(row in one.rows for row in rows):
            state = state.with_hold(at, one._replace(is_taken=True))
    return state


def shows_what_is_lost(state: State, lost: State, command: Selling, answer: Any) -> bool:
    """Whether the answer would be another in the state that a crash leaves. All that write show it, too, but
    they are not asked about here; nor are refusals, which wait for everything."""
    if answer and isinstance(answer, tuple) and answer[0] == "RESOLD":
        return True
    if isinstance(command, Claim | Hold):
        if answer:
            return not any(one.id == command.request for one in lost.shop.requests)
        return not any(found == () for found, _ in _choose(lost, command, None, lost.now))
    at, at_lost = state.shop.at(command.token), lost.shop.at(command.token)
    if at is None or at_lost is None:
        return at != at_lost
    return state.shop.lasting().holds[at] != lost.shop.lasting().holds[at]


# --- CLAIM and HOLD -------------------------------------------------------------------------------------


def _with_request(state: State, command: Claim | Hold, reply: Any, late: int) -> Iterator[Outcome]:
    known = next((one for one in state.shop.requests if one.id == command.request), None)
    if known is None:
        yield from _choose(state, command, reply, late)
        return
    if known.command != command:
        yield "REQUEST", state
    else:
        yield _again(state, known, reply)
    if late >= known.made + REMEMBERED_NS:
        others = tuple(one for one in state.shop.requests if one is not known)
        fresh = state._replace(shop=state.shop._replace(requests=others))
        yield from _choose(fresh, command, reply, late)


def _again(state: State, known: Request, reply: Any) -> Outcome:
    if known.hold is None:
        return known.ids, state
    held = state.shop.holds[known.hold]
    if held.token is None and _names_a_hold(reply) and reply[0] > held.above:
        state = state.told_of(known.hold, reply[0], reply[2])
        held = state.shop.holds[known.hold]
    return (held.token, known.ids, held.deadline), state


def _names_a_hold(reply: Any) -> bool:
    return isinstance(reply, tuple) and len(reply) == 3 and isinstance(reply[1], tuple)


def _choose(state: State, command: Claim | Hold, reply: Any, late: int) -> Iterator[Outcome]:
    before = state
    if isinstance(command, Hold) and command.replacing is not None:
        at = state.shop.at(command.replacing)
        held = None if at is None else state.shop.holds[at]
        if at is not None and held is not None and held.phase == LIVE:
            if held.owner == command.owner:
                state = state.with_hold(at, ended(held, LET_GO, 0))
            else:  # refused, or nothing is let go of
                yield "NOHOLD", before
    rows = [row for row in command.hall if _matches(state, row, command.want)]
    if command.ids:
        wanted = sorted(set(command.ids))
        are_enough = all(row in rows for row in wanted)
        chosen = [row for row in wanted if state.is_free(row)]
    else:
        wanted = rows[: 1 if command.count is None else command.count]
        are_enough = len(wanted) == (1 if command.count is None else command.count)
        chosen = [row for row in rows if state.is_free(row)][: len(wanted)]
    count = len(set(command.ids)) or (1 if command.count is None else command.count)
    is_limited = command.most is not None and _owned(state, command.owner or b"") + count > command.most
    if is_limited:
        yield "LIMIT", before
    if not are_enough:
        yield (), before
    elif len(chosen) < count:
        yield "BUSY", before
    elif not is_limited:
        yield _take(taken(state, tuple(chosen)), command, tuple(chosen), reply, late)


def _matches(state: State, row: int, want: int) -> bool:
    there = state.row(row)
    return there is not None and there.fields[0] == want


def _owned(state: State, owner: bytes) -> int:
    """What was sold to an owner, and what it holds."""
    holds = [one for one in state.shop.holds if one.phase == LIVE and one.owner == owner]
    return sum(map(len, (one.rows for one in holds))) + sum(of == owner for _, of in state.shop.owners)


def _take(state: State, command: Claim | Hold, rows: tuple[int, ...], reply: Any, late: int) -> Outcome:
    answer: Any = rows
    at = None
    made = state.now - state.now % MINUTE_NS
    if isinstance(command, Claim):
        state = _sold(state, rows, command.fields, command.owner)
    else:
        at = len(state.shop.holds)
        lasts = command.ms * MS
        held = Held(
            None,
            state.token,
            command.owner,
            rows,
            command.want,
            lasts,
            state.now + lasts,
            late + lasts + TICK_NS,
        )
        state = state._replace(shop=state.shop._replace(holds=(*state.shop.holds, held)))
        answer = ("a token", rows)
        if _names_a_hold(reply):
            if reply[0] <= state.token:
                return "a token that does not rise", state
            state = state.told_of(at, reply[0], reply[2])
            answer = (reply[0], rows, reply[2])
    if command.request is not None:
        others = tuple(one for one in state.shop.requests if one.id != command.request)
        requests = sorted(
            (*others, Request(command.request, command, rows, at, made)), key=lambda one: one.id
        )
        state = state._replace(shop=state.shop._replace(requests=tuple(requests)))
    return answer, state


def _sold(state: State, rows: tuple[int, ...], fields: Fields, owner: bytes | None) -> State:
    owners = {row: of for row, of in state.shop.owners if row not in rows}
    if owner is not None:
        owners |= dict.fromkeys(rows, owner)
    for row in rows:
        state = state.with_row(row, Row(None, fields))
    return state._replace(shop=state.shop._replace(owners=tuple(sorted(owners.items()))))


# --- CONFIRM and RELEASE --------------------------------------------------------------------------------


def _confirm(state: State, at: int, fields: Fields) -> Outcome:
    held = state.shop.holds[at]
    if held.phase == LET_GO:
        return "NOHOLD", state
    if held.phase == PAID:
        return (held.rows if held.paid_with == fields else "REQUEST"), state
    if held.phase == OVER:
        gone = [row for row in held.rows if not (_matches(state, row, held.want) and state.is_free(row))]
        if gone:
            return ("RESOLD", *gone), state
    paid = state.with_hold(at, ended(held, PAID, min(held.earliest, state.now))._replace(paid_with=fields))
    return held.rows, _sold(taken(paid, held.rows), held.rows, fields, held.owner)


def _release(state: State, at: int) -> Outcome:
    held = state.shop.holds[at]
    if held.phase != LIVE:
        return 0, state
    return len(held.rows), state.with_hold(at, ended(held, LET_GO, 0))
