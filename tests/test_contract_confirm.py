"""KL.CONFIRM, late payments among it, and KL.RETURN, the refund."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.hall import (
    SEATS,
    Ask,
    Refusal,
    Words,
    answer_of,
    assert_untouched,
    claim,
    confirm,
    ended,
    free,
    give_back,
    held,
    lock,
    make_hall,
    refused_at_syntax,
    states,
)

AsMap = Callable[[Any], dict[Any, Any]]


@pytest.fixture
def hall(ask: Ask) -> Ask:
    return make_hall(ask)


# --- CONFIRM before the deadline ------------------------------------------------------------------------


def test_confirm_sells_what_was_held(hall: Ask, as_map: AsMap) -> None:
    token, _ = held(hall, "IDS", 3, 7, 2, 4)
    assert hall(*confirm(token, "buyer", 7, "note", "COUNT")) == [2, 4, 7]
    for row in (2, 4, 7):
        shown = as_map(hall("KL.SEEK", f"hall:{row}", "state", "buyer", "note"))
        assert shown == {b"state": 1, b"buyer": 7, b"note": b"COUNT"}
    assert states(hall) == [2, 4, 7]
    assert hall("KL.HOLDS", "hall") == []
    assert hall("KL.COUNT", "hall", "state", 1, "FREE") == 3, "sold rows are neither held nor locked"
    lock(hall, 2)


def test_confirm_sent_again(hall: Ask, refusal: Refusal, as_map: AsMap) -> None:
    token, _ = held(hall, "COUNT", 2)
    assert hall(*confirm(token, "buyer", 7)) == [1, 2]
    written = as_map(hall("KL.INFO", "hall"))[b"appended"]
    assert hall(*confirm(token, "buyer", 7)) == [1, 2]
    assert hall("kl.confirm", f"00{token}", "set", "state", 1, "buyer", 7) == [1, 2]
    for other in (
        ("state", 1),
        ("state", 1, "buyer", 8),
        ("state", 2, "buyer", 7),
        ("state", 1, "buyer", 7, "note", "x"),
        ("state", 1, "buyer", 7, "note", ""),
    ):
        assert refusal(hall, "KL.CONFIRM", token, "SET", *other).startswith("REQUEST ")
    refusal(hall, "KL.CONFIRM", token, "SET", "buyer", 7)  # another, too, and one that sells nothing
    assert as_map(hall("KL.INFO", "hall"))[b"appended"] == written, "and nothing is written"
    assert as_map(hall("KL.SEEK", "hall:1", "state", "buyer")) == {b"state": 1, b"buyer": 7}


def test_confirm_sent_again_after_the_rows_went_on(hall: Ask, refusal: Refusal) -> None:
    """The answer is what was sold then; who has the rows now is another matter."""
    token, _ = held(hall, "COUNT", 2)
    assert hall(*confirm(token)) == [1, 2]
    assert hall(*give_back(1, 2)) == 2
    assert hall(*confirm(token)) == [1, 2]
    assert states(hall) == [], "nothing is sold by it again"
    assert hall(*claim("FOR", "bob")) == [1]
    assert hall(*confirm(token)) == [1, 2]
    assert refusal(hall, *confirm(token, "buyer", 9)).startswith("REQUEST ")
    assert hall(*give_back(1, owner="bob")) == 1, "nor taken from whoever has it now"


def test_what_cannot_be_confirmed(hall: Ask, refusal: Refusal) -> None:
    released, _ = held(hall)
    hall("KL.RELEASE", released)
    replaced, _ = held(hall)
    current, _ = held(hall, "REPLACING", replaced)
    for token in (released, replaced, current + 1, 0, 2**53 - 1):
        assert refusal(hall, *confirm(token)).startswith("NOHOLD ")
    assert states(hall) == []
    assert hall("KL.HOLDS", "hall")[0][0] == current


def test_what_confirm_refuses_to_write(hall: Ask, refusal: Refusal) -> None:
    token, _ = held(hall)
    assert "out of range for U8" in refusal(hall, "KL.CONFIRM", token, "SET", "state", 256)
    assert refusal(hall, "KL.CONFIRM", token, "SET", "chair", 1) == "unknown field 'chair'"
    assert "17 bytes, at most 16" in refusal(hall, *confirm(token, "note", "x" * 17))
    for words in (
        ("state", 1, "SET"),
        ("SET", "COUNT", 1),
        ("SET", "state"),
        ("SET", "state", 1, "state", 1),
    ):
        refused_at_syntax(hall, "KL.CONFIRM", token, *words)
    refused_at_syntax(hall, *confirm(token, "COUNT", 1))
    assert hall("KL.HOLDS", "hall")[0][0] == token
    assert hall(*confirm(token)) == [1], "a refusal is no first answer"


# --- a late payment -------------------------------------------------------------------------------------


def test_a_late_payment_buys_what_is_free_yet(hall: Ask, refusal: Refusal) -> None:
    token, ids = ended(hall, "COUNT", 3)
    lock(hall, 5)
    assert hall(*claim("IDS", 1, 4)) == [4], "others may buy beside it"
    assert hall(*confirm(token, "buyer", 7)) == ids == [1, 2, 3]
    assert states(hall) == [1, 2, 3, 4]
    assert hall(*confirm(token, "buyer", 7)) == [1, 2, 3]
    assert refusal(hall, *confirm(token, "buyer", 8)).startswith("REQUEST ")
    assert refusal(hall, *claim("FOR", "ann", "MAX", 3)).startswith("LIMIT ")
    assert hall(*give_back(1, 2, 3)) == 3


def test_a_late_payment_is_not_judged_by_max_again(hall: Ask) -> None:
    token, _ = ended(hall, "COUNT", 2, "MAX", 2)
    assert hall(*claim("IDS", 2, 5, 6, "FOR", "ann", "MAX", 2)) == [5, 6]
    assert hall(*confirm(token)) == [1, 2]
    assert len(states(hall)) == 4


def _write(ask: Ask, row: int, *pairs: Any) -> None:
    token = lock(ask, row)
    assert ask("KL.REPLACE", f"hall:{row}", token, *pairs, "UNLOCK") == b"OK"


def test_resold_names_what_is_gone(hall: Ask, refusal: Refusal) -> None:
    token, ids = ended(hall, "IDS", 6, 1, 2, 3, 4, 5, 6)
    assert ids == [1, 2, 3, 4, 5, 6]
    assert hall(*claim("IDS", 1, 2)) == [2]
    lock(hall, 3)
    other, _ = held(hall, "IDS", 1, 4, owner="bob")
    _write(hall, 5, "state", 7)
    _write(hall, 6, "note", "x")  # it matches as it did
    left = free(hall)
    for _ in range(2):
        assert refusal(hall, *confirm(token)).split() == ["RESOLD", "2", "3", "4", "5"]
    assert free(hall) == left == [1, 6, 7, 8, 9, 10], "nothing changes"
    assert states(hall) == [2]
    assert hall("KL.RELEASE", token) == 0
    assert hall(*confirm(other)) == [4]


def test_a_refused_late_payment_may_come_again(hall: Ask, refusal: Refusal) -> None:
    """RESOLD has changed nothing, so what is free again can be paid for."""
    token, _ = ended(hall, "COUNT", 2)
    other, _ = held(hall, "IDS", 1, 2, owner="bob")
    assert refusal(hall, *confirm(token)).split() == ["RESOLD", "2"]
    assert hall("KL.RELEASE", other) == 1
    assert hall(*confirm(token)) == [1, 2]


@pytest.mark.parametrize(
    ("wanted", "change", "is_gone"),
    [
        (("state", 0), ("state", 3), True),
        (("state", 0), ("zone", 3), False),  # it was not asked for
        (("state", 0, "zone", 1), ("zone", 3), True),
        (("zone", 1), ("state", 3), False),
    ],
    ids=str,
)
def test_late_it_has_to_match_what_was_held(hall: Ask, wanted: Words, change: Words, is_gone: bool) -> None:
    """The SET takes the rows out of both, for a sale that leaves them matching may be refused as CLAIM's."""
    words = ("KL.HOLD", "hall", *wanted, "PX", 1, "FOR", "ann", "COUNT", 2)
    token, ids, _ = hall(*words)
    assert ids == [1, 2]
    while (lease := hall("KL.TRYLOCK", "hall:2")) is None:
        pass  # the deadline of 1 ms
    assert hall("KL.REPLACE", "hall:2", lease, *change, "UNLOCK") == b"OK"
    assert answer_of(hall, confirm(token, "zone", 9)) == ("RESOLD" if is_gone else [1, 2])


def test_within_the_deadline_nothing_can_come_between(hall: Ask, refusal: Refusal) -> None:
    token, _ = held(hall)
    assert hall("KL.TRYLOCK", "hall:1") is None
    assert refusal(hall, "KL.REPLACE", "hall:1", token, "state", 3).startswith("NOLOCK ")
    assert hall(*confirm(token)) == [1]


def test_a_row_that_came_back_in_time_matches_again(hall: Ask) -> None:
    token, _ = ended(hall, "COUNT", 2)
    assert hall(*claim("COUNT", 2, "FOR", "bob")) == [1, 2]
    assert answer_of(hall, confirm(token)) == "RESOLD"
    assert hall(*give_back(1, 2, owner="bob")) == 2
    assert hall(*confirm(token)) == [1, 2]
    assert hall(*give_back(1, 2, owner="bob")) == 0, "they are sold to the hold's owner"
    assert hall(*give_back(1, 2)) == 2


# --- RETURN ---------------------------------------------------------------------------------------------


def test_return_counts_what_went_back(hall: Ask, as_map: AsMap) -> None:
    assert hall(*claim("COUNT", 3, "FOR", "ann")) == [1, 2, 3]
    assert hall(*claim("FOR", "bob")) == [4]
    assert hall(*claim()) == [5]
    assert hall(*give_back(2, 1, 4, 5, 6, 99, more=("note", "refund"))) == 2
    assert states(hall) == [3, 4, 5]
    for row in (1, 2):
        assert as_map(hall("KL.SEEK", f"hall:{row}", "state", "note")) == {b"state": 0, b"note": b"refund"}
    assert as_map(hall("KL.SEEK", "hall:4", "state", "note")) == {b"state": 1, b"note": b""}
    assert as_map(hall("KL.SEEK", "hall:6", "state", "note")) == {b"state": 0, b"note": b""}
    assert hall("KL.SEEK", "hall:99") is None
    assert hall(*give_back(1, 2, 3)) == 1, "a resend counts no row twice"
    assert free(hall) == [1, 2, 3, 6, 7, 8, 9, 10]


def test_a_row_that_is_named_twice_goes_back_once(hall: Ask) -> None:
    assert hall(*claim("COUNT", 2, "FOR", "ann")) == [1, 2]
    assert hall(*give_back(1, 1, "001", more=("note", "x"))) == 1  # type: ignore[arg-type]  # another spelling
    assert states(hall) == [2]


def test_return_sent_late_takes_nothing_from_the_next_owner(hall: Ask) -> None:
    assert hall(*claim("FOR", "ann")) == [1]
    assert hall(*give_back(1)) == 1
    assert hall(*claim("FOR", "bob")) == [1]
    assert hall(*give_back(1)) == 0
    assert states(hall) == [1]
    assert hall(*give_back(1, owner="bob")) == 1
    token, _ = held(hall, owner="bob")
    assert hall(*give_back(1, owner="bob")) == 0, "what is held is not sold"
    assert hall(*confirm(token)) == [1]
    assert hall("kl.return", "hall", "for", "bob", "00001", "set", "state", 0) == 1


def test_what_return_refuses(hall: Ask, refusal: Refusal) -> None:
    assert hall(*claim("FOR", "ann")) == [1]
    assert refusal(hall, *give_back(1, table="nowhere")) == "unknown table 'nowhere'"
    assert refusal(hall, *give_back(1, more=("chair", 1))) == "unknown field 'chair'"
    assert "out of range for U8" in refusal(hall, *give_back(1, more=("zone", 256)))
    for bad in ("4294967296", "x", "-1", "1_0", "+1", ""):
        refusal(hall, "KL.RETURN", "hall", "FOR", "ann", 1, bad, "SET", "state", 0)
    for owner in ("", "x" * 65):
        assert "1 to 64 bytes" in refusal(hall, *give_back(1, owner=owner))
    assert states(hall) == [1]
    assert hall(*give_back(1)) == 1
    assert_untouched(hall)


def test_drop_forgets_holds_and_sales(hall: Ask, refusal: Refusal) -> None:
    make_hall(hall, "other")
    live, _ = held(hall)
    late, _ = ended(hall)
    paid, _ = held(hall)
    hall(*confirm(paid))
    assert hall(*claim("FOR", "ann")) == [3]
    kept, _ = held(hall, table="other")
    assert hall("KL.DROP", "hall") == 1
    for table_is_back in (False, True):
        if table_is_back:
            make_hall(hall)
            assert_untouched(hall)
        for token in (live, late, paid):
            assert refusal(hall, *confirm(token)).startswith("NOHOLD ")
            assert refusal(hall, "KL.EXTEND", token, "PX", 1000).startswith("NOHOLD ")
            assert hall("KL.RELEASE", token) == 0
    assert hall(*give_back(1, 2, 3)) == 0
    assert hall(*claim("COUNT", SEATS, "FOR", "ann", "MAX", SEATS)) == list(range(1, SEATS + 1))
    assert hall(*confirm(kept)) == [1]
