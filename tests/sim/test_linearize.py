"""The checker and its model on histories made by hand: each must be judged rightly.

An operation is written `op(called, returned, command, reply)`; a moment is 1 ms, on the leases' clock too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.sim.by_hand import assert_verdict
from tests.sim.commands import (
    EMPTY,
    LOST,
    Command,
    Crash,
    Fields,
    Find,
    Insert,
    Multi,
    Replace,
    Seek,
    TryLock,
    Unlock,
)
from tests.sim.history import Op
from tests.sim.linearize import Verdict, judge
from tests.sim.state import Row, State

A: Fields = (1, 0, 0, b"a")
B: Fields = (2, 0, 0, b"b")
START = State(rows=((1, Row(None, EMPTY)), (2, Row(None, EMPTY))))
RIGHT, WRONG = Verdict.LINEARIZABLE, Verdict.WRONG
MS = 1_000_000


def op(called: float, returned: float | None, command: Command, reply: Any = LOST) -> Op:
    one = Op(0, command, called, int(called * MS))
    if returned is not None:
        one.answered(returned, int(returned * MS), reply)
    return one


def lock(*rows: int, ms: int = 1000, owner: bytes | None = None) -> TryLock:
    return TryLock(rows, ms, owner)


def both(first: Fields, second: Fields, token: int) -> Multi:
    return Multi((Replace(1, token, first), Replace(2, token, second)))


LOCKED = op(1, 2, lock(1), 7)
BOTH_LOCKED = op(1, 2, lock(1, 2), 7)
WRITTEN = op(3, 4, Replace(1, 7, A), "OK")
CRASH = op(50, 51, Crash(), "crash")

CASES: dict[str, tuple[Verdict, list[Op]]] = {
    # --- reads
    "a read of what is there": (RIGHT, [op(1, 2, Seek(1), EMPTY), op(1, 2, Seek(3), None)]),
    "a phantom write": (WRONG, [op(1, 2, Seek(1), A)]),
    "a phantom row": (WRONG, [op(1, 2, Seek(3), EMPTY)]),
    "a write is read": (RIGHT, [LOCKED, WRITTEN, op(5, 6, Seek(1), A)]),
    "a stale read behind a reply": (WRONG, [LOCKED, WRITTEN, op(5, 6, Seek(1), EMPTY)]),
    "a read beside the write may be old": (
        RIGHT,
        [LOCKED, op(3, 9, Replace(1, 7, A), "OK"), op(4, 5, Seek(1), EMPTY)],
    ),
    "a read beside the write may be new": (
        RIGHT,
        [LOCKED, op(3, 9, Replace(1, 7, A), "OK"), op(4, 5, Seek(1), A)],
    ),
    "reads in the wrong order": (
        WRONG,
        [LOCKED, op(3, 9, Replace(1, 7, A), "OK"), op(4, 5, Seek(1), A), op(6, 7, Seek(1), EMPTY)],
    ),
    "a row that went away": (WRONG, [op(1, 2, Seek(1), None)]),
    "a list has the row, and not the other": (
        RIGHT,
        [LOCKED, op(3, 9, Replace(1, 7, A), "OK"), op(4, 5, Find(1, 1), True), op(6, 7, Find(1, 0), False)],
    ),
    "a list is older than the row": (
        WRONG,
        [LOCKED, op(3, 9, Replace(1, 7, A), "OK"), op(4, 5, Seek(1), A), op(6, 7, Find(1, 1), False)],
    ),
    "a list of what is free": (
        RIGHT,
        [LOCKED, op(3, 4, Find(1, 0, free=True), False), op(3, 4, Find(1, 0), True)],
    ),
    "a locked row is listed as free": (WRONG, [LOCKED, op(3, 4, Find(1, 0, free=True), True)]),
    # --- locks
    "a lock is refused": (RIGHT, [LOCKED, op(3, 4, lock(1), None)]),
    "refused without a holder": (WRONG, [op(3, 4, lock(1), None)]),
    "a double grant": (WRONG, [LOCKED, op(3, 4, lock(1), 8)]),
    "a double grant side by side": (WRONG, [op(1, 9, lock(1), 7), op(1, 9, lock(1), 8)]),
    "side by side one is refused": (RIGHT, [op(1, 9, lock(1), 7), op(1, 9, lock(1), None)]),
    "a grant behind the lease": (RIGHT, [op(1, 1, lock(1, ms=5), 7), op(6, 6, lock(1), 8)]),
    "a grant before the lease's end": (WRONG, [op(1, 1, lock(1, ms=5), 7), op(5.9, 5.9, lock(1), 8)]),
    "refused behind the lease": (WRONG, [op(1, 1, lock(1, ms=5), 7), op(6, 6, lock(1), None)]),
    "at the end of a lease whose beginning is a range": (
        RIGHT,
        [op(1, 3, lock(1, ms=5), 7), op(7, 7, lock(1), None), op(7.5, 8.5, lock(1), 8)],
    ),
    "refused, and then granted too early for that": (
        WRONG,
        [op(1, 3, lock(1, ms=5), 7), op(6, 6, lock(1), 8), op(6.5, 6.5, Replace(1, 7, A), "OK")],
    ),
    "over for one, and later not over for another": (
        WRONG,
        [op(1, 3, lock(1, ms=5), 7), op(7, 7, Replace(1, 7, A), "NOLOCK"), op(7.5, 7.5, lock(1), None)],
    ),
    "a token that falls": (WRONG, [LOCKED, op(3, 4, Unlock((1,), 7), 1), op(5, 6, lock(1), 6)]),
    "a token that repeats": (WRONG, [LOCKED, op(3, 4, Unlock((1,), 7), 1), op(5, 6, lock(1), 7)]),
    "the same owner gets the same token": (
        RIGHT,
        [op(1, 2, lock(1, owner=b"o"), 7), op(3, 4, lock(1, owner=b"o"), 7)],
    ),
    "the same owner gets another token": (
        WRONG,
        [op(1, 2, lock(1, owner=b"o"), 7), op(3, 4, lock(1, owner=b"o"), 8)],
    ),
    "the same owner is refused": (
        WRONG,
        [op(1, 2, lock(1, owner=b"o"), 7), op(3, 4, lock(1, owner=b"o"), None)],
    ),
    "the same owner on other rows is refused": (
        RIGHT,
        [op(1, 2, lock(1, owner=b"o"), 7), op(3, 4, lock(1, 2, owner=b"o"), None)],
    ),
    "a resend begins the lease again": (
        RIGHT,
        [
            op(1, 1, lock(1, ms=5, owner=b"o"), 7),
            op(4, 4, lock(1, ms=5, owner=b"o"), 7),
            op(8, 8, lock(1), None),
            op(9, 9, lock(1), 8),
        ],
    ),
    "a lost grant, and its resend": (
        RIGHT,
        [op(1, None, lock(1, owner=b"o")), op(3, 4, lock(1), None), op(5, 6, lock(1, owner=b"o"), 7)],
    ),
    "a lost grant locks": (RIGHT, [op(1, None, lock(1)), op(3, 4, lock(1), None)]),
    "a lost grant locks nothing behind its lease": (
        WRONG,
        [op(1, 2, lock(1, ms=5), LOST), op(7.1, 7.1, lock(1), None)],
    ),
    "all rows or none": (WRONG, [LOCKED, op(3, 4, lock(1, 2), None), op(5, 6, lock(2), None)]),
    "a lock of an absent row": (RIGHT, [op(1, 2, lock(3), "NOROW")]),
    "a grant of an absent row": (WRONG, [op(1, 2, lock(1, 3), 7)]),
    "unlocked, and locked": (RIGHT, [LOCKED, op(3, 4, Unlock((1,), 7), 1), op(5, 6, lock(1), 9)]),
    "unlocked by a foreign token": (WRONG, [LOCKED, op(3, 4, Unlock((1,), 6), 1)]),
    "unlocked twice": (WRONG, [LOCKED, op(3, 4, Unlock((1,), 7), 1), op(5, 6, Unlock((1,), 7), 1)]),
    "one of two is unlocked": (
        RIGHT,
        [BOTH_LOCKED, op(3, 4, Unlock((1,), 7), 1), op(5, 6, lock(2), None), op(5, 6, lock(1), 9)],
    ),
    # --- writes
    "a write by another token": (WRONG, [LOCKED, op(3, 4, Replace(1, 6, A), "OK")]),
    "a write without a lock": (WRONG, [op(3, 4, Replace(1, 7, A), "OK")]),
    "a write is refused under its lock": (WRONG, [LOCKED, op(3, 4, Replace(1, 7, A), "NOLOCK")]),
    "a write behind the lease": (WRONG, [op(1, 1, lock(1, ms=5), 7), op(6, 6, Replace(1, 7, A), "OK")]),
    "a write behind the lease, after another's": (
        WRONG,
        [
            op(1, 1, lock(1, ms=5), 7),
            op(6, 6, lock(1, ms=5), 8),
            op(7, 7, Replace(1, 7, A), "OK"),
        ],
    ),
    "a resend of the write, behind the lease": (
        RIGHT,
        [op(1, 1, lock(1, ms=5), 7), op(2, 2, Replace(1, 7, A), "OK"), op(9, 9, Replace(1, 7, A), "OK")],
    ),
    "a resend is refused": (
        WRONG,
        [op(1, 1, lock(1, ms=5), 7), op(2, 2, Replace(1, 7, A), "OK"), op(9, 9, Replace(1, 7, A), "NOLOCK")],
    ),
    "a resend with other values": (
        WRONG,
        [op(1, 1, lock(1, ms=5), 7), op(2, 2, Replace(1, 7, A), "OK"), op(9, 9, Replace(1, 7, B), "OK")],
    ),
    "a resend behind another's write": (
        WRONG,
        [
            op(1, 2, lock(1), 7),
            op(3, 4, Replace(1, 7, A, unlock=True), "OK"),
            op(5, 6, lock(1), 8),
            op(7, 8, Replace(1, 8, B), "OK"),
            op(9, 10, Replace(1, 7, A), "OK"),
        ],
    ),
    "a lost update": (
        WRONG,
        [
            op(1, 2, lock(1), 7),
            op(3, 4, Replace(1, 7, A, unlock=True), "OK"),
            op(5, 6, lock(1), 8),
            op(7, 8, Seek(1), EMPTY),
        ],
    ),
    "a write that unlocks": (
        RIGHT,
        [LOCKED, op(3, 4, Replace(1, 7, A, unlock=True), "OK"), op(5, 6, lock(1), 8)],
    ),
    "a write that does not unlock": (WRONG, [LOCKED, WRITTEN, op(5, 6, lock(1), 8)]),
    "a lost write that took effect late": (
        RIGHT,
        [LOCKED, op(3, None, Replace(1, 7, A)), op(5, 6, Seek(1), EMPTY), op(7, 8, Seek(1), A)],
    ),
    "a lost write that came and went": (
        WRONG,
        [LOCKED, op(3, None, Replace(1, 7, A)), op(5, 6, Seek(1), A), op(7, 8, Seek(1), EMPTY)],
    ),
    "a lost write behind its end": (
        WRONG,
        [LOCKED, op(3, 4, Replace(1, 7, A)), op(5, 6, Seek(1), EMPTY), op(7, 8, Seek(1), A)],
    ),
    # --- insert
    "an insert, its resend, and another": (
        RIGHT,
        [op(1, 2, Insert(3, A), 1), op(3, 4, Insert(3, A), 1), op(5, 6, Insert(3, B), "EXISTS")],
    ),
    "two inserts": (WRONG, [op(1, 2, Insert(3, A), 1), op(3, 4, Insert(3, B), 1)]),
    "an insert over a row": (WRONG, [op(1, 2, Insert(1, A), 1)]),
    # --- MULTI
    "MULTI writes both": (RIGHT, [BOTH_LOCKED, op(3, 4, both(A, B, 7), ("OK", "OK")), op(5, 6, Seek(2), B)]),
    "MULTI writes one": (
        WRONG,
        [BOTH_LOCKED, op(3, 4, both(A, B, 7)), op(5, 6, Seek(1), A), op(7, 8, Seek(2), EMPTY)],
    ),
    "MULTI is seen half done": (
        WRONG,
        [
            BOTH_LOCKED,
            op(3, 9, both(A, B, 7), ("OK", "OK")),
            op(4, 5, Seek(1), A),
            op(6, 7, Seek(2), EMPTY),
        ],
    ),
    "MULTI reads one moment": (
        WRONG,
        [
            BOTH_LOCKED,
            op(3, 9, both(A, B, 7), ("OK", "OK")),
            op(3, 9, Multi((Seek(1), Seek(2))), (A, EMPTY)),
        ],
    ),
    # --- crashes
    "a crash drops locks": (
        RIGHT,
        [LOCKED, CRASH, op(52, 53, lock(1), 9), op(54, 55, Replace(1, 7, A), "NOLOCK")],
    ),
    "a lock outlives the crash": (WRONG, [LOCKED, CRASH, op(52, 53, lock(1), None)]),
    "a token works behind the crash": (WRONG, [LOCKED, CRASH, op(52, 53, Replace(1, 7, A), "OK")]),
    "a write is resent behind the crash": (
        RIGHT,
        [LOCKED, op(3, 50, Replace(1, 7, A)), CRASH, op(52, 53, Replace(1, 7, A), "OK")],
    ),
    "an acknowledged write is lost": (WRONG, [LOCKED, WRITTEN, CRASH, op(52, 53, Seek(1), EMPTY)]),
    "a read write is lost": (
        WRONG,
        [LOCKED, op(3, 50, Replace(1, 7, A)), op(5, 6, Seek(1), A), CRASH, op(52, 53, Seek(1), EMPTY)],
    ),
    "a lost write is lost": (
        RIGHT,
        [LOCKED, op(3, 50, Replace(1, 7, A)), CRASH, op(52, 53, Seek(1), EMPTY)],
    ),
    "a lost write is lost, yet its unlocking was seen": (
        RIGHT,
        [
            LOCKED,
            op(3, 50, Replace(1, 7, A, unlock=True)),
            op(5, 6, Unlock((1,), 7), 0),
            CRASH,
            op(52, 53, Seek(1), EMPTY),
        ],
    ),
    "the row of a write that is taken back was shown by a grant": (
        WRONG,
        [
            LOCKED,
            op(3, 50, Replace(1, 7, A, unlock=True)),
            op(5, 6, lock(1), 8),
            CRASH,
            op(52, 53, Seek(1), EMPTY),
        ],
    ),
    "a write behind one that is taken back": (
        WRONG,
        [
            BOTH_LOCKED,
            op(3, 50, Replace(1, 7, A)),
            op(5, 50, Seek(1)),
            op(5, 6, Unlock((2,), 7), 1),
            op(7, 8, Multi((Seek(1), Seek(2))), (A, EMPTY)),
            CRASH,
            op(52, 53, Seek(1), EMPTY),
        ],
    ),
    "a list shows a write that is lost": (
        WRONG,
        [LOCKED, op(3, 50, Replace(1, 7, A)), op(5, 6, Find(1, 1), True), CRASH, op(52, 53, Seek(1), EMPTY)],
    ),
    "half of a MULTI outlives the crash": (
        WRONG,
        [BOTH_LOCKED, op(3, 50, both(A, B, 7)), CRASH, op(52, 53, Seek(1), A), op(54, 55, Seek(2), EMPTY)],
    ),
    "all of a MULTI outlives the crash": (
        RIGHT,
        [BOTH_LOCKED, op(3, 50, both(A, B, 7)), CRASH, op(52, 53, Seek(1), A), op(54, 55, Seek(2), B)],
    ),
    "a write comes true behind the crash": (
        WRONG,
        [
            LOCKED,
            op(3, 50, Replace(1, 7, A)),
            CRASH,
            op(52, 53, Seek(1), EMPTY),
            op(54, 55, Seek(1), A),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_made_by_hand(name: str) -> None:
    assert_verdict(*CASES[name], START)


def test_enough_cases_of_each_verdict() -> None:
    verdicts = [verdict for verdict, _ in CASES.values()]
    assert verdicts.count(RIGHT) >= 25
    assert verdicts.count(WRONG) >= 35


def counting_up(clients: int, rounds: int) -> list[Op]:
    """Clients that lock, read and write in turns, each operation as wide as its neighbours allow."""
    ops: list[Op] = []
    fields, at = EMPTY, 0.0
    for number in range(rounds):
        token, after = number + 1, (1, number + 1, fields[1], b"")
        for command, reply in (
            (lock(1), token),
            (Seek(1), fields),
            (Replace(1, token, after, unlock=True), "OK"),
        ):
            one = op(at, at + 3, command, reply)
            one.client = number % clients
            ops.append(one)
            at += 1
        fields = after
    return ops


def test_a_hundred_operations_of_eight_clients() -> None:
    ops = counting_up(8, 33)
    for before, after in pairwise(ops):
        assert before.returned > after.called
    found = judge(ops, START)
    assert found.verdict is RIGHT
    assert found.steps < 2_000
    ops[50].reply = (9, 9, 9, b"")
    found = judge(ops, START)
    assert found.verdict is WRONG, str(found)


def test_a_budget_that_is_used_up_is_no_verdict() -> None:
    found = judge(counting_up(8, 33), START, steps_max=20)
    assert found.verdict is Verdict.UNKNOWN
    assert "budget" in str(found)
