"""The checker and its model on refunds, units of a counter, KL.HOLDS and KL.HISTORY, made by hand.

As in test_linearize.py: `op(called, returned, command, reply)`, a moment is 1 ms. Seats 1, 2, 3 are a hall;
the door's counter begins at 6.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.by_hand import assert_verdict
from tests.sim.commands import (
    DOORS_FROM,
    EMPTY,
    Command,
    Confirm,
    Crash,
    Fields,
    Holds,
    Multi,
    Past,
    Release,
    Replace,
    Return,
    Seek,
    Take,
    TryLock,
    is_read,
    plain,
)
from tests.sim.history import Op
from tests.sim.linearize import Verdict
from tests.sim.state import State, inserted
from tests.sim.test_linearize import op
from tests.sim.test_linearize_selling import HALL, RIGHT, S1, S2, S3, WRONG, claim, hold, pay, sold

DOOR = DOORS_FROM
UNITS = 6
START = State(rows=(*((row, inserted(EMPTY)) for row in HALL), (DOOR, inserted((0, UNITS, 0, b"")))))
BACK: Fields = (0, 0, 0, b"back")
INSERTED = ("insert", None, None, None, EMPTY)
CRASH = op(50, 51, Crash(), "crash")


def refund(*rows: int, owner: bytes = b"ann", request: bytes | None = None) -> Return:
    return Return(rows, owner, BACK, request=request)


def take(units: int, owner: bytes = b"ann", **more: Any) -> Take:
    return Take(DOOR, units, owner, **more)


def units_back(units: int, owner: bytes = b"ann", request: bytes | None = None) -> Return:
    return Return((DOOR,), owner, units=units, request=request)


def left(units: int, note: bytes = b"") -> Fields:
    return (0, units, 0, note)


def write(verb: str, fields: Fields, owner: bytes | None = b"ann", request: bytes | None = None) -> Any:
    return verb, None, owner, request, fields


def paid(token: int) -> Confirm:
    return Confirm(token, (0, 0, 0, b"paid"), of_units=True)


SOLD = op(1, 2, claim(b"a", owner=b"ann", count=2), (S1, S2))
CLAIMED = write("claim", sold(b"a"))
RETURNED = op(3, 4, refund(S1), 1)
HELD = op(1, 2, hold(ids=(S1, S2)), (7, (S1, S2), 99))
TAKEN = op(1, 2, take(4), (DOOR,))
ASIDE = op(1, 2, take(4, ms=1000), (7, (DOOR,), 99))
MINE = Holds(HALL, b"ann")
LISTED = ((7, b"ann", (S1, S2), 995),)

CASES: dict[str, tuple[Verdict, list[Op]]] = {
    # --- refunds
    "a refund": (RIGHT, [SOLD, RETURNED, op(5, 6, Seek(S1), BACK), op(7, 8, claim(), (S1,))]),
    "a refund of all": (RIGHT, [SOLD, op(3, 4, refund(S2, S1), 2)]),
    "a refund of what is sold, and no more": (RIGHT, [SOLD, op(3, 4, refund(S1, S2, S3), 2)]),
    "a row named twice counts once": (RIGHT, [SOLD, op(3, 4, refund(S1, S1), 1)]),
    "a refund counted twice": (WRONG, [SOLD, RETURNED, op(5, 6, refund(S1), 1)]),
    "a row counted twice": (WRONG, [SOLD, op(3, 4, refund(S1, S1), 2)]),
    "a refund sent again": (RIGHT, [SOLD, RETURNED, op(5, 6, refund(S1), 0)]),
    "a refund of what another bought": (WRONG, [SOLD, op(3, 4, refund(S1, owner=b"bob"), 1)]),
    "a refund of nothing": (WRONG, [op(1, 2, refund(S1), 1)]),
    "a refund that is refused": (WRONG, [SOLD, op(3, 4, refund(S1), 0)]),
    "a refund that changes nothing": (WRONG, [SOLD, RETURNED, op(5, 6, Seek(S1), sold(b"a"))]),
    "a refund that frees nothing": (
        WRONG,
        [SOLD, RETURNED, op(5, 6, claim(), (S3,))],
    ),
    "a late refund takes from the next owner": (
        WRONG,
        [SOLD, RETURNED, op(5, 6, claim(owner=b"bob"), (S1,)), op(7, 8, refund(S1), 1)],
    ),
    "a refund counts no more for MAX": (
        RIGHT,
        [SOLD, RETURNED, op(5, 6, claim(owner=b"ann", most=2), (S1,))],
    ),
    "a refund still counts for MAX": (
        WRONG,
        [SOLD, RETURNED, op(5, 6, claim(owner=b"ann", most=2), "LIMIT")],
    ),
    "a refund of a locked row": (RIGHT, [SOLD, op(3, 4, TryLock((S1,)), 7), op(5, 6, refund(S1), "BUSY")]),
    "a refund under another's lock": (WRONG, [SOLD, op(3, 4, TryLock((S1,)), 7), op(5, 6, refund(S1), 1)]),
    "a request's refund again": (
        RIGHT,
        [SOLD, op(3, 4, refund(S1, request=b"r"), 1), op(5, 6, refund(S1, request=b"r"), 1)],
    ),
    "a request's refund again is another": (
        WRONG,
        [SOLD, op(3, 4, refund(S1, request=b"r"), 1), op(5, 6, refund(S1, request=b"r"), 0)],
    ),
    "a refund of nothing is not remembered": (
        RIGHT,
        [
            op(1, 2, refund(S1, request=b"r"), 0),
            op(3, 4, claim(owner=b"ann"), (S1,)),
            op(5, 6, refund(S1), 1),
        ],
    ),
    "a claim's id for a refund": (
        RIGHT,
        [
            op(1, 2, claim(owner=b"ann", request=b"r"), (S1,)),
            op(3, 4, refund(S1, request=b"r"), "REQUEST"),
        ],
    ),
    "a lost refund that a crash takes back": (
        RIGHT,
        [SOLD, op(3, 50, refund(S1)), CRASH, op(52, 53, refund(S1), 1)],
    ),
    "an answered refund that a crash takes back": (
        WRONG,
        [SOLD, RETURNED, CRASH, op(52, 53, Seek(S1), sold(b"a"))],
    ),
    # --- units of a counter
    "units": (
        RIGHT,
        [TAKEN, op(3, 4, Seek(DOOR), left(2)), op(5, 6, take(2), (DOOR,)), op(7, 8, take(1), ())],
    ),
    "units below zero": (WRONG, [TAKEN, op(3, 4, take(4), (DOOR,))]),
    "units below zero, side by side": (
        WRONG,
        [op(1, 9, take(4), (DOOR,)), op(1, 9, take(4, b"bob"), (DOOR,))],
    ),
    "units that were not taken": (WRONG, [TAKEN, op(3, 4, Seek(DOOR), left(UNITS))]),
    "units sold out though there are some": (WRONG, [TAKEN, op(3, 4, take(2), ())]),
    "units held": (RIGHT, [ASIDE, op(3, 4, Seek(DOOR), left(UNITS)), op(5, 6, take(3), "BUSY")]),
    "units held are sold": (WRONG, [ASIDE, op(3, 4, take(3), (DOOR,))]),
    "units held are sold out": (WRONG, [ASIDE, op(3, 4, take(3), ())]),
    "units that are not held": (RIGHT, [ASIDE, op(3, 4, take(2), (DOOR,))]),
    "units held are paid": (
        RIGHT,
        [ASIDE, op(3, 4, paid(7), (DOOR,)), op(5, 6, Seek(DOOR), left(2, b"paid"))],
    ),
    "units held are paid twice": (
        WRONG,
        [ASIDE, op(3, 4, paid(7), (DOOR,)), op(5, 6, paid(7), (DOOR,)), op(7, 8, take(2), ())],
    ),
    "units held go back": (RIGHT, [ASIDE, op(3, 4, Release(7), 4), op(5, 6, take(UNITS), (DOOR,))]),
    "units held go back as one row": (WRONG, [ASIDE, op(3, 4, Release(7), 1)]),
    "units paid late": (RIGHT, [ASIDE, op(1010, 1011, take(2), (DOOR,)), op(1012, 1013, paid(7), (DOOR,))]),
    "units paid too late": (
        RIGHT,
        [ASIDE, op(1010, 1011, take(3), (DOOR,)), op(1012, 1013, paid(7), ("RESOLD", DOOR))],
    ),
    "units paid too late are sold": (
        WRONG,
        [ASIDE, op(1010, 1011, take(3), (DOOR,)), op(1012, 1013, paid(7), (DOOR,))],
    ),
    "units paid for under somebody's lock": (
        RIGHT,
        [ASIDE, op(3, 4, TryLock((DOOR,)), 9), op(5, 6, paid(7), (DOOR,))],
    ),
    "units kept aside are sold to nobody else": (
        WRONG,
        [ASIDE, op(3, 4, TryLock((DOOR,)), 9), op(5, 6, paid(7), ("RESOLD", DOOR))],
    ),
    "units count for MAX": (RIGHT, [TAKEN, op(3, 4, take(1, most=4), "LIMIT")]),
    "more units than MAX": (WRONG, [TAKEN, op(3, 4, take(1, most=4), (DOOR,))]),
    "units back": (RIGHT, [TAKEN, op(3, 4, units_back(3), 3), op(5, 6, Seek(DOOR), left(5))]),
    "more units back than were sold": (WRONG, [TAKEN, op(3, 4, units_back(5), 5)]),
    "units back twice": (WRONG, [TAKEN, op(3, 4, units_back(3), 3), op(5, 6, units_back(3), 3)]),
    "units back of another": (WRONG, [TAKEN, op(3, 4, units_back(1, b"bob"), 1)]),
    "units back count no more": (
        RIGHT,
        [TAKEN, op(3, 4, units_back(4), 4), op(5, 6, take(4, most=4), (DOOR,))],
    ),
    "a request's units are taken once": (
        RIGHT,
        [
            op(1, 2, take(4, request=b"r"), (DOOR,)),
            op(3, 4, take(4, request=b"r"), (DOOR,)),
            op(5, 6, Seek(DOOR), left(2)),
        ],
    ),
    "a request of a day ago takes units again, with the same answer": (
        RIGHT,
        [
            op(1, 2, take(4, request=b"r"), (DOOR,)),
            op(3, 4, units_back(4), 4),
            op(90_000_000, 90_000_001, take(4, request=b"r"), (DOOR,)),
            op(90_000_002, 90_000_003, take(3, b"bob"), ()),
        ],
    ),
    "an answered sale of units is lost": (WRONG, [TAKEN, CRASH, op(52, 53, Seek(DOOR), left(UNITS))]),
    # --- KL.HOLDS
    "a hold is listed": (RIGHT, [HELD, op(5, 6, MINE, LISTED)]),
    "a hold is not listed": (WRONG, [HELD, op(5, 6, MINE, ())]),
    "nothing is held": (RIGHT, [op(5, 6, MINE, ())]),
    "a hold listed that never was": (WRONG, [op(5, 6, MINE, LISTED)]),
    "a hold listed after its release": (WRONG, [HELD, op(3, 4, Release(7), 2), op(5, 6, MINE, LISTED)]),
    "a hold listed after it was paid": (WRONG, [HELD, op(3, 4, pay(7), (S1, S2)), op(5, 6, MINE, LISTED)]),
    "a hold listed after its end": (
        WRONG,
        [HELD, op(1010, 1011, MINE, ((7, b"ann", (S1, S2), 1),))],
    ),
    "a hold listed under another token": (WRONG, [HELD, op(5, 6, MINE, ((8, b"ann", (S1, S2), 995),))]),
    "a hold listed for another": (WRONG, [HELD, op(5, 6, Holds(HALL, b"bob"), LISTED)]),
    "a hold listed with other rows": (WRONG, [HELD, op(5, 6, MINE, ((7, b"ann", (S1,), 995),))]),
    "more is left than was told": (WRONG, [HELD, op(5, 6, MINE, ((7, b"ann", (S1, S2), 1500),))]),
    "less is left than was told": (WRONG, [HELD, op(5, 6, MINE, ((7, b"ann", (S1, S2), 500),))]),
    "a hold whose answer was lost is listed": (
        RIGHT,
        [op(1, None, hold(ids=(S1, S2))), op(5, 6, MINE, LISTED), op(7, 8, pay(7), (S1, S2))],
    ),
    "a listed hold has one token": (
        WRONG,
        [op(1, None, hold(ids=(S1, S2))), op(5, 6, MINE, LISTED), op(7, 8, pay(8), (S1, S2))],
    ),
    "a listed hold is taken back by a crash": (
        WRONG,
        [op(1, 50, hold(ids=(S1, S2))), op(5, 6, MINE, LISTED), CRASH, op(52, 53, MINE, ())],
    ),
    # --- KL.HISTORY
    "a past": (RIGHT, [SOLD, op(3, 4, Past(S1), (CLAIMED, INSERTED)), op(3, 4, Past(S3), (INSERTED,))]),
    "a past of refunds": (
        RIGHT,
        [SOLD, RETURNED, op(5, 6, Past(S1), (write("return", BACK), CLAIMED, INSERTED))],
    ),
    "a past, oldest first": (WRONG, [SOLD, op(3, 4, Past(S1), (INSERTED, CLAIMED))]),
    "a past without its last write": (WRONG, [SOLD, op(3, 4, Past(S1), (INSERTED,))]),
    "a past with a write twice": (WRONG, [SOLD, op(3, 4, Past(S1), (CLAIMED, CLAIMED, INSERTED))]),
    "a past with a write that was not": (WRONG, [op(3, 4, Past(S1), (CLAIMED, INSERTED))]),
    "a past by another verb": (
        WRONG,
        [SOLD, op(3, 4, Past(S1), (write("confirm", sold(b"a")), INSERTED))],
    ),
    "a past of another owner": (
        WRONG,
        [SOLD, op(3, 4, Past(S1), (write("claim", sold(b"a"), b"bob"), INSERTED))],
    ),
    "a past without the owner": (
        WRONG,
        [SOLD, op(3, 4, Past(S1), (write("claim", sold(b"a"), None), INSERTED))],
    ),
    "a past of a request": (
        RIGHT,
        [
            op(1, 2, claim(b"a", request=b"r"), (S1,)),
            op(3, 4, Past(S1), (write("claim", sold(b"a"), None, b"r"), INSERTED)),
        ],
    ),
    "a past without the request": (
        WRONG,
        [
            op(1, 2, claim(b"a", request=b"r"), (S1,)),
            op(3, 4, Past(S1), (write("claim", sold(b"a"), None), INSERTED)),
        ],
    ),
    "a past of a hold": (WRONG, [HELD, op(5, 6, Past(S1), (write("hold", EMPTY), INSERTED))]),
    "a past of a sale": (
        RIGHT,
        [HELD, op(3, 4, pay(7), (S1, S2)), op(5, 6, Past(S1), (write("confirm", sold()), INSERTED))],
    ),
    "a past of a lock": (
        RIGHT,
        [
            op(1, 2, TryLock((S1,)), 7),
            op(3, 4, Replace(S1, 7, BACK), "OK"),
            op(5, 6, Replace(S1, 7, BACK), "OK"),
            op(
                7, 8, Past(S1), (("replace", 7, None, None, BACK), ("replace", 7, None, None, BACK), INSERTED)
            ),
        ],
    ),
    "a past of another lock": (
        WRONG,
        [
            op(1, 2, TryLock((S1,)), 7),
            op(3, 4, Replace(S1, 7, BACK), "OK"),
            op(5, 6, Past(S1), (("replace", 8, None, None, BACK), INSERTED)),
        ],
    ),
    "a past of units": (
        RIGHT,
        [TAKEN, op(3, 4, Past(DOOR), (write("claim", left(2)), write("insert", left(UNITS), None)))],
    ),
    "a past is taken back by a crash": (
        WRONG,
        [
            op(1, 50, claim(b"a", owner=b"ann")),
            op(3, 4, Past(S1), (CLAIMED, INSERTED)),
            CRASH,
            op(52, 53, Past(S1), (INSERTED,)),
        ],
    ),
    "a past that a crash takes back, unseen": (
        RIGHT,
        [op(1, 50, claim(b"a", owner=b"ann")), CRASH, op(52, 53, Past(S1), (INSERTED,))],
    ),
    "the same contents by another road": (
        WRONG,
        [SOLD, RETURNED, CRASH, op(52, 53, Past(S1), (CLAIMED, INSERTED)), op(54, 55, Seek(S1), BACK)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_made_by_hand(name: str) -> None:
    assert_verdict(*CASES[name], START)


def test_enough_cases_of_each_verdict() -> None:
    verdicts = [verdict for verdict, _ in CASES.values()]
    assert verdicts.count(RIGHT) >= 25
    assert verdicts.count(WRONG) >= 40


def test_words_and_replies_of_the_commands() -> None:
    hall, door = b"%d" % S1, b"%d" % DOOR
    expected: dict[Command, bytes] = {
        take(
            2, ms=5, most=3, request=b"r"
        ): b"KL.HOLD doors IDS 1 %b TAKE 2 FROM writer FOR ann PX 5 MAX 3 REQUEST r" % door,
        take(1): b"KL.CLAIM doors IDS 1 %b TAKE 1 FROM writer FOR ann" % door,
        units_back(2, request=b"r"): b"KL.RETURN doors FOR ann %b TAKE 2 FROM writer REQUEST r" % door,
        refund(S1): b"KL.RETURN halls FOR ann %b SET state 0 writer 0 prev 0 note back" % hall,
        MINE: b"KL.HOLDS halls FOR ann",
        Past(S1): b"KL.HISTORY halls:%b LIMIT 3" % hall,
        paid(7): b"KL.CONFIRM 7 SET note paid",
    }
    for command, words in expected.items():
        assert not isinstance(command, Multi | Crash)
        assert b" ".join(command.words()) == words
    assert is_read(MINE) and is_read(Past(S1)) and not is_read(refund(S1))
    assert plain(MINE, [[7, b"ann", [S1, S2], 995]]) == LISTED
    assert plain(take(1), [DOOR]) == (DOOR,)
    assert plain(take(1, ms=5), [7, [DOOR], 99]) == (7, (DOOR,), 99)
