"""General admission: COUNTER, and TAKE in KL.CLAIM, KL.HOLD and KL.RETURN."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from tests.hall import MINUTE_MS, SYNTAX, Ask, Refusal, Words, answer_of, refused_at_syntax
from tests.zygote import until

AsMap = Callable[[Any], dict[Any, Any]]
PLACES = 10
BUYERS = 6


@pytest.fixture
def door(ask: Ask) -> Ask:
    """Two entrances: 1 has ten places, 2 has none."""
    ask(
        "KL.CREATE",
        "door",
        "SCHEMA",
        "left",
        "COUNTER",
        "vip",
        "COUNTER",
        "open",
        "U8",
        "INDEX",
        "buyer",
        "U32",
    )
    assert ask("KL.INSERT", "door:1", "left", PLACES, "vip", 2, "open", 1) == 1
    assert ask("KL.INSERT", "door:2", "open", 1) == 1
    return ask


def take(count: Any, *more: Any, row: Any = 1, field: str = "left") -> Words:
    return ("KL.CLAIM", "door", "IDS", 1, row, "TAKE", count, "FROM", field, *more)


def keep(count: Any, *more: Any, owner: str = "ann", px: int = MINUTE_MS, row: Any = 1) -> Words:
    return ("KL.HOLD", "door", "IDS", 1, row, "TAKE", count, "FROM", "left", "PX", px, "FOR", owner, *more)


def refund(count: Any, *more: Any, owner: str = "ann", row: Any = 1) -> Words:
    return ("KL.RETURN", "door", "FOR", owner, row, "TAKE", count, "FROM", "left", *more)


def kept(ask: Ask, *words: Any, **options: Any) -> int:
    token, ids, _ = ask(*keep(*words, **options))
    assert ids == [1]
    assert isinstance(token, int)
    return token


@pytest.fixture
def left(door: Ask, as_map: AsMap) -> Callable[[], int]:
    def read() -> int:
        count = as_map(door("KL.SEEK", "door:1", "left"))[b"left"]
        assert isinstance(count, int)
        return count

    return read


Left = Callable[[], int]


# --- the type -------------------------------------------------------------------------------------------


def test_a_counter_is_a_u32(door: Ask, refusal: Refusal, as_map: AsMap) -> None:
    shown = as_map(door("KL.INFO", "door"))[b"schema"]
    assert shown[0] == [b"left", b"COUNTER", 0]
    assert door("KL.INSERT", "door:3", "left", 2**32 - 1) == 1
    assert as_map(door("KL.SEEK", "door:3", "left")) == {b"left": 2**32 - 1}
    assert "out of range" in refusal(door, "KL.INSERT", "door:4", "left", 2**32)
    for bad in ("", "-1", "1_0", "+1", "x"):
        assert "value is not an integer" in refusal(door, "KL.INSERT", "door:4", "left", bad)
    assert door("KL.SEEK", "door:4") is None
    assert door("kl.create", "d", "schema", "x", "counter") == b"OK"


def test_take_counts_down(door: Ask, left: Left) -> None:
    assert door(*take(3)) == [1]
    assert left() == 7
    assert door(*take("0007", "SET", "buyer", 5)) == [1]
    assert left() == 0
    assert door(*take(1)) == []
    assert door(*take(1, row=2)) == []
    assert left() == 0, "never below zero"


def test_counters_of_one_row_are_separate(door: Ask, as_map: AsMap) -> None:
    assert door(*take(2, field="vip")) == [1]
    assert door(*take(1, field="vip")) == []
    assert door(*take(10)) == [1]
    assert as_map(door("KL.SEEK", "door:1", "left", "vip")) == {b"left": 0, b"vip": 0}


def test_set_is_written_with_it(door: Ask, as_map: AsMap) -> None:
    assert door(*take(1, "SET", "open", 0, "buyer", 7)) == [1]
    assert as_map(door("KL.SEEK", "door:1", "left", "open", "buyer")) == {b"left": 9, b"open": 0, b"buyer": 7}


@pytest.mark.parametrize(
    ("holds", "count", "answer"),
    [
        ((), 10, [1]),
        ((), 11, []),
        ((), 2**32 - 1, []),
        ((3,), 7, [1]),
        ((3,), 8, "BUSY"),
        ((3,), 10, "BUSY"),
        ((3,), 11, []),
        ((3, 4, 3), 1, "BUSY"),
    ],
    ids=str,
)
def test_taken_busy_and_sold_out(door: Ask, left: Left, holds: Words, count: int, answer: Any) -> None:
    """BUSY when it is so only for holds, for a claim and for a hold alike."""
    for units in holds:
        kept(door, units, owner="somebody")
    assert left() == PLACES, "holds do not show"
    found = answer_of(door, keep(count))
    assert (found[1] if isinstance(found, list) and found else found) == answer
    if answer == [1]:
        assert door("KL.RELEASE", found[0]) == count
    assert answer_of(door, take(count)) == answer
    assert left() == PLACES - (count if answer == [1] else 0)


def test_holds_of_one_counter_stand_side_by_side(door: Ask, left: Left, refusal: Refusal) -> None:
    first, second = kept(door, 4), kept(door, 6, owner="bob")
    assert refusal(door, *take(1)).startswith("BUSY ")
    assert sorted(one[:3] for one in door("KL.HOLDS", "door")) == [
        [first, b"ann", [1]],
        [second, b"bob", [1]],
    ]
    assert door("KL.RELEASE", first) == 4, "units count"
    assert door("KL.RELEASE", first) == 0
    assert door(*take(4)) == [1]
    assert door("KL.CONFIRM", second, "SET", "buyer", 7) == [1]
    assert left() == 0
    assert door("KL.CONFIRM", second, "SET", "buyer", 7) == [1]
    assert left() == 0, "a resend takes nothing"
    assert refusal(door, "KL.CONFIRM", second, "SET", "buyer", 8).startswith("REQUEST ")
    assert door(*take(1)) == []


def test_units_come_back_at_the_deadline(door: Ask, left: Left) -> None:
    token = kept(door, 8, px=5)
    until(lambda: answer_of(door, take(3)) == [1], "the deadline")
    assert left() == 7
    assert door("KL.RELEASE", token) == 0
    assert answer_of(door, ("KL.CONFIRM", token, "SET", "buyer", 7)) == "RESOLD", "7 are fewer than 8"
    assert left() == 7
    other = kept(door, 2, px=1)
    until(lambda: door("KL.HOLDS", "door") == [], "the deadline")
    assert door("KL.CONFIRM", other, "SET", "buyer", 7) == [1], "a late payment for what is left"
    assert left() == 5


def test_extend_keeps_units(door: Ask) -> None:
    token = kept(door, 10, px=30_000)
    door("KL.EXTEND", token, "PX", MINUTE_MS)
    assert door("KL.HOLDS", "door")[0][3] > 30_000
    assert answer_of(door, take(1)) == "BUSY"


def test_replacing_gives_the_units_back_in_the_same_step(door: Ask, refusal: Refusal) -> None:
    token = kept(door, 8)
    assert refusal(door, *keep(5)).startswith("BUSY ")
    other = kept(door, 5, "REPLACING", token, "MAX", 8)
    assert refusal(door, *take(6)).startswith("BUSY ")
    assert door(*take(5)) == [1]
    assert refusal(door, "KL.CONFIRM", token, "SET", "buyer", 1).startswith("NOHOLD ")
    assert door("KL.RELEASE", other) == 5


def test_units_count_for_max(door: Ask, refusal: Refusal) -> None:
    mine = ("FOR", "ann", "MAX", 5)
    assert refusal(door, *take(6, *mine)).startswith("LIMIT ")
    assert door(*take(2, *mine)) == [1]
    token = kept(door, 2, "MAX", 5)
    assert refusal(door, *take(2, *mine)).startswith("LIMIT ")
    assert refusal(door, *keep(2, "MAX", 5)).startswith("LIMIT ")
    assert door(*take(1, *mine)) == [1]
    assert refusal(door, *take(1, *mine)).startswith("LIMIT ")
    assert door("KL.RELEASE", token) == 2
    assert door(*take(2, *mine)) == [1]
    assert refusal(door, *take(1, *mine)).startswith("LIMIT ")
    assert door(*take(1, "FOR", "bob", "MAX", 1)) == [1]


def test_units_are_returned(door: Ask, left: Left, refusal: Refusal) -> None:
    mine = ("FOR", "ann", "MAX", 5)
    assert door(*take(5, *mine)) == [1]
    assert door(*take(2, "FOR", "bob")) == [1]
    assert left() == 3
    words = refund(2, "SET", "buyer", 0, "REQUEST", "r")
    assert door(*words) == 2
    assert left() == 5
    assert door(*words) == 2
    assert left() == 5, "units look alike: a resend is told by its REQUEST"
    assert door(*take(2, *mine)) == [1]
    assert refusal(door, *take(1, *mine)).startswith("LIMIT ")
    assert door(*refund(1, owner="eve")) == 0
    assert left() == 3
    # More than were sold to the owner: how many go back is open, but never more than these.
    back = answer_of(door, refund(9))
    assert back in (0, 5, "ERR")
    assert left() == 3 + (back if isinstance(back, int) else 0)


def test_units_of_a_confirmed_hold_are_returned(door: Ask, left: Left) -> None:
    token = kept(door, 4)
    assert door("KL.CONFIRM", token, "SET", "buyer", 7) == [1]
    assert left() == 6
    assert door(*refund(4)) == 4
    assert left() == 10
    assert door(*refund(1)) == 0


def test_a_claim_of_units_sent_again(door: Ask, left: Left, refusal: Refusal) -> None:
    words = take(3, "FOR", "ann", "MAX", 3, "REQUEST", "r")
    for _ in range(3):
        assert door(*words) == [1]
    assert left() == 7
    assert refusal(door, *take(2, "FOR", "ann", "MAX", 3, "REQUEST", "r")).startswith("REQUEST ")
    first = door(*keep(7, "REQUEST", "s"))
    assert door(*keep(7, "REQUEST", "s")) == first
    assert answer_of(door, take(1, "REQUEST", "t")) == "BUSY"
    assert door("KL.RELEASE", first[0]) == 7
    assert door(*take(1, "REQUEST", "t")) == [1]


def test_replace_changes_a_counter_of_which_nothing_is_held(door: Ask, left: Left) -> None:
    token = door("KL.TRYLOCK", "door:1")
    assert door("KL.REPLACE", "door:1", token, "left", 20, "UNLOCK") == b"OK"
    assert left() == 20
    hold = kept(door, 5)
    # Whether a row of whose counter something is held can be locked at all is open; its counter stays.
    token = door("KL.TRYLOCK", "door:1")
    if token is not None:
        assert answer_of(door, ("KL.REPLACE", "door:1", token, "left", 3)) != b"OK"
        assert door("KL.UNLOCK", "door:1", token) == 1
    assert left() == 20
    assert door("KL.RELEASE", hold) == 5
    token = door("KL.TRYLOCK", "door:1")
    assert door("KL.REPLACE", "door:1", token, "left", 3, "UNLOCK") == b"OK"
    assert door(*take(4)) == []


def test_a_locked_row_gives_no_units(door: Ask, left: Left) -> None:
    """CLAIM takes rows that are neither locked nor held; whoever holds the lock may be about to change it."""
    token = door("KL.TRYLOCK", "door:1")
    assert answer_of(door, take(1)) == "BUSY"
    assert answer_of(door, keep(1)) == "BUSY"
    assert answer_of(door, take(11)) in ([], "BUSY")
    assert left() == PLACES
    assert door("KL.UNLOCK", "door:1", token) == 1
    assert door(*take(1)) == [1]


def test_units_in_a_transaction(client: Any) -> None:
    ask: Ask = client.execute_command
    ask("KL.CREATE", "door", "SCHEMA", "left", "COUNTER", "buyer", "U8")
    ask("KL.INSERT", "door:1", "left", 5)
    with client.pipeline() as pipeline:
        for _ in range(4):
            pipeline.execute_command(*take(2))
        assert pipeline.execute() == [[1], [1], [], []]
    assert ask("KL.SEEK", "door:1", "left") in ({b"left": 1}, [b"left", 1])


def test_buyers_at_once_take_what_there_is(client: Any, connect: Callable[..., Any]) -> None:
    ask: Ask = client.execute_command
    ask("KL.CREATE", "door", "SCHEMA", "left", "COUNTER", "buyer", "U8")
    ask("KL.INSERT", "door:1", "left", 200)
    bought: list[int] = []

    def buy(number: int) -> None:
        with connect() as one:
            while one.execute_command(*take(1 + number % 3)):
                bought.append(1 + number % 3)

    threads = [Thread(target=buy, args=(number,)) for number in range(BUYERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bought) == 200


@pytest.mark.parametrize(
    "words",
    [
        ("IDS", 1, 1, "TAKE", 1),
        ("IDS", 1, 1, "TAKE"),
        ("IDS", 1, 1, "FROM", "left"),
        ("IDS", 1, 1, "TAKE", 1, "FROM"),
        ("IDS", 1, 1, "TAKE", 1, "TAKE", 1, "FROM", "left"),
        ("IDS", 1, 1, "TAKE", 1, "FROM", "left", "FROM", "left"),
        ("IDS", 1, 1),
        ("TAKE", 1, "FROM", "left"),
        ("IDS", 1, 1, "TAKE", 1, "FROM", "left", "PX", 1000),
        ("IDS", 1, 1, "TAKE", 1, "FROM", "left", "COUNT", 1),
        ("IDS", 1, 1, "TAKE", 1, "FROM", "left", "ADJACENT", "buyer"),
        ("IDS", 1, 1, "TAKE", 1, "FROM", "left", "SET"),
        ("IDS", 1, 1, "TAKE", 1, "FROM", "left", "MAX", 1),
    ],
    ids=str,
)
def test_what_take_cannot_read(door: Ask, left: Left, words: Words) -> None:
    refused_at_syntax(door, "KL.CLAIM", "door", *words)
    assert left() == PLACES


def test_what_take_refuses(door: Ask, left: Left, refusal: Refusal) -> None:
    for bad in ("0", "", "-1", "+1", "1_0", "x", "1" * 33):
        assert "value is not an integer" in refusal(door, *take(bad))
    assert refusal(door, *take(1, field="chair")) == "unknown field 'chair'"
    assert "'buyer'" in refusal(door, *take(1, field="buyer")), "it is no counter"
    for words in (take(1, row=99), keep(1, row=99)):
        # The contract has the empty array for a row that does not match, and NOROW for keys.
        assert answer_of(door, words) in ([], "NOROW")
    assert refusal(door, *take(1, "COUNT", 1)) == SYNTAX
    assert answer_of(door, ("KL.CLAIM", "door", "IDS", 2, 1, 2, "TAKE", 1, "FROM", "left")) == "ERR"
    assert left() == PLACES
