"""Units that a hold keeps aside are there when it is paid, whatever happens to the counter's row."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hall import Words, answer_of
from tests.shop import Shop

DAY_MS = 86_400_000
PLACES = 10


def take(count: int, *more: Any, verb: str = "KL.CLAIM") -> Words:
    return (verb, "door", *more, "IDS", 1, 1, "TAKE", count, "FROM", "left")


def keep(count: int, *more: Any, owner: str = "ann", px: int = 60_000) -> Words:
    return (*take(count, verb="KL.HOLD"), "PX", px, "FOR", owner, *more)


def pay(token: int) -> Words:
    return ("KL.CONFIRM", token, "SET", "buyer", 7)


def refund(count: int, owner: str = "ann") -> Words:
    return ("KL.RETURN", "door", "FOR", owner, 1, "TAKE", count, "FROM", "left")


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    fields = ("left", "COUNTER", "vip", "COUNTER", "open", "U8", "INDEX", "buyer", "U32")
    shop.ask("KL.CREATE", "door", "SCHEMA", *fields)
    shop.ask("KL.INSERT", "door:1", "left", PLACES, "vip", 5)
    return shop


def left(shop: Shop, field: str = "left") -> int:
    count: int = shop.ask("KL.SEEK", "door:1", field)[1]
    return count


MEANWHILE: dict[str, list[Words]] = {
    "a lock": [("KL.TRYLOCK", "door:1")],
    "a change by hand": [
        ("KL.TRYLOCK", "door:1"),
        ("KL.REPLACE", "door:1", None, "open", 1, "vip", 9, "UNLOCK"),
    ],
    "others' units": [take(7), ("KL.CLAIM", "door", "open", 0, "SET", "open", 1)],
    "the row is held": [("KL.HOLD", "door", "open", 0, "PX", DAY_MS, "FOR", "bob")],
    "a refund": [(*take(2), "FOR", "ann"), refund(2)],
    "others' holds": [keep(7, owner="bob")],
}


@pytest.mark.parametrize("story", MEANWHILE)
@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("criteria", [(), ("open", 0)], ids=str)
def test_what_is_kept_aside_is_sold(shop: Shop, story: str, is_restarted: bool, criteria: Words) -> None:
    token = shop.ask(*take(3, *criteria, verb="KL.HOLD"), "PX", 60_000, "FOR", "ann")[0]
    answer = None
    for words in MEANWHILE[story]:
        answer = shop.ask(*(answer if word is None else word for word in words))
        assert answer
    if is_restarted:
        shop.checkpoint()
        shop.crash(down_ms=DAY_MS)
    before = left(shop)
    assert shop.ask(*pay(token)) == [1]
    assert left(shop) == before - 3
    assert shop.ask(*pay(token)) == [1]
    assert left(shop) == before - 3
    assert answer_of(shop.ask, refund(3)) in (3, "BUSY")


def test_a_lock_s_holder_does_not_put_back_what_was_sold_meanwhile(shop: Shop) -> None:
    token = shop.ask(*keep(3))[0]
    lock = shop.ask("KL.TRYLOCK", "door:1")
    read = left(shop)
    assert shop.ask(*pay(token)) == [1]
    stale = ("KL.REPLACE", "door:1", lock, "left", read)
    assert answer_of(shop.ask, stale) == "BUSY"
    assert shop.ask("KL.REPLACE", "door:1", lock, "open", 1, "UNLOCK") == b"OK", "other fields are the lock's"
    lock = shop.ask("KL.TRYLOCK", "door:1")
    assert shop.ask("KL.REPLACE", "door:1", lock, "left", 5, "UNLOCK") == b"OK"
    assert left(shop) == 5


@pytest.mark.parametrize("story", ["a lock", "the row is held", "others' units"])
def test_a_late_payment_wants_a_free_row_with_enough_units(shop: Shop, story: str) -> None:
    token = shop.ask(*keep(4, px=1000))[0]
    shop.clock.pass_ms(1001)
    for words in MEANWHILE[story]:
        assert shop.ask(*words)
    assert answer_of(shop.ask, pay(token)) == "RESOLD"
