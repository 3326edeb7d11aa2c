"""The checker and its model on holds made by hand, and on what a crash leaves of sales.

As in test_linearize_selling.py: seats 1, 2, 3 are a hall, a moment is 1 ms.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.by_hand import assert_verdict
from tests.sim.commands import (
    EMPTY,
    Command,
    Crash,
    Extend,
    Find,
    Multi,
    Release,
    Replace,
    Seek,
    TryLock,
    Unlock,
)
from tests.sim.history import Op
from tests.sim.linearize import Verdict, judge
from tests.sim.test_linearize import op
from tests.sim.test_linearize_selling import (
    DAY,
    HELD,
    RIGHT,
    S1,
    S2,
    S3,
    SOLD_OUT,
    START,
    WRONG,
    claim,
    hold,
    pay,
    sold,
)

SHORT = op(1, 1, hold(5, ids=(S1, S2)), (7, (S1, S2), 99))  # over at 6, or 1 ms later
CRASH = op(50, 51, Crash(), "crash")

CASES: dict[str, tuple[Verdict, list[Op]]] = {
    # --- holds
    "what is held is nobody else's": (
        RIGHT,
        [
            HELD,
            op(3, 4, TryLock((S1,)), None),
            op(3, 4, Find(S2, 0, free=True), False),
            op(3, 4, Find(S2, 0), True),
            op(3, 4, Seek(S1), EMPTY),
            op(5, 6, claim(), (S3,)),
        ],
    ),
    "what is held is locked": (WRONG, [HELD, op(3, 4, TryLock((S1,)), 8)]),
    "what is held is listed as free": (WRONG, [HELD, op(3, 4, Find(S2, 0, free=True), True)]),
    "what is held is claimed": (WRONG, [HELD, op(3, 4, claim(), (S1,))]),
    "what is held is held again": (WRONG, [HELD, op(3, 4, hold(), (8, (S1,), 99))]),
    "what is locked is held": (WRONG, [op(1, 2, TryLock((S1,)), 7), op(3, 4, hold(), (8, (S1,), 99))]),
    "a hold's token repeats a lock's": (
        WRONG,
        [op(1, 2, TryLock((S1,)), 7), op(3, 4, hold(), (7, (S2,), 99))],
    ),
    "a lock's token falls below a hold's": (WRONG, [HELD, op(3, 4, TryLock((S3,)), 6)]),
    "a hold's token is no lock": (
        RIGHT,
        [HELD, op(3, 4, Replace(S1, 7, sold()), "NOLOCK"), op(5, 6, Unlock((S1,), 7), 0)],
    ),
    "a hold's token writes": (WRONG, [HELD, op(3, 4, Replace(S1, 7, sold()), "OK")]),
    "a lock's token is no hold": (
        RIGHT,
        [
            op(1, 2, TryLock((S1,)), 7),
            op(3, 4, pay(7), "NOHOLD"),
            op(5, 6, Extend(7, 1), "NOHOLD"),
            op(7, 8, Release(7), 0),
        ],
    ),
    "released, and free": (RIGHT, [HELD, op(3, 4, Release(7), 2), op(5, 6, claim(count=3), (S1, S2, S3))]),
    "released twice": (WRONG, [HELD, op(3, 4, Release(7), 2), op(5, 6, Release(7), 2)]),
    "released, and sold": (WRONG, [HELD, op(3, 4, Release(7), 2), op(5, 6, pay(7), (S1, S2))]),
    "replaced": (
        RIGHT,
        [
            HELD,
            op(3, 4, hold(ids=(S2, S3), replacing=7), (8, (S2, S3), 99)),
            op(5, 6, pay(7), "NOHOLD"),
            op(7, 8, claim(), (S1,)),
        ],
    ),
    "replaced by another owner": (
        WRONG,
        [HELD, op(3, 4, hold(owner=b"bob", replacing=7, ids=(S1,)), (8, (S1,), 99))],
    ),
    "replaced by what was not to be had": (
        WRONG,
        [SOLD_OUT, op(3, 4, hold(replacing=7), ()), HELD],
    ),
    "kept when the new one was not to be had": (
        RIGHT,
        [
            HELD,
            op(3, 4, claim(), (S3,)),
            op(5, 6, hold(count=3, replacing=7), ()),
            op(7, 8, pay(7), (S1, S2)),
        ],
    ),
    # --- the deadline
    "over for a claim": (RIGHT, [SHORT, op(6, 6, claim(), (S1,))]),
    "over too early": (WRONG, [SHORT, op(5.9, 5.9, claim(), (S1,))]),
    "blocks at its end, by a tick": (RIGHT, [SHORT, op(6.9, 6.9, claim(ids=(S1,)), "BUSY")]),
    "blocks behind its end": (WRONG, [SHORT, op(7, 7, claim(ids=(S1,)), "BUSY")]),
    "over for one, and later not for another": (
        WRONG,
        [
            op(1, 3, hold(5), (7, (S1,), 99)),
            op(7, 7, Extend(7, 5), "NOHOLD"),
            op(7.5, 7.5, TryLock((S1,)), None),
        ],
    ),
    "extended": (
        RIGHT,
        [SHORT, op(5, 5, Extend(7, 5), True), op(9.9, 9.9, claim(), (S3,)), op(10, 10, TryLock((S1,)), 8)],
    ),
    "extended, and over as if not": (
        WRONG,
        [SHORT, op(5, 5, Extend(7, 5), True), op(9.9, 9.9, TryLock((S1,)), 8)],
    ),
    "extended behind its end": (WRONG, [SHORT, op(7, 7, Extend(7, 5), True)]),
    "released behind its end": (RIGHT, [SHORT, op(6, 6, Release(7), 0), op(7, 8, pay(7), (S1, S2))]),
    # --- confirm
    "paid": (RIGHT, [HELD, op(3, 4, pay(7, b"a"), (S1, S2)), op(5, 6, Seek(S2), sold(b"a"))]),
    "paid twice with one word": (RIGHT, [HELD, op(3, 4, pay(7), (S1, S2)), op(5, 6, pay(7), (S1, S2))]),
    "paid with another word": (
        RIGHT,
        [HELD, op(3, 4, pay(7), (S1, S2)), op(5, 6, pay(7, b"x"), "REQUEST"), op(7, 8, Seek(S1), sold())],
    ),
    "paid again with another word": (
        WRONG,
        [HELD, op(3, 4, pay(7), (S1, S2)), op(5, 6, pay(7, b"x"), (S1, S2))],
    ),
    "paid, and free again": (WRONG, [HELD, op(3, 4, pay(7), (S1, S2)), op(5, 6, claim(), (S1,))]),
    "refused in time": (WRONG, [HELD, op(3, 4, pay(7), ("RESOLD", S1))]),
    "paid late": (RIGHT, [SHORT, op(9, 9, pay(7), (S1, S2)), op(10, 10, claim(), (S3,))]),
    "paid late, one is resold": (
        RIGHT,
        [
            SHORT,
            op(7, 7, claim(b"b"), (S1,)),
            op(8, 8, pay(7, b"a"), ("RESOLD", S1)),
            op(9, 9, Seek(S1), sold(b"b")),
            op(9, 9, Seek(S2), EMPTY),
        ],
    ),
    "paid late, and sold twice": (WRONG, [SHORT, op(7, 7, claim(), (S1,)), op(8, 8, pay(7), (S1, S2))]),
    "paid late, the wrong one is named": (
        WRONG,
        [SHORT, op(7, 7, claim(), (S1,)), op(8, 8, pay(7), ("RESOLD", S2))],
    ),
    "paid late, not all are named": (
        WRONG,
        [SHORT, op(7, 7, claim(count=2), (S1, S2)), op(8, 8, pay(7), ("RESOLD", S1))],
    ),
    "refused late, and half of it sold": (
        WRONG,
        [
            SHORT,
            op(7, 7, claim(), (S1,)),
            op(8, 8, pay(7, b"a"), ("RESOLD", S1)),
            op(9, 9, Seek(S2), sold(b"a")),
        ],
    ),
    "paid late, one is held by another": (
        RIGHT,
        [
            SHORT,
            op(7, 7, hold(owner=b"bob"), (8, (S1,), 99)),
            op(8, 8, pay(7), ("RESOLD", S1)),
            op(9, 9, Release(8), 1),
            op(10, 10, pay(7), (S1, S2)),
        ],
    ),
    "refused late, though all is free": (WRONG, [SHORT, op(8, 8, pay(7), ("RESOLD", S1))]),
    "unknown late, within a day": (WRONG, [SHORT, op(DAY - 1, DAY - 1, pay(7), "NOHOLD")]),
    "unknown behind a day": (RIGHT, [SHORT, op(DAY + 7, DAY + 7, pay(7), "NOHOLD")]),
    "known behind a day": (RIGHT, [SHORT, op(DAY + 7, DAY + 7, pay(7), (S1, S2))]),
    # --- MULTI
    "two claims in one": (
        RIGHT,
        [op(1, 2, Multi((claim(), claim(count=2), claim())), ((S1,), (S2, S3), ()))],
    ),
    "two claims in one, half of it seen": (
        WRONG,
        [
            op(1, None, Multi((claim(b"a"), claim(b"b")))),
            op(3, 4, Seek(S1), sold(b"a")),
            op(5, 6, Seek(S2), EMPTY),
        ],
    ),
    # --- crashes
    "sales survive": (RIGHT, [SOLD_OUT, CRASH, op(52, 53, claim(), ())]),
    "a sale is lost": (WRONG, [SOLD_OUT, CRASH, op(52, 53, claim(), (S1,))]),
    "a hold survives": (
        RIGHT,
        [HELD, CRASH, op(52, 53, TryLock((S1,)), None), op(54, 55, pay(7), (S1, S2))],
    ),
    "a hold is lost": (WRONG, [HELD, CRASH, op(52, 53, claim(), (S1,))]),
    "a hold is lost for its owner": (WRONG, [HELD, CRASH, op(52, 53, pay(7), "NOHOLD")]),
    "a lost hold is lost": (RIGHT, [op(1, 50, hold()), CRASH, op(52, 53, claim(), (S1,))]),
    "a lost hold is lost, though it was seen": (
        WRONG,
        [op(1, 50, hold()), op(3, 4, claim(ids=(S1,)), "BUSY"), CRASH, op(52, 53, claim(), (S1,))],
    ),
    "a lost hold is lost, though a lock was refused for it": (
        WRONG,
        [op(1, 50, hold()), op(3, 4, TryLock((S1,)), None), CRASH, op(52, 53, claim(), (S1,))],
    ),
    "a lost claim is lost, though its resend was answered": (
        WRONG,
        [
            op(1, 50, claim(request=b"r")),
            op(3, 4, claim(request=b"r"), (S1,)),
            CRASH,
            op(52, 53, claim(), (S1,)),
        ],
    ),
    "a resend behind a crash": (
        RIGHT,
        [
            op(1, 50, claim(request=b"r")),
            CRASH,
            op(52, 53, claim(request=b"r"), (S1,)),
            op(54, 55, claim(), (S2,)),
        ],
    ),
    "a resend behind a crash bought twice": (
        WRONG,
        [op(1, 2, claim(request=b"r"), (S1,)), CRASH, op(52, 53, claim(request=b"r"), (S2,))],
    ),
    "a release is lost": (WRONG, [HELD, op(3, 4, Release(7), 2), CRASH, op(52, 53, pay(7), (S1, S2))]),
    "a lost release is lost": (
        RIGHT,
        [HELD, op(3, 50, Release(7)), CRASH, op(52, 53, pay(7), (S1, S2))],
    ),
    "a lost release is lost, though it was told again": (
        WRONG,
        [HELD, op(3, 50, Release(7)), op(5, 6, Release(7), 0), CRASH, op(52, 53, pay(7), (S1, S2))],
    ),
    "owners are remembered": (
        RIGHT,
        [op(1, 2, claim(owner=b"ann"), (S1,)), CRASH, op(52, 53, claim(owner=b"ann", most=1), "LIMIT")],
    ),
    "owners are forgotten": (
        WRONG,
        [op(1, 2, claim(owner=b"ann"), (S1,)), CRASH, op(52, 53, claim(owner=b"ann", most=1), (S2,))],
    ),
    "a deadline comes later behind a restart": (
        RIGHT,
        [op(45, 45, hold(10), (7, (S1,), 99)), CRASH, op(60.9, 60.9, TryLock((S1,)), None)],
    ),
    "a deadline comes later than all that it was told": (
        WRONG,
        [op(45, 45, hold(10), (7, (S1,), 99)), CRASH, op(62, 62, TryLock((S1,)), None)],
    ),
    "a deadline comes sooner behind a restart": (
        WRONG,
        [op(45, 45, hold(10), (7, (S1,), 99)), CRASH, op(54.9, 54.9, claim(), (S1,))],
    ),
    "time without a server counts": (
        WRONG,
        [
            op(45, 45, hold(10), (7, (S1,), 99)),
            op(50, 51, Crash(down_ns=3_000_000), "crash"),
            op(57.9, 57.9, claim(), (S1,)),
        ],
    ),
    "one that was over is live again, for nobody saw it so": (
        RIGHT,
        [SHORT, CRASH, op(52, 52, TryLock((S1,)), None)],
    ),
    "one that was told to be over is live again": (
        WRONG,
        [SHORT, op(8, 8, Extend(7, 5), "NOHOLD"), CRASH, op(52, 52, TryLock((S1,)), None)],
    ),
    "one whose row was locked since is live again": (
        WRONG,
        [SHORT, op(8, 8, TryLock((S1,)), 9), CRASH, op(52, 52, Release(7), 2)],
    ),
    "one that nobody was told to be over is live again": (
        RIGHT,
        [SHORT, op(8, 49, Extend(7, 5)), CRASH, op(52, 52, TryLock((S1,)), None)],
    ),
    "one that was over blocks what was sold since": (
        WRONG,
        [SHORT, op(8, 8, claim(), (S1,)), CRASH, op(52, 52, TryLock((S1,)), None)],
    ),
    "one that was over sells what was sold since": (
        WRONG,
        [SHORT, op(8, 8, claim(), (S1,)), CRASH, op(52, 52, pay(7), (S1, S2))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_made_by_hand(name: str) -> None:
    assert_verdict(*CASES[name], START)


def test_enough_cases_of_each_verdict() -> None:
    verdicts = [verdict for verdict, _ in CASES.values()]
    assert verdicts.count(RIGHT) >= 25
    assert verdicts.count(WRONG) >= 35


def counting_down(clients: int, rounds: int) -> list[Op]:
    """Clients that hold, pay and give up in turns, each operation as wide as its neighbours allow."""
    ops: list[Op] = []
    at = 0.0
    for number in range(rounds):
        token = number + 1
        commands: list[tuple[Command, Any]] = [
            (hold(ids=(S1,), request=b"%d" % number), (token, (S1,), 99)),
            (claim(ids=(S1,)), "BUSY"),
            (Release(token), 1),
        ]
        for command, reply in commands:
            one = op(at, at + 3, command, reply)
            one.client = number % clients
            ops.append(one)
            at += 1
    return ops


def test_a_hundred_operations_of_eight_clients() -> None:
    ops = counting_down(8, 33)
    found = judge(ops, START)
    assert found.verdict is RIGHT
    assert found.steps < 4_000
    ops[60].reply = (1, (S1,), 99)
    assert judge(ops, START).verdict is WRONG
