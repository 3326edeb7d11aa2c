"""A hall of ten seats, for the tests of the selling verbs, and the commands that they ask of it.

Seats 1 to 5 are the first tier, 6 to 10 the second, each numbered 1 to 5 in its tier; 9 and 10 are zone 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.zygote import until

Ask = Callable[..., Any]
Refusal = Callable[..., str]
Words = tuple[Any, ...]

SEATS = 10
SCHEMA = (
    *("state", "U8", "INDEX", "zone", "U8", "INDEX"),
    *("tier", "U16", "seat", "U16", "buyer", "U32", "note", "BYTES", 16),
)
MINUTE_MS = 60_000
REFUSALS = {"NOLOCK", "NOHOLD", "EXISTS", "NOROW", "BUSY", "LIMIT", "REQUEST", "RESOLD", "OOM"}
SYNTAX = "syntax error"
NOT_AN_INTEGER = "value is not an integer or out of range"


def make_hall(ask: Ask, table: str = "hall", seats: int = SEATS) -> Ask:
    ask("KL.CREATE", table, "SCHEMA", *SCHEMA)
    for number in range(seats):
        zone = 1 if number < 8 else 2
        words = ("zone", zone, "tier", 1 + number // 5, "seat", 1 + number % 5)
        assert ask("KL.INSERT", f"{table}:{number + 1}", *words) == 1
    return ask


def claim(*more: Any, table: str = "hall") -> Words:
    return ("KL.CLAIM", table, "state", 0, "SET", "state", 1, *more)


def hold(*more: Any, owner: str = "ann", px: int = MINUTE_MS, table: str = "hall") -> Words:
    return ("KL.HOLD", table, "state", 0, "PX", px, "FOR", owner, *more)


def confirm(token: int, *more: Any) -> Words:
    return ("KL.CONFIRM", token, "SET", "state", 1, *more)


def give_back(*ids: int, owner: str = "ann", more: Words = (), table: str = "hall") -> Words:
    return ("KL.RETURN", table, "FOR", owner, *ids, "SET", "state", 0, *more)


def held(ask: Ask, *more: Any, **options: Any) -> tuple[int, list[int]]:
    """A new hold's token and rows."""
    token, ids, deadline = ask(*hold(*more, **options))
    assert isinstance(token, int) and isinstance(deadline, int)
    return token, ids


def ended(ask: Ask, *more: Any, **options: Any) -> tuple[int, list[int]]:
    """A hold that came to its deadline: the server says so, nobody else has touched its rows."""
    token, ids = held(ask, *more, **{"px": 1, **options})
    until(lambda: token not in [one[0] for one in ask("KL.HOLDS", "hall")], "the deadline")
    return token, ids


def states(ask: Ask, table: str = "hall") -> list[int]:
    """Which seats are sold."""
    ids: list[int] = ask("KL.INTERSECT", table, "state", 1, "LIMIT", 0)
    return ids


def free(ask: Ask, table: str = "hall") -> list[int]:
    """Which seats match and are neither locked nor held."""
    ids: list[int] = ask("KL.INTERSECT", table, "state", 0, "FREE", "LIMIT", 0)
    return ids


def lock(ask: Ask, *ids: int) -> int:
    token = ask("KL.TRYLOCK", *(f"hall:{number}" for number in ids), "PX", MINUTE_MS)
    assert isinstance(token, int)
    return token


def arrange(ask: Ask, story: str) -> None:
    """`lock 1 2, hold 3, sell 4`: what happened before."""
    for part in filter(None, story.split(", ")):
        deed, *numbers = part.split()
        ids = [int(number) for number in numbers]
        if deed == "lock":
            lock(ask, *ids)
        elif deed == "hold":
            assert held(ask, "IDS", len(ids), *ids, owner="somebody")[1] == ids
        else:
            assert deed == "sell"
            assert ask(*claim("IDS", len(ids), *ids)) == ids


def answer_of(ask: Ask, words: Words) -> Any:
    """The reply, or the first word of the error as it was on the wire."""
    try:
        return ask(*words)
    except redis.ResponseError as error:
        first = str(error).partition(" ")[0]
        return first if first in REFUSALS else "ERR"


def assert_untouched(ask: Ask) -> None:
    assert free(ask) == list(range(1, SEATS + 1)), "a refusal has changed something"
    assert ask("KL.HOLDS", "hall") == []


def refused_at_syntax(ask: Ask, *words: Any) -> None:
    """As a syntax error, or as too few arguments where that comes first."""
    with pytest.raises(redis.ResponseError) as caught:
        ask(*words)
    text = str(caught.value)
    assert text == SYNTAX or text.startswith("wrong number of arguments for "), text
