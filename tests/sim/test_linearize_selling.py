"""The checker and its model on claims made by hand: each history must be judged rightly.

As in test_linearize.py: `op(called, returned, command, reply)`, a moment is 1 ms. Seats 1, 2, 3 are a hall.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.by_hand import assert_verdict
from tests.sim.commands import (
    EMPTY,
    HALLS_FROM,
    Claim,
    Confirm,
    Fields,
    Hold,
    Release,
    Seek,
    TryLock,
    Unlock,
)
from tests.sim.history import Op
from tests.sim.linearize import Verdict
from tests.sim.state import Row, State
from tests.sim.test_linearize import op

HALL = S1, S2, S3 = (HALLS_FROM, HALLS_FROM + 1, HALLS_FROM + 2)
START = State(rows=tuple((row, Row(None, EMPTY)) for row in HALL))
RIGHT, WRONG = Verdict.LINEARIZABLE, Verdict.WRONG
DAY = 86_400_000  # ms


def sold(note: bytes = b"") -> Fields:
    return (1, 0, 0, note)


def claim(note: bytes = b"", **more: Any) -> Claim:
    return Claim(HALL, 0, sold(note), **more)


def hold(ms: int = 1000, owner: bytes = b"ann", **more: Any) -> Hold:
    return Hold(HALL, 0, ms, owner, **more)


def pay(token: int, note: bytes = b"") -> Confirm:
    return Confirm(token, sold(note))


HELD = op(1, 2, hold(ids=(S1, S2)), (7, (S1, S2), 99))
SOLD_OUT = op(1, 2, claim(count=3), (S1, S2, S3))

CASES: dict[str, tuple[Verdict, list[Op]]] = {
    # --- claims
    "the lowest": (RIGHT, [op(1, 2, claim(), (S1,)), op(3, 4, claim(count=2), (S2, S3))]),
    "not the lowest": (WRONG, [op(1, 2, claim(), (S2,))]),
    "a seat is claimed twice": (WRONG, [op(1, 2, claim(), (S1,)), op(3, 4, claim(), (S1,))]),
    "a seat is claimed twice, side by side": (WRONG, [op(1, 9, claim(), (S1,)), op(1, 9, claim(), (S1,))]),
    "side by side each gets one": (
        RIGHT,
        [op(1, 9, claim(), (S2,)), op(1, 9, claim(), (S1,)), op(1, 9, claim(), (S3,)), op(1, 9, claim(), ())],
    ),
    "fewer than asked for": (WRONG, [op(1, 2, claim(), (S1,)), op(3, 4, claim(count=3), (S2, S3))]),
    "what was claimed is read": (RIGHT, [op(1, 2, claim(b"a"), (S1,)), op(3, 4, Seek(S1), sold(b"a"))]),
    "what was claimed is not read": (WRONG, [op(1, 2, claim(b"a"), (S1,)), op(3, 4, Seek(S1), EMPTY)]),
    "what was not claimed is read": (WRONG, [op(1, 2, claim(b"a"), ()), op(3, 4, Seek(S1), sold(b"a"))]),
    "sold out": (RIGHT, [SOLD_OUT, op(3, 4, claim(), ())]),
    "sold out though a row matches": (WRONG, [op(1, 2, claim(count=2), (S1, S2)), op(3, 4, claim(), ())]),
    "sold out for so many": (RIGHT, [op(1, 2, claim(), (S1,)), op(3, 4, claim(count=3), ())]),
    "sold out though rows are held": (WRONG, [HELD, op(3, 4, claim(count=3), ())]),
    "busy for what is held": (RIGHT, [HELD, op(3, 4, claim(count=3), "BUSY"), op(5, 6, claim(), (S3,))]),
    "busy for what is locked": (
        RIGHT,
        [op(1, 2, TryLock((S1,)), 7), op(3, 4, claim(count=3), "BUSY"), op(5, 6, claim(count=2), (S2, S3))],
    ),
    "busy without a taker": (WRONG, [op(1, 2, claim(count=3), "BUSY")]),
    "busy though sold out": (WRONG, [SOLD_OUT, op(3, 4, claim(), "BUSY")]),
    "busy behind the lock": (
        WRONG,
        [op(1, 2, TryLock((S1,)), 7), op(3, 4, Unlock((S1,), 7), 1), op(5, 6, claim(count=3), "BUSY")],
    ),
    "chosen rows": (RIGHT, [op(1, 2, claim(ids=(S3, S1)), (S1, S3)), op(3, 4, claim(ids=(S1, S2)), ())]),
    "chosen, one is taken": (RIGHT, [HELD, op(3, 4, claim(ids=(S1, S3)), "BUSY")]),
    "chosen, another was given": (WRONG, [op(1, 2, claim(ids=(S2,)), (S1,))]),
    "chosen, half of it was given": (
        WRONG,
        [op(1, 2, claim(ids=(S1,)), (S1,)), op(3, 4, claim(ids=(S1, S2)), (S2,))],
    ),
    "a claim takes what is locked": (WRONG, [op(1, 2, TryLock((S1,)), 7), op(3, 4, claim(), (S1,))]),
    "a lost claim that took effect": (RIGHT, [op(1, None, claim()), op(3, 4, claim(), (S2,))]),
    "a lost claim that did not": (RIGHT, [op(1, None, claim()), op(3, 4, claim(), (S1,))]),
    "a lost claim that did and did not": (
        WRONG,
        [op(1, None, claim(b"a")), op(3, 4, Seek(S1), sold(b"a")), op(5, 6, claim(), (S1,))],
    ),
    # --- MAX
    "as many as allowed": (
        RIGHT,
        [
            op(1, 2, claim(owner=b"ann", most=2), (S1,)),
            op(3, 4, hold(most=2), (7, (S2,), 99)),
            op(5, 6, claim(owner=b"ann", most=2), "LIMIT"),
            op(7, 8, claim(owner=b"bob", most=1), (S3,)),
        ],
    ),
    "more than allowed": (
        WRONG,
        [op(1, 2, claim(owner=b"ann", most=1), (S1,)), op(3, 4, claim(owner=b"ann", most=1), (S2,))],
    ),
    "more than allowed, with what is held": (
        WRONG,
        [HELD, op(3, 4, claim(owner=b"ann", most=2), (S3,))],
    ),
    "limited without having anything": (WRONG, [op(1, 2, claim(owner=b"ann", most=1), "LIMIT")]),
    "limited by what was let go": (
        WRONG,
        [HELD, op(3, 4, Release(7), 2), op(5, 6, claim(owner=b"ann", most=1), "LIMIT")],
    ),
    # --- REQUEST
    "a resend gets the first answer": (
        RIGHT,
        [
            op(1, 2, claim(request=b"r"), (S1,)),
            op(3, 4, claim(request=b"r"), (S1,)),
            op(5, 6, claim(), (S2,)),
        ],
    ),
    "a resend buys twice": (
        WRONG,
        [op(1, 2, claim(request=b"r"), (S1,)), op(3, 4, claim(request=b"r"), (S2,))],
    ),
    "a lost claim and its resend are one": (
        RIGHT,
        [
            op(1, None, claim(request=b"r")),
            op(3, 4, claim(request=b"r"), (S1,)),
            op(5, 6, claim(), (S2,)),
        ],
    ),
    "a lost claim and its resend are two": (
        WRONG,
        [
            op(1, None, claim(b"a", request=b"r")),
            op(3, 4, claim(b"a", request=b"r"), (S2,)),
            op(5, 6, Seek(S1), sold(b"a")),
        ],
    ),
    "other arguments": (
        RIGHT,
        [op(1, 2, claim(request=b"r"), (S1,)), op(3, 4, claim(count=2, request=b"r"), "REQUEST")],
    ),
    "other arguments of the same effect": (
        WRONG,
        [op(1, 2, claim(request=b"r"), (S1,)), op(3, 4, claim(count=1, request=b"r"), (S1,))],
    ),
    "refused, though the first took nothing": (
        WRONG,
        [SOLD_OUT, op(3, 4, claim(request=b"r"), ()), op(5, 6, claim(count=1, request=b"r"), "REQUEST")],
    ),
    "a hold's resend": (
        RIGHT,
        [
            op(1, 2, hold(request=b"r"), (7, (S1,), 99)),
            op(3, 4, Release(7), 1),
            op(5, 6, hold(request=b"r"), (7, (S1,), 99)),
            op(7, 8, claim(), (S1,)),
        ],
    ),
    "a hold's resend has another token": (
        WRONG,
        [op(1, 2, hold(request=b"r"), (7, (S1,), 99)), op(3, 4, hold(request=b"r"), (8, (S1,), 99))],
    ),
    "a hold's resend has another deadline": (
        WRONG,
        [op(1, 2, hold(request=b"r"), (7, (S1,), 99)), op(3, 4, hold(request=b"r"), (7, (S1,), 100))],
    ),
    "a lost hold, its resend and its sale": (
        RIGHT,
        [
            op(1, None, hold(request=b"r")),
            op(3, 4, hold(request=b"r"), (7, (S1,), 99)),
            op(5, 6, pay(7), (S1,)),
            op(7, 8, claim(), (S2,)),
        ],
    ),
    "remembered for a day": (
        RIGHT,
        [op(1, 2, claim(request=b"r"), (S1,)), op(DAY, DAY, claim(request=b"r"), (S1,))],
    ),
    "forgotten within a day": (
        WRONG,
        [op(1, 2, claim(request=b"r"), (S1,)), op(DAY - 1, DAY - 1, claim(request=b"r"), (S2,))],
    ),
    "forgotten behind a day": (
        RIGHT,
        [op(1, 2, claim(request=b"r"), (S1,)), op(DAY + 3, DAY + 3, claim(request=b"r"), (S2,))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_made_by_hand(name: str) -> None:
    assert_verdict(*CASES[name], START)


def test_enough_cases_of_each_verdict() -> None:
    verdicts = [verdict for verdict, _ in CASES.values()]
    assert verdicts.count(RIGHT) >= 15
    assert verdicts.count(WRONG) >= 20


def test_words_of_the_commands() -> None:
    """What is judged is what is sent."""
    hall = b"%d" % (HALLS_FROM >> 4)
    words = claim(b"n", ids=(S2, S1), owner=b"o", most=3, request=b"r").words()
    pairs = [b"state", b"1", b"writer", b"0", b"prev", b"0", b"note", b"n"]
    assert words == [
        *(b"KL.CLAIM", b"halls", b"hall", hall, b"state", b"0", b"SET", *pairs),
        *(b"IDS", b"2", b"%d" % S2, b"%d" % S1, b"FOR", b"o", b"MAX", b"3", b"REQUEST", b"r"),
    ]
    assert hold(5, count=2, replacing=7).words() == [
        *(b"KL.HOLD", b"halls", b"hall", hall, b"state", b"0", b"PX", b"5"),
        *(b"COUNT", b"2", b"FOR", b"ann", b"REPLACING", b"7"),
    ]
    assert pay(7).words()[:3] == [b"KL.CONFIRM", b"7", b"SET"]
