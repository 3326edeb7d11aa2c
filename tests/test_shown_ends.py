"""What is seen is durable, the end of a hold included: whoever was shown it is never contradicted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hall import Words, answer_of, claim, confirm, free, held, hold, make_hall
from tests.shop import Shop

DAY_MS = 86_400_000
FREE_ROWS: list[Words] = [
    ("KL.INTERSECT", "hall", "state", 0, "FREE"),
    ("KL.INTERSECT", "hall", "state", 0, "FREE", "LIMIT", 0),
    ("KL.INTERSECT", "hall", "state", 0, "FREE", "AFTER", 0),
    ("KL.COUNT", "hall", "state", 0, "FREE"),
    ("KL.TRYLOCK", "hall:1"),
]
SHOWING: list[Words] = [
    *FREE_ROWS,
    ("KL.HOLDS", "hall"),
    ("KL.HOLDS", "hall", "FOR", "ann"),
    ("KL.INFO", "hall"),
    ("KL.RELEASE", None),
    ("KL.EXTEND", None, "PX", 1000),
    claim("IDS", 1, 1),
    claim("COUNT", 10),
    hold("IDS", 1, 1, owner="bob"),
    ("KL.CONFIRM", None, "SET", "state", 1),
]
HIDING: list[Words] = [
    ("KL.SEEK", "hall:1"),
    ("KL.INTERSECT", "hall", "state", 0),
    ("KL.INTERSECT", "other", "state", 0, "FREE"),
    ("KL.COUNT", "hall", "state", 0),
    claim("COUNT", 11),
    ("KL.TRYLOCK", "other:1"),
]


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    make_hall(shop.ask)
    make_hall(shop.ask, "other")
    return shop


def named(words: Words, token: int) -> Words:
    return tuple(token if word is None else word for word in words)


# --- holds that were let go of ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", FREE_ROWS, ids=str)
@pytest.mark.parametrize("end", ["release", "replaced"])
def test_a_row_is_seen_free_once_the_end_of_its_hold_is_durable(shop: Shop, end: str, words: Words) -> None:
    token, _ = held(shop.ask)
    if end == "release":
        assert shop.is_held_back("KL.RELEASE", token)
    else:
        assert shop.is_held_back(*hold("IDS", 1, 2, "REPLACING", token))
    assert shop.is_held_back(*words)
    shop.ask("PING")
    if words[0] != "KL.TRYLOCK":
        assert not shop.is_held_back(*words)


def test_a_row_that_was_sold_is_seen_free_for_others_once_that_is_durable(shop: Shop) -> None:
    """A question may ask for what the sale leaves as it was."""
    token, _ = held(shop.ask)
    assert shop.is_held_back(*confirm(token))
    assert shop.is_held_back("KL.INTERSECT", "hall", "zone", 1, "FREE")


# --- holds that came to their deadline --------------------------------------------------------------------


@pytest.mark.parametrize("words", SHOWING, ids=str)
@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_what_was_shown_over_is_over_behind_a_crash(shop: Shop, words: Words, with_checkpoint: bool) -> None:
    token, _ = held(shop.ask, px=1000)
    shop.clock.pass_ms(500)
    if with_checkpoint:
        shop.checkpoint()
    shop.clock.pass_ms(501)
    answer: Any = answer_of(shop.ask, named(words, token))
    shop.crash(down_ms=DAY_MS)
    assert token not in [one[0] for one in shop.ask("KL.HOLDS", "hall")]
    assert answer_of(shop.ask, ("KL.EXTEND", token, "PX", 1000)) == "NOHOLD"
    assert shop.ask("KL.RELEASE", token) == 0
    if words[0] in ("KL.INTERSECT", "KL.COUNT"):
        assert shop.ask(*words) == answer
    if words[0] not in ("KL.CLAIM", "KL.HOLD", "KL.CONFIRM"):
        assert 1 in free(shop.ask)
        assert shop.ask(*confirm(token)) == [1], "a late payment"


@pytest.mark.parametrize("words", SHOWING, ids=str)
def test_what_shows_an_end_waits_for_it(shop: Shop, words: Words) -> None:
    token, _ = held(shop.ask, px=1000)
    shop.clock.pass_ms(1001)
    assert shop.is_held_back(*named(words, token))


@pytest.mark.parametrize("words", HIDING, ids=str)
def test_what_shows_no_end_waits_for_none(shop: Shop, words: Words) -> None:
    held(shop.ask, px=1000)
    shop.clock.pass_ms(1001)
    assert not shop.is_held_back(*words)


def test_an_end_is_written_down_once(shop: Shop) -> None:
    """Of all that were over by then, for all who look; and a look that finds none over writes nothing."""
    for row in range(1, 6):
        held(shop.ask, "IDS", 1, row, px=1000)
    held(shop.ask, px=DAY_MS)
    ends = []
    for ms in (999, 2, 0, 5000):
        shop.clock.pass_ms(ms)
        for words in FREE_ROWS[:4]:
            shop.ask(*words)
        ends.append(shop.engine.appended)
    assert ends[0] < ends[1] == ends[2] == ends[3]
    assert ends[1] - ends[0] < 64, "bytes"


def test_units_that_were_seen_back_are_back(shop: Shop) -> None:
    """Else the hold would be live again behind the crash, and its units sold twice."""
    shop.ask("KL.CREATE", "door", "SCHEMA", "left", "COUNTER", "state", "U8", "INDEX")
    shop.ask("KL.INSERT", "door:1", "left", 5)
    units = ("IDS", 1, 1, "TAKE", 5, "FROM", "left")
    token, _, _ = shop.ask("KL.HOLD", "door", *units, "PX", 1000, "FOR", "ann")
    shop.clock.pass_ms(1001)
    assert shop.ask("KL.CLAIM", "door", *units) == [1]
    shop.crash()
    assert shop.ask("KL.HOLDS", "door") == []
    assert answer_of(shop.ask, ("KL.CONFIRM", token, "SET", "state", 1)) == "RESOLD"
    assert shop.ask("KL.SEEK", "door:1", "left") == [b"left", 0]


def test_an_end_seen_in_a_transaction(shop: Shop) -> None:
    token, _ = held(shop.ask, px=1000)
    shop.clock.pass_ms(1001)
    for words in (("MULTI",), FREE_ROWS[0], claim("IDS", 1, 2)):
        shop.ask(*words)
    assert shop.ask("EXEC") == [list(range(1, 11)), [2]]
    shop.crash()
    assert shop.ask("KL.RELEASE", token) == 0


def test_holds_that_nobody_saw_end_may_go_on(shop: Shop) -> None:
    """Time in which no server runs counts for nobody: the log's last word is as late as it was."""
    token, _ = held(shop.ask, px=1000)
    shop.clock.pass_ms(1001)
    shop.crash()
    assert [one[0] for one in shop.ask("KL.HOLDS", "hall")] == [token]
    shop.clock.pass_ms(1000)
    assert shop.ask("KL.HOLDS", "hall") == []


def test_whoever_extends_without_end_takes_no_room(shop: Shop) -> None:
    token, _ = held(shop.ask)
    for _ in range(5000):
        shop.engine.selling.extend(token, DAY_MS)
    assert len(shop.engine.selling._deadlines) < 2000
    shop.clock.pass_ms(DAY_MS - 1)
    assert len(shop.ask("KL.HOLDS", "hall")) == 1
    shop.clock.pass_ms(1)
    assert shop.ask("KL.HOLDS", "hall") == []
