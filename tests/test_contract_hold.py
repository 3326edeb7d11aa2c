"""KL.HOLD and what lets go of it or keeps it: deadline, KL.RELEASE, KL.EXTEND, REPLACING, KL.HOLDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from tests.hall import (
    MINUTE_MS,
    NOT_AN_INTEGER,
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
    held,
    hold,
    lock,
    make_hall,
    states,
)
from tests.zygote import until

AsMap = Callable[[Any], dict[Any, Any]]


@pytest.fixture
def hall(ask: Ask) -> Ask:
    return make_hall(ask)


# --- the answer, and what a hold means for others -------------------------------------------------------


def test_the_answer_is_token_ids_and_deadline(hall: Ask) -> None:
    before = lock(hall, 10)
    early = time.time_ns() // 1_000_000
    token, ids, deadline = hall(*hold("COUNT", 3, px=90_000))
    late = time.time_ns() // 1_000_000
    assert ids == [1, 2, 3]
    assert before < token < 2**53, "a fencing token from the one counter"
    assert early + 90_000 - 1 <= deadline <= late + 90_000 + 1
    assert hall(*hold())[0] > token


def test_held_rows_are_nobody_else_s(hall: Ask, refusal: Refusal, as_map: AsMap) -> None:
    seen = as_map(hall("KL.SEEK", "hall:1"))
    token, ids = held(hall, "COUNT", 2)
    assert ids == [1, 2]
    assert refusal(hall, *claim("IDS", 1, 1)).startswith("BUSY ")
    assert refusal(hall, *claim("IDS", 1, 1, "FOR", "ann")).startswith("BUSY "), "a claim is no CONFIRM"
    assert refusal(hall, *hold("IDS", 1, 2)).startswith("BUSY "), "nor does an owner have it twice"
    assert hall("KL.TRYLOCK", "hall:1") is None
    assert hall("KL.TRYLOCK", "hall:5", "hall:2") is None
    assert hall("KL.TRYLOCK", "hall:1", "OWNER", "ann") is None
    assert as_map(hall("KL.SEEK", "hall:1")) == seen, "holds are not fields"
    assert hall("KL.COUNT", "hall", "state", 0) == SEATS
    assert hall("KL.COUNT", "hall", "state", 0, "FREE") == SEATS - 2
    assert hall("KL.INTERSECT", "hall", "state", 0, "LIMIT", 3) == [1, 2, 3]
    assert free(hall) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert len(hall("KL.SCAN", "hall", 0)[1]) == SEATS
    assert hall("KL.LOCKS", "hall") == []
    assert as_map(hall("KL.INFO", "hall"))[b"locks"] == 0
    assert as_map(hall("KL.INFO", "hall"))[b"holds"] > 0
    assert hall("KL.RELEASE", token) == 2
    assert as_map(hall("KL.INFO", "hall"))[b"holds"] == 0
    assert hall("KL.TRYLOCK", "hall:1") is not None


def test_a_locked_row_cannot_be_held(hall: Ask, refusal: Refusal) -> None:
    token = lock(hall, 1)
    assert refusal(hall, *hold("IDS", 1, 1)).startswith("BUSY ")
    assert held(hall)[1] == [2]
    assert hall("KL.REPLACE", "hall:1", token, "note", "x", "UNLOCK") == b"OK", "the lock is as it was"


def test_a_hold_s_token_is_no_lock_and_a_lock_s_no_hold(hall: Ask, refusal: Refusal) -> None:
    token, _ = held(hall)
    assert refusal(hall, "KL.REPLACE", "hall:1", token, "note", "x").startswith("NOLOCK ")
    assert hall("KL.UNLOCK", "hall:1", token) == 0
    other = lock(hall, 2)
    for unknown in (other, other + 1000, 2**53 - 1):
        assert refusal(hall, *confirm(unknown)).startswith("NOHOLD ")
        assert refusal(hall, "KL.EXTEND", unknown, "PX", 1000).startswith("NOHOLD ")
        assert hall("KL.RELEASE", unknown) == 0
    assert hall("KL.TRYLOCK", "hall:1") is None
    assert hall("KL.TRYLOCK", "hall:2") is None
    assert states(hall) == []


# --- the deadline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (claim(), [1]),
        (claim("IDS", 1, 1), [1]),
        (claim("COUNT", SEATS), list(range(1, SEATS + 1))),
        (("KL.INTERSECT", "hall", "state", 0, "FREE", "LIMIT", 1), [1]),
        (("KL.COUNT", "hall", "state", 0, "FREE"), SEATS),
        (("KL.HOLDS", "hall"), []),
        (("KL.HOLDS", "hall", "FOR", "ann"), []),
    ],
    ids=str,
)
def test_the_deadline_is_judged_at_each_use(hall: Ask, words: Words, answer: Any) -> None:
    """Whatever is asked first behind it sees the rows free."""
    assert held(hall, px=5)[1] == [1]
    until(lambda: answer_of(hall, words) == answer, "the deadline")


def test_a_lock_or_another_hold_may_follow_the_deadline(hall: Ask, refusal: Refusal) -> None:
    token, _ = held(hall, px=5)
    taken = until(lambda: hall("KL.TRYLOCK", "hall:1"), "the deadline")
    assert taken > token
    other, _ = held(hall, "IDS", 1, 2, px=5)
    found = until(
        lambda: not isinstance(answer_of(hall, hold("IDS", 1, 2, owner="bob")), str), "the deadline"
    )
    assert found
    assert [(of, ids) for _, of, ids, _ in hall("KL.HOLDS", "hall")] == [(b"bob", [2])]
    for late in (token, other):
        assert refusal(hall, "KL.EXTEND", late, "PX", 1000).startswith("NOHOLD ")
        assert hall("KL.RELEASE", late) == 0
    assert free(hall) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_what_came_to_its_deadline_does_not_count_for_max(hall: Ask) -> None:
    held(hall, "COUNT", 2, px=5)
    until(lambda: answer_of(hall, claim("FOR", "ann", "MAX", 1)) == [1], "the deadline")


def test_info_does_not_count_ended_holds(hall: Ask, as_map: AsMap) -> None:
    held(hall, px=5)
    until(lambda: as_map(hall("KL.INFO", "hall"))[b"holds"] == 0, "the deadline")


# --- RELEASE --------------------------------------------------------------------------------------------


def test_release_counts_what_went_back(hall: Ask) -> None:
    token, ids = held(hall, "COUNT", 3)
    other, _ = held(hall, "COUNT", 2, owner="bob")
    assert hall("KL.RELEASE", token) == len(ids) == 3
    assert free(hall) == [1, 2, 3, 6, 7, 8, 9, 10]
    assert hall("KL.RELEASE", token) == 0
    assert hall(*claim("IDS", 1, 2)) == [2]
    assert hall("KL.RELEASE", f"000{token}") == 0
    assert states(hall) == [2], "nothing changes"
    assert hall("KL.RELEASE", f"00{other}") == 2
    late, _ = ended(hall, "IDS", 1, 9)
    assert hall("KL.RELEASE", late) == 0


def test_release_behind_confirm_changes_nothing(hall: Ask, refusal: Refusal) -> None:
    token, _ = held(hall, "COUNT", 2)
    assert hall(*confirm(token)) == [1, 2]
    assert hall("KL.RELEASE", token) == 0
    assert states(hall) == [1, 2]
    assert hall(*confirm(token)) == [1, 2], "it is confirmed as before"
    assert refusal(hall, *claim("COUNT", 1, "FOR", "ann", "MAX", 2)).startswith("LIMIT ")


def test_release_behind_the_deadline_leaves_a_late_payment_possible(hall: Ask) -> None:
    """It counts 0 and nothing changes, so CONFIRM is judged as if nobody had asked for the release."""
    token, _ = ended(hall, "IDS", 1, 4)
    assert hall("KL.RELEASE", token) == 0
    assert hall(*confirm(token)) == [4]


# --- EXTEND ---------------------------------------------------------------------------------------------


def test_extend_answers_the_new_deadline(hall: Ask) -> None:
    token, _, deadline = hall(*hold("COUNT", 2, px=30_000))
    early = time.time_ns() // 1_000_000
    later = hall("KL.EXTEND", token, "PX", 86_400_000)
    late = time.time_ns() // 1_000_000
    assert early + 86_400_000 - 1 <= later <= late + 86_400_000 + 1
    assert later > deadline
    (shown,) = hall("KL.HOLDS", "hall")
    assert shown[:3] == [token, b"ann", [1, 2]]
    assert 86_300_000 < shown[3] <= 86_400_001, "told in whole ms, a part of one is the hold's"
    sooner = hall("kl.extend", f"0{token}", "px", "0020000")
    assert sooner < deadline, "PX from now, be it sooner than before"
    assert hall("KL.HOLDS", "hall")[0][3] <= 20_001
    hall("KL.EXTEND", token, "PX", 1)
    until(lambda: hall("KL.HOLDS", "hall") == [], "the deadline")
    assert free(hall) == list(range(1, SEATS + 1))


def test_what_is_over_cannot_be_extended(hall: Ask, refusal: Refusal) -> None:
    late, _ = ended(hall)
    released, _ = held(hall, "IDS", 1, 2)
    hall("KL.RELEASE", released)
    confirmed, _ = held(hall, "IDS", 1, 3)
    hall(*confirm(confirmed))
    replaced, _ = held(hall, "IDS", 1, 4)
    held(hall, "IDS", 1, 5, "REPLACING", replaced)
    for token in (late, released, confirmed, replaced):
        assert refusal(hall, "KL.EXTEND", token, "PX", MINUTE_MS).startswith("NOHOLD ")
    assert free(hall) == [1, 2, 4, 6, 7, 8, 9, 10]


def test_bounds_of_px(hall: Ask, refusal: Refusal) -> None:
    for bad in (0, -1, "", "1_0", "+1", " 1", "1.5", "x", "1" * 33):
        words = ("KL.HOLD", "hall", "state", 0, "PX", bad, "FOR", "ann")
        assert NOT_AN_INTEGER in refusal(hall, *words)
    assert_untouched(hall)
    token, _ = held(hall, px=86_400_000)
    for bad in (0, -1, "", "x"):
        assert NOT_AN_INTEGER in refusal(hall, "KL.EXTEND", token, "PX", bad)
    assert hall("KL.HOLDS", "hall")[0][3] > 86_000_000


# --- HOLDS ----------------------------------------------------------------------------------------------


def test_holds_lists_live_ones(hall: Ask) -> None:
    make_hall(hall, "other")
    assert hall("KL.HOLDS", "hall") == []
    first, _ = held(hall, "IDS", 2, 9, 4, px=50_000)
    second, _ = held(hall, "COUNT", 2, owner="b\0b\r\n", px=40_000)
    third, _ = held(hall)
    held(hall, table="other", owner="far")
    shown = sorted(hall("KL.HOLDS", "hall"))
    assert [one[:3] for one in shown] == [
        [first, b"ann", [4, 9]],
        [second, b"b\0b\r\n", [1, 2]],
        [third, b"ann", [3]],
    ]
    assert [
        one[3] > most - 30_000 and one[3] <= most + 1
        for one, most in zip(shown, (50_000, 40_000, 60_000), strict=True)
    ]
    assert sorted(one[0] for one in hall("KL.HOLDS", "hall", "FOR", "ann")) == [first, third]
    assert [one[0] for one in hall("kl.holds", "hall", "for", b"b\0b\r\n")] == [second]
    assert hall("KL.HOLDS", "hall", "FOR", "nobody") == []
    hall(*confirm(first))
    hall("KL.RELEASE", third)
    assert [one[0] for one in hall("KL.HOLDS", "hall")] == [second]


# --- REPLACING ------------------------------------------------------------------------------------------


def test_replacing_is_never_blocked_by_an_own_cart(hall: Ask, refusal: Refusal) -> None:
    first, _ = held(hall, "COUNT", 2)
    assert refusal(hall, *hold("IDS", 2, 2, 3)).startswith("BUSY ")
    second, ids = held(hall, "IDS", 2, 2, 3, "REPLACING", first)
    assert ids == [2, 3]
    assert second > first
    assert free(hall) == [1, 4, 5, 6, 7, 8, 9, 10], "what the new cart has not is free"
    assert refusal(hall, *confirm(first)).startswith("NOHOLD ")
    assert hall("KL.RELEASE", first) == 0
    third, ids = held(hall, "COUNT", 10, "MAX", 10, "REPLACING", second)
    assert ids == list(range(1, SEATS + 1)), "its rows count as free, and not for MAX"
    fourth, ids = held(hall, "COUNT", 2, "ADJACENT", "seat", "WITHIN", "tier", "MAX", 2, "REPLACING", third)
    assert ids == [1, 2]
    assert [one[0] for one in hall("KL.HOLDS", "hall")] == [fourth]
    assert hall(*confirm(fourth)) == [1, 2]


@pytest.mark.parametrize(
    ("words", "answer"),
    [(("COUNT", 9), "BUSY"), (("COUNT", 11), []), (("IDS", 1, 99), []), (("COUNT", 2, "MAX", 1), "LIMIT")],
    ids=str,
)
def test_a_cart_is_kept_when_the_new_one_is_not_to_be_had(hall: Ask, words: Words, answer: Any) -> None:
    """An error has changed nothing; and of an empty answer a shopper would not expect an empty cart."""
    held(hall, "IDS", 2, 9, 10, owner="bob")
    token, _ = held(hall, "COUNT", 2)
    assert answer_of(hall, hold(*words, "REPLACING", token)) == answer
    assert sorted(one[0] for one in hall("KL.HOLDS", "hall", "FOR", "ann")) == [token]
    assert hall(*confirm(token)) == [1, 2]


def test_replacing_does_not_touch_another_s_hold(hall: Ask) -> None:
    """The contract has REPLACING for a hold of the same owner; whether it refuses or goes on is open."""
    token, _ = held(hall, owner="bob")
    answer_of(hall, hold("IDS", 1, 1, "REPLACING", token))
    assert hall("KL.HOLDS", "hall", "FOR", "bob")[0][:3] == [token, b"bob", [1]]
    assert hall(*confirm(token)) == [1]


def test_replacing_does_not_take_back_a_sale(hall: Ask) -> None:
    """Nor does a cart that was paid for stand in the way of the next; whether that is refused is open."""
    token, _ = held(hall, "COUNT", 2)
    hall(*confirm(token))
    answer_of(hall, hold("REPLACING", token))
    assert states(hall) == [1, 2]
    assert hall(*confirm(token)) == [1, 2]


def test_replacing_a_hold_that_is_over(hall: Ask, refusal: Refusal) -> None:
    """A shopper who comes late, and whose rows are free again, must get them. Then the new hold is the only
    one: the old one's payment would buy the same rows twice."""
    token, _ = ended(hall, "COUNT", 2)
    _, ids = held(hall, "COUNT", 2, "REPLACING", token)
    assert ids == [1, 2]
    assert answer_of(hall, confirm(token)) in ("NOHOLD", "RESOLD")
    assert free(hall) == [3, 4, 5, 6, 7, 8, 9, 10]


# --- options --------------------------------------------------------------------------------------------


def test_options_come_in_any_order(hall: Ask) -> None:
    token, _ = held(hall)
    options: list[Words] = [("PX", 900), ("FOR", "ann"), ("COUNT", 2), ("MAX", 2), ("REPLACING", None)]
    for order in permutations(options):
        words = [token if word is None else word for option in order for word in option]
        token, ids, _ = hall("KL.HOLD", "hall", "state", 0, *words)
        assert ids == [1, 2]


def test_hold_refuses_what_it_cannot_look_for(hall: Ask, refusal: Refusal) -> None:
    assert refusal(hall, *hold(table="nowhere")) == "unknown table 'nowhere'"
    assert refusal(hall, "KL.HOLDS", "nowhere") == "unknown table 'nowhere'"
    end = ("PX", 1000, "FOR", "ann")
    assert "'note' is not indexed" in refusal(hall, "KL.HOLD", "hall", "note", "", *end)
    assert refusal(hall, "KL.HOLD", "hall", "chair", 1, *end) == "unknown field 'chair'"
    assert "out of range for U8" in refusal(hall, "KL.HOLD", "hall", "state", 256, *end)
    assert_untouched(hall)
