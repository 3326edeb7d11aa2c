"""What the selling verbs may do, one command after another: the part of the model that is about holds.

The contract leaves open what is said first when several refusals fit (too many for MAX, and not enough rows):
any of them is right. So is what becomes of REPLACING with a hold of somebody else's, as long as that stays.
Requests and ended holds are remembered for a day at least, give or take a minute here, and may be forgotten
then: a state that only differs in when they began is one state less to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.sim.commands import (
    Buying,
    Claim,
    Confirm,
    Fields,
    Hold,
    Holds,
    Release,
    Return,
    Selling,
    Take,
)
from tests.sim.state import LET_GO, LIVE, OVER, PAID, Held, Request, Shop, State, Write

MS = 1_000_000
TICK_NS = MS  # a hold's deadline is told in whole ms, and comes that much later at most
MINUTE_NS = 60_000 * MS
REMEMBERED_NS = 86_400_000 * MS
Outcome = tuple[Any, State]


def rows_of(state: State, command: Selling) -> tuple[int, ...]:
    """The rows whose locks and holds it looks at."""
    if isinstance(command, Claim | Hold):
        return command.hall
    if isinstance(command, Return | Holds):
        return command.rows
    if isinstance(command, Take):
        return (command.row,)
    at = state.shop.at(command.token)
    return () if at is None else state.shop.holds[at].rows


def outcomes(state: State, command: Selling, reply: Any, late: int) -> Iterator[Outcome]:
    """All that is over on the rows is judged to be so."""
    if isinstance(command, Buying):
        yield from _with_request(state, command, reply, late)
        return
    if isinstance(command, Holds):
        yield listed(state, command, reply, late)
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
        if one.phase == OVER and not one.is_shown and any(row in one.rows for row in rows):
            state = state.with_hold(at, one._replace(is_shown=True))
    return state


def shows_what_is_lost(state: State, lost: State, command: Selling, answer: Any) -> bool:
    """Whether the answer would be another in the state that a crash leaves. All that write show it, too, but
    they are not asked about here; nor are refusals, which wait for everything."""
    if answer and isinstance(answer, tuple) and answer[0] == "RESOLD":
        return True
    if isinstance(command, Buying):
        if answer:
            return not any(one.id == command.request for one in lost.shop.requests)
        return not any(found == answer for found, _ in _bought(lost, command, None, lost.now))
    if isinstance(command, Holds):
        return mine_of(state.shop.lasting(), command) != mine_of(lost.shop.lasting(), command)
    at, at_lost = state.shop.at(command.token), lost.shop.at(command.token)
    if at is None or at_lost is None:
        return at != at_lost
    return state.shop.lasting().holds[at] != lost.shop.lasting().holds[at]


# --- CLAIM and HOLD -------------------------------------------------------------------------------------


def _bought(state: State, command: Buying, reply: Any, late: int) -> Iterator[Outcome]:
    """Without a look at its REQUEST."""
    if isinstance(command, Claim | Hold):
        yield from _choose(state, command, reply, late)
    elif isinstance(command, Take):
        yield from _take_units(state, command, reply, late)
    else:
        yield _give_back(state, command)


def _with_request(state: State, command: Buying, reply: Any, late: int) -> Iterator[Outcome]:
    known = next((one for one in state.shop.requests if one.id == command.request), None)
    if known is None:
        yield from _bought(state, command, reply, late)
        return
    if known.command != command:
        yield "REQUEST", state
    else:
        yield _again(state, known, reply)
    if late >= known.made + REMEMBERED_NS:
        others = tuple(one for one in state.shop.requests if one is not known)
        fresh = state._replace(shop=state.shop._replace(requests=others))
        yield from _bought(fresh, command, reply, late)


def _again(state: State, known: Request, reply: Any) -> Outcome:
    if known.hold is None:
        return known.answer, state
    held = state.shop.holds[known.hold]
    if held.deadline is None and _names_a_hold(reply) and may_be(held, reply[0]):
        state = state.told_of(known.hold, reply[0], reply[2])
        held = state.shop.holds[known.hold]
    return (held.token, known.answer, held.deadline), state


def _names_a_hold(reply: Any) -> bool:
    return isinstance(reply, tuple) and len(reply) == 3 and isinstance(reply[1], tuple)


def _choose(state: State, command: Claim | Hold, reply: Any, late: int) -> Iterator[Outcome]:
    before = state
    if isinstance(command, Hold) and command.replacing is not None:
        at = state.shop.at(command.replacing)
        held = None if at is None else state.shop.holds[at]
        if at is not None and held is not None and held.phase in (LIVE, OVER):
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
    sold = sum(of == owner for _, of in state.shop.owners)
    units = sum(count for _, of, count in state.shop.units if of == owner)
    return sum(one.size for one in holds) + sold + units


def _take(state: State, command: Claim | Hold, rows: tuple[int, ...], reply: Any, late: int) -> Outcome:
    if isinstance(command, Claim):
        state = _sold(state, rows, command.fields, command.owner, ("claim", command.owner, command.request))
        return rows, _remembered(state, command, rows, None)
    return _kept(state, command, Aside(rows, command.want, command.ms, command.owner), reply, late)


class Aside(NamedTuple):
    """What a hold is about to keep."""

    rows: tuple[int, ...]
    want: int
    ms: int
    owner: bytes
    units: int = 0


def _kept(state: State, command: Buying, aside: Aside, reply: Any, late: int) -> Outcome:
    at, rows, lasts = len(state.shop.holds), aside.rows, aside.ms * MS
    latest = late + lasts + TICK_NS
    held = Held(None, state.token, aside.owner, rows, aside.want, lasts, state.now + lasts, latest)
    holds = (*state.shop.holds, held._replace(units=aside.units))
    state = state._replace(shop=state.shop._replace(holds=holds))
    answer: Any = ("a token", rows)
    if _names_a_hold(reply):
        if reply[0] <= state.token:
            return "a token that does not rise", state
        state = state.told_of(at, reply[0], reply[2])
        answer = (reply[0], rows, reply[2])
    return answer, _remembered(state, command, rows, at)


def _remembered(state: State, command: Buying, answer: Any, hold: int | None) -> State:
    if command.request is None:
        return state
    made = state.now - state.now % MINUTE_NS
    others = tuple(one for one in state.shop.requests if one.id != command.request)
    request = Request(command.request, command, answer, hold, made)
    requests = tuple(sorted((*others, request), key=lambda one: one.id))
    return state._replace(shop=state.shop._replace(requests=requests))


Told = tuple[str, bytes | None, bytes | None]  # of a write, in KL.HISTORY: verb, owner, request


def _sold(state: State, rows: tuple[int, ...], fields: Fields, owner: bytes | None, told: Told) -> State:
    owners = {row: of for row, of in state.shop.owners if row not in rows}
    if owner is not None:
        owners |= dict.fromkeys(rows, owner)
    state = _written(state, rows, fields, told)
    return state._replace(shop=state.shop._replace(owners=tuple(sorted(owners.items()))))


def _written(state: State, rows: tuple[int, ...], fields: Fields, told: Told) -> State:
    verb, owner, request = told
    for row in rows:
        before = state.row(row)
        assert before is not None
        state = state.with_row(row, before.written(Write(verb, None, owner, request, fields)))
    return state


# --- RETURN, and units of a counter ---------------------------------------------------------------------


def _give_back(state: State, command: Return) -> Outcome:
    told = "return", command.owner, command.request
    if command.units:
        (row,) = command.rows
        sold = _units_sold(state, row, command.owner)
        if sold < command.units:
            return 0, state
        if state.lease(row) is not None:
            return "BUSY", state
        state = _counted(state, row, command.owner, -command.units, told)
        return command.units, _remembered(state, command, command.units, None)
    mine = tuple(row for row in sorted(set(command.rows)) if (row, command.owner) in state.shop.owners)
    if not mine:
        return 0, state
    if not all(map(state.is_free, mine)):
        return "BUSY", state
    state = _sold(taken(state, mine), mine, command.fields, None, told)
    return len(mine), _remembered(state, command, len(mine), None)


def _take_units(state: State, command: Take, reply: Any, late: int) -> Iterator[Outcome]:
    row, units = state.row(command.row), command.units
    is_limited = command.most is not None and _owned(state, command.owner) + units > command.most
    if is_limited:
        yield "LIMIT", state
    if row is None or row.fields[1] < units:
        yield (), state
    elif not state.is_free(command.row) or _left(state, command.row) < units:
        yield "BUSY", state
    elif is_limited:
        return
    elif command.ms is not None:
        aside = Aside((command.row,), 0, command.ms, command.owner, units)
        yield _kept(state, command, aside, reply, late)
    else:
        told = "claim", command.owner, command.request
        after = _counted(state, command.row, command.owner, units, told)
        yield (command.row,), _remembered(after, command, (command.row,), None)


def _left(state: State, row: int) -> int:
    """Of a counter, what is neither sold nor held."""
    there = state.row(row)
    held = sum(one.units for one in state.shop.holds if one.phase == LIVE and row in one.rows)
    return (0 if there is None else there.fields[1]) - held


def _units_sold(state: State, row: int, owner: bytes) -> int:
    return next((count for of, to, count in state.shop.units if (of, to) == (row, owner)), 0)


def _counted(
    state: State, row: int, owner: bytes, units: int, told: Told, note: bytes | None = None
) -> State:
    """Units that are sold, or with a minus taken back."""
    state = taken(state, (row,))
    there = state.row(row)
    assert there is not None
    one, left, prev, before = there.fields
    state = _written(state, (row,), (one, left - units, prev, before if note is None else note), told)
    others = [each for each in state.shop.units if each[:2] != (row, owner)]
    total = _units_sold(state, row, owner) + units
    counts = sorted([*others, (row, owner, total)] if total else others)
    return state._replace(shop=state.shop._replace(units=tuple(counts)))


# --- HOLDS ----------------------------------------------------------------------------------------------


def mine_of(shop: Shop, command: Holds) -> list[tuple[int, Held]]:
    holds = enumerate(shop.holds)
    return [(at, one) for at, one in holds if one.phase == LIVE and one.owner == command.owner]


def may_be(held: Held, token: int) -> bool:
    return held.token == token or (held.token is None and token > held.above)


def listed(state: State, command: Holds, reply: Any, late: int) -> Outcome:
    """By ascending token; what is left of each is judged by when it may end."""
    mine = mine_of(state.shop, command)
    if not isinstance(reply, tuple) or len(reply) != len(mine):
        return "as many holds as there are", state
    tokens = [one[0] for one in reply]
    if tokens != sorted(set(tokens)):
        return "by ascending token", state
    # One after another was made, and each had a higher token than the one before.
    for (at, held), (token, owner, ids, ms_left) in zip(mine, reply, strict=True):
        if not may_be(held, token) or (owner, ids) != (held.owner, held.rows):
            return "this hold", state
        earliest = max(1, (held.earliest - late) // MS)
        if not earliest <= ms_left <= max(1, min(held.latest - state.now, held.lasts + TICK_NS) // MS):
            return "what is left of it", state
        state = state.told_of(at, token, held.deadline)
    return reply, state


# --- CONFIRM and RELEASE --------------------------------------------------------------------------------


def _confirm(state: State, at: int, fields: Fields) -> Outcome:
    held = state.shop.holds[at]
    if held.phase == LET_GO:
        return "NOHOLD", state
    if held.phase == PAID:
        return (held.rows if held.paid_with == fields else "REQUEST"), state
    if held.units and held.phase == OVER:
        (row,) = held.rows
        if state.lease(row) is not None or _left(state, row) < held.units:
            return ("RESOLD", row), state
    elif held.phase == OVER:
        gone = [row for row in held.rows if not (_matches(state, row, held.want) and state.is_free(row))]
        if gone:
            return ("RESOLD", *gone), state
    paid = state.with_hold(at, ended(held, PAID, min(held.earliest, state.now))._replace(paid_with=fields))
    told = "confirm", held.owner, None
    if held.units:
        return held.rows, _counted(paid, held.rows[0], held.owner, held.units, told, fields[3])
    return held.rows, _sold(taken(paid, held.rows), held.rows, fields, held.owner, told)


def _release(state: State, at: int) -> Outcome:
    held = state.shop.holds[at]
    if held.phase != LIVE:
        return 0, state
    return held.size, state.with_hold(at, ended(held, LET_GO, 0))
