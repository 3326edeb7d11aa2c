"""Deadlines to the nanosecond, what a restart leaves of them, and for how long the rest is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage.engine import EngineOptions
from tests.hall import Words, answer_of, claim, confirm, free, give_back, held, hold, make_hall, states
from tests.shop import Shop

MS = 1_000_000
DAY_MS = 86_400_000
PHASES_NS = (0, 1, 400_000, 999_999)  # of the clock when a hold begins


@pytest.fixture
def shop() -> Shop:
    return open_shop()


def open_shop(options: EngineOptions | None = None) -> Shop:
    shop = Shop(options)
    make_hall(lambda *words: shop.ask(*words))
    return shop


# --- deadlines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES_NS)
@pytest.mark.parametrize("px", [1, 2, 999, DAY_MS])
@pytest.mark.parametrize("is_extended", [False, True])
def test_a_hold_is_never_shorter_than_told(shop: Shop, phase: int, px: int, is_extended: bool) -> None:
    """Nor longer, when the server is up, than what one tick of its clock may add."""
    shop.clock.now += phase
    if is_extended:
        token, _ = held(shop.ask)
        shop.clock.now += 7_300_001
        shop.ask("KL.EXTEND", token, "PX", px)
    else:
        token, _ = held(shop.ask, px=px)
    shop.clock.now += px * MS - 1
    assert answer_of(shop.ask, claim("IDS", 1, 1)) == "BUSY", "1 ns before the deadline"
    assert [one[0] for one in shop.ask("KL.HOLDS", "hall")] == [token]
    shop.clock.now += 1 + MS
    assert shop.ask("KL.HOLDS", "hall") == []
    assert shop.ask(*claim("IDS", 1, 1)) == [1]


def is_lock(answer: Any) -> bool:
    return isinstance(answer, int) and answer > 1


FIRST_USES: list[tuple[Words, Callable[[Any], bool]]] = [
    (claim("COUNT", 10), lambda answer: len(answer) == 10),
    (claim("IDS", 1, 2), lambda answer: answer == [2]),
    (claim("COUNT", 4, "ADJACENT", "seat", "WITHIN", "tier"), lambda answer: answer == [1, 2, 3, 4]),
    (claim("COUNT", 3, "FOR", "ann", "MAX", 3), lambda answer: answer == [1, 2, 3]),
    (hold("COUNT", 10, "MAX", 10), lambda answer: len(answer[1]) == 10),
    (("KL.TRYLOCK", "hall:2"), is_lock),
    (("KL.TRYLOCK", "hall:5", "hall:2"), is_lock),
    (("KL.COUNT", "hall", "state", 0, "FREE"), lambda answer: answer == 10),
    (("KL.INTERSECT", "hall", "state", 0, "FREE", "LIMIT", 2), lambda answer: answer == [1, 2]),
    (("KL.HOLDS", "hall"), lambda answer: answer == []),
    (("KL.HOLDS", "hall", "FOR", "ann"), lambda answer: answer == []),
    (("KL.INFO", "hall"), lambda answer: answer[answer.index(b"holds") + 1] == 0),
    (("KL.RELEASE", None), lambda answer: answer == 0),
    (("KL.EXTEND", None, "PX", 5), lambda answer: answer == "NOHOLD"),
    (("KL.CONFIRM", None, "SET", "state", 1), lambda answer: answer == [1, 2, 3]),
]


@pytest.mark.parametrize(("words", "is_right"), FIRST_USES, ids=[str(words) for words, _ in FIRST_USES])
def test_it_is_over_for_whoever_asks_first(shop: Shop, words: Words, is_right: Callable[[Any], bool]) -> None:
    token, ids = held(shop.ask, "COUNT", 3, px=1000)
    assert ids == [1, 2, 3]
    shop.clock.pass_ms(1001)
    answer = answer_of(shop.ask, tuple(token if word is None else word for word in words))
    assert is_right(answer), answer


# --- restarts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_checkpoint", [False, True])
@pytest.mark.parametrize("up_ms", [0, 1, 700, 999])
def test_time_without_a_server_does_not_count(shop: Shop, up_ms: int, with_checkpoint: bool) -> None:
    token, _ = held(shop.ask, px=1000)
    shop.clock.pass_ms(up_ms)
    if with_checkpoint:
        shop.checkpoint()
    shop.crash(down_ms=7 * DAY_MS)
    shop.clock.now += (1000 - up_ms) * MS - 1
    assert answer_of(shop.ask, claim("IDS", 1, 1)) == "BUSY"
    assert [one[0] for one in shop.ask("KL.HOLDS", "hall")] == [token]
    shop.clock.pass_ms(up_ms + 2)
    assert shop.ask(*claim("IDS", 1, 1)) == [1], "and no restart gives it more than it was told"


TAKINGS: list[list[Words]] = [
    [claim("IDS", 1, 1)],
    [claim("IDS", 1, 1, "FOR", "bob")],
    [claim("IDS", 1, 1, "REQUEST", "r")],
    [hold("IDS", 1, 1, owner="bob", px=DAY_MS)],
    [hold("IDS", 1, 1, owner="bob", px=1)],
    [("KL.TRYLOCK", "hall:1"), ("KL.REPLACE", "hall:1", None, "state", 1, "UNLOCK")],
]


@pytest.mark.parametrize("taking", TAKINGS, ids=str)
@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_what_was_taken_behind_a_deadline_stays_taken(
    shop: Shop, taking: list[Words], with_checkpoint: bool
) -> None:
    """Who took the row was told that the hold was over. No reply shows what a crash could take back, so
    behind it the hold is over, too: it neither blocks the row again nor can be extended."""
    token, ids = held(shop.ask, "COUNT", 2, px=60_000)
    assert ids == [1, 2]
    if with_checkpoint:
        shop.checkpoint()
    shop.clock.pass_ms(60_001)
    answer: Any = None
    for words in taking:
        answer = shop.ask(*(answer if word is None else word for word in words))
        assert answer
    shop.crash()
    assert token not in [one[0] for one in shop.ask("KL.HOLDS", "hall")]
    assert answer_of(shop.ask, ("KL.EXTEND", token, "PX", 1000)) == "NOHOLD"
    if taking[0][0] != "KL.HOLD":
        assert shop.ask("KL.TRYLOCK", "hall:1") is not None, "held by nobody"
        assert answer_of(shop.ask, confirm(token)) == "RESOLD"


def test_a_live_hold_whose_row_is_gone_is_never_sold(shop: Shop) -> None:
    """However a restart sets the time: the row was sold behind the deadline, and is sold once."""
    token, _ = held(shop.ask, "COUNT", 2, px=60_000)
    shop.clock.pass_ms(60_001)
    assert shop.ask(*claim("note", "hers", "IDS", 1, 1)) == [1]
    shop.crash()
    assert answer_of(shop.ask, confirm(token, "note", "late")) == "RESOLD"
    assert shop.ask("KL.SEEK", "hall:1", "note") == [b"note", b"hers"]


# --- no reply shows what a crash could take back -------------------------------------------------------


WAITING: list[Words] = [
    ("KL.TRYLOCK", "hall:1"),
    ("KL.TRYLOCK", "hall:5", "hall:1"),
    claim("IDS", 1, 1),
    claim("COUNT", 10),
    claim("COUNT", 1, "FOR", "ann", "MAX", 1),
    hold("IDS", 1, 1),
    hold("REQUEST", "r", px=1000),  # the resend of what is not durable
    ("KL.COUNT", "hall", "state", 0, "FREE"),
    ("KL.INTERSECT", "hall", "state", 0, "FREE"),
    ("KL.HOLDS", "hall"),
    ("KL.HOLDS", "hall", "FOR", "ann"),
    ("KL.CONFIRM", 10**6, "SET", "state", 1),  # a refusal
]


@pytest.mark.parametrize("words", WAITING, ids=str)
def test_a_reply_that_shows_a_hold_waits_for_it(shop: Shop, words: Words) -> None:
    assert not shop.is_held_back("KL.INTERSECT", "hall", "state", 0)
    assert shop.is_held_back(*hold("REQUEST", "r", px=1000))
    assert not shop.is_held_back("KL.SEEK", "hall:1"), "it shows no hold"
    assert shop.is_held_back(*words)


def test_a_reply_that_shows_the_end_of_a_hold_waits_for_it(shop: Shop) -> None:
    token, _ = held(shop.ask)
    paid, _ = held(shop.ask)
    assert shop.is_held_back("KL.RELEASE", token)
    for words in (("KL.RELEASE", token), ("KL.EXTEND", token, "PX", 1), confirm(token), ("KL.HOLDS", "hall")):
        assert shop.is_held_back(*words), words
    shop.ask("PING")
    assert shop.is_held_back(*confirm(paid))
    for words in (confirm(paid), ("KL.RELEASE", paid), claim("IDS", 1, 2), ("KL.SEEK", "hall:2")):
        assert shop.is_held_back(*words), words


# --- what is remembered ---------------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [0, 1, 6])
def test_requests_and_ended_holds_are_remembered_for_a_day(shop: Shop, restarts: int) -> None:
    """Of the time that a server is up, so that nobody's resend comes too late because of a night's repair."""
    bought = claim("REQUEST", "r", "FOR", "ann")
    assert shop.ask(*bought) == [1]
    cart = hold("REQUEST", "s", owner="bob", px=1)
    answer = shop.ask(*cart)
    paid, _ = held(shop.ask, px=DAY_MS)
    assert shop.ask(*confirm(paid)) == [3]
    refund = give_back(1, more=("REQUEST", "t"))
    assert shop.ask(*refund) == 1
    shop.clock.pass_ms(2)
    assert shop.ask("KL.HOLDS", "hall") == []
    for number in range(restarts):
        shop.clock.pass_ms(1000)
        assert shop.ask(*claim("IDS", 1, 10, "FOR", "eve")) == [10]
        assert shop.ask(*give_back(10, owner="eve", more=("REQUEST", f"eve {number}"))) == 1
        shop.checkpoint()
        if number % 2:
            shop.crash(down_ms=DAY_MS)
    shop.clock.pass_ms(DAY_MS - 2 - 1000 * restarts - 1)
    assert shop.ask(*bought) == [1]
    assert shop.ask(*cart) == answer
    assert shop.ask(*refund) == 1
    assert shop.ask(*confirm(paid)) == [3]
    assert answer_of(shop.ask, confirm(paid, "buyer", 7)) == "REQUEST"
    assert shop.ask(*confirm(answer[0])) == [2], "a late payment"


@pytest.mark.parametrize("checkpoints", [0, 1, 12])
def test_units_go_back_once_however_often_the_store_is_put_away(shop: Shop, checkpoints: int) -> None:
    """What an owner has of a counter outlives the hold that it was bought with."""
    ask = shop.ask
    ask("KL.CREATE", "door", "SCHEMA", "left", "COUNTER", "state", "U8", "INDEX")
    for row in (1, 2):
        ask("KL.INSERT", f"door:{row}", "left", 100)
    words = ("KL.HOLD", "door", "IDS", 1, 1, "TAKE", 4, "FROM", "left", "PX", DAY_MS, "FOR", "ann")
    token, _, _ = ask(*words)
    assert ask("KL.CONFIRM", token, "SET", "state", 1) == [1]
    refund = ("KL.RETURN", "door", "FOR", "ann", 1, "TAKE", 3, "FROM", "left")
    assert ask(*refund) == 3
    for _ in range(checkpoints):
        assert ask("KL.CLAIM", "door", "IDS", 1, 2, "TAKE", 1, "FROM", "left", "FOR", "bob") == [2]
        shop.checkpoint()
    shop.crash()
    assert shop.ask(*refund) == 0
    assert shop.ask("KL.SEEK", "door:1", "left") == [b"left", 99]
    one = ("KL.CLAIM", "door", "IDS", 1, 1, "TAKE", 1, "FROM", "left", "FOR", "ann", "MAX", 2)
    assert shop.ask(*one) == [1]
    assert answer_of(shop.ask, one) == "LIMIT"


def test_in_the_end_they_are_forgotten(shop: Shop) -> None:
    """Or their memory would fill: two days are more than a day with all that a sweep may add."""
    assert shop.ask(*claim("REQUEST", "r")) == [1]
    late, _ = held(shop.ask, px=1)
    for number in range(3):
        shop.clock.pass_ms(2 * DAY_MS)
        assert shop.ask(*claim("REQUEST", f"other {number}")) == [2 + number]
    assert answer_of(shop.ask, confirm(late)) == "NOHOLD"
    assert shop.ask(*claim("REQUEST", "r")) == [5]


@pytest.mark.parametrize("filled_by", [("REQUEST", "r"), ("PX", 1, "FOR", "ann")], ids=str)
def test_what_another_table_remembers_is_forgotten_too(filled_by: Words) -> None:
    """The room is shared: old answers of a table that nobody asks any more leave it, and so do old holds."""
    shop = open_shop(EngineOptions(segment_bytes=64 << 10, remembered_bytes_max=400))
    make_hall(shop.ask, "other")
    if filled_by[0] == "PX":
        words = ("KL.HOLD", "other", "state", 0, *filled_by)
    else:
        words = claim(*filled_by, table="other")
    number = 0
    while answer_of(shop.ask, words if filled_by[0] == "PX" else (*words[:-1], f"r{number}")) != "OOM":
        number += 1
        shop.clock.pass_ms(2)
        assert number < 10
    assert answer_of(shop.ask, claim("REQUEST", "mine")) == "OOM"
    shop.ask("KL.HOLDS", "other")
    shop.clock.pass_ms(2 * DAY_MS)
    assert shop.ask(*claim("REQUEST", "mine")) == [1]


def test_a_full_memory_refuses_new_requests_and_forgets_none(shop: Shop) -> None:
    shop = open_shop(EngineOptions(segment_bytes=64 << 10, remembered_bytes_max=1000))
    answers = []
    number = 0
    while (answer := answer_of(shop.ask, claim("IDS", 1, 1, "FOR", "ann", "REQUEST", f"r{number}"))) == [1]:
        assert shop.ask(*give_back(1)) == 1
        answers.append(answer)
        number += 1
        assert number < 100
    assert answer == "OOM"
    assert number >= 2
    assert free(shop.ask) == list(range(1, 11)), "and changes nothing"
    for known in range(number):
        assert shop.ask(*claim("IDS", 1, 1, "FOR", "ann", "REQUEST", f"r{known}")) == [1]
    assert states(shop.ask) == [], "they are resends"
    assert answer_of(shop.ask, hold("REQUEST", "s")) == "OOM"
    assert shop.ask(*claim("COUNT", 11, "REQUEST", "t")) == [], "what is not remembered needs no room"
    assert shop.ask(*claim("FOR", "ann")) == [1]
    assert answer_of(shop.ask, give_back(1, more=("REQUEST", "u"))) == "OOM"
    assert shop.ask(*give_back(1)) == 1
    shop.crash()
    assert answer_of(shop.ask, claim("REQUEST", f"r{number}")) == "OOM"
    shop.clock.pass_ms(2 * DAY_MS)
    assert shop.ask(*claim("REQUEST", f"r{number}")) == [1], "a day later there is room again"
