"""KL.CLAIM over the wire: which rows it takes, when it is busy and when it is sold out, whose they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from tests.hall import (
    SEATS,
    SYNTAX,
    Ask,
    Refusal,
    answer_of,
    arrange,
    assert_untouched,
    claim,
    free,
    give_back,
    held,
    hold,
    lock,
    make_hall,
    states,
)

if TYPE_CHECKING:
    from tests.conftest import Wire

AsMap = Callable[[Any], dict[Any, Any]]
ALL = list(range(1, SEATS + 1))


@pytest.fixture
def hall(ask: Ask) -> Ask:
    return make_hall(ask)


# --- which rows ---------------------------------------------------------------------------------------


def test_it_takes_the_lowest_and_writes_them(hall: Ask, as_map: AsMap) -> None:
    assert hall(*claim("buyer", 7, "note", "SET")) == [1], "one row unless told"
    row = as_map(hall("KL.SEEK", "hall:1"))
    assert row == {b"state": 1, b"zone": 1, b"tier": 1, b"seat": 1, b"buyer": 7, b"note": b"SET"}
    assert hall(*claim("COUNT", 3)) == [2, 3, 4]
    assert hall("KL.CLAIM", "hall", "zone", 2, "state", 0, "SET", "state", 1) == [9]
    assert states(hall) == [1, 2, 3, 4, 9]
    assert as_map(hall("KL.SEEK", "hall:5", "state", "buyer")) == {b"state": 0, b"buyer": 0}
    assert hall("kl.claim", "hall", "state", "000", "set", "state", "01", "count", "0007") == []
    assert hall("kl.claim", "hall", "state", "000", "set", "state", "01", "count", "0005") == [5, 6, 7, 8, 10]
    assert hall(*claim()) == []


def test_a_claimed_row_is_not_locked(hall: Ask) -> None:
    assert hall(*claim()) == [1]
    token = lock(hall, 1)
    assert hall("KL.REPLACE", "hall:1", token, "note", "x", "UNLOCK") == b"OK"


def test_at_most_a_thousand(ask: Ask, connect: Callable[..., Any], refusal: Refusal) -> None:
    ask("KL.CREATE", "many", "SCHEMA", "state", "U8", "INDEX")
    with connect().pipeline() as pipeline:
        for row in range(1001):
            pipeline.execute_command("KL.INSERT", f"many:{row}", "state", 0)
        pipeline.execute()
    wanted = ("KL.CLAIM", "many", "state", 0, "SET", "state", 1)
    assert "not an integer or out of range" in refusal(ask, *wanted, "COUNT", 1001)
    assert "not an integer or out of range" in refusal(ask, *wanted, "IDS", 1001, *range(1001))
    assert ask("KL.COUNT", "many", "state", 1) == 0
    assert ask(*wanted, "COUNT", 1000) == list(range(1000))
    assert ask(*wanted) == [1000]
    assert ask("KL.CLAIM", "many", "state", 1, "SET", "state", 2, "IDS", 1000, *range(1000)) == list(
        range(1000)
    )


def test_a_row_that_came_back_is_the_lowest_again(hall: Ask) -> None:
    assert hall(*claim("COUNT", 4)) == [1, 2, 3, 4]
    token = lock(hall, 2)
    hall("KL.REPLACE", "hall:2", token, "state", 0)
    assert hall(*claim()) == [5], "it is locked yet"
    hall("KL.UNLOCK", "hall:2", token)
    assert hall(*claim("COUNT", 2)) == [2, 6]


SUFFICIENT: list[tuple[str, tuple[Any, ...], Any]] = [
    # what happened before, what is asked for, the answer
    ("", ("COUNT", 10), ALL),
    ("", ("COUNT", 11), []),
    ("lock 1", (), [2]),
    ("hold 1", (), [2]),
    ("lock 1, hold 2, sell 3", ("COUNT", 2), [4, 5]),
    ("lock 1", ("COUNT", 10), "BUSY"),
    ("hold 10", ("COUNT", 10), "BUSY"),
    ("lock 1 2, hold 3 4 5", ("COUNT", 6), "BUSY"),
    ("lock 1 2, hold 3 4 5", ("COUNT", 5), [6, 7, 8, 9, 10]),
    ("lock 1", ("COUNT", 11), []),
    ("sell 1", ("COUNT", 10), []),
    ("sell 1, lock 2", ("COUNT", 10), []),
    ("sell 1, lock 2", ("COUNT", 9), "BUSY"),
    ("sell 1 2 3 4 5 6 7 8 9, hold 10", (), "BUSY"),
    ("sell 1 2 3 4 5 6 7 8 9 10", (), []),
    # IDS: these rows and no others
    ("", ("IDS", 1, 4), [4]),
    ("", ("IDS", 3, 7, 2, 4), [2, 4, 7]),
    ("", ("IDS", 2, "0007", "000"), []),
    ("", ("IDS", 2, "0007", "009"), [7, 9]),
    ("", ("IDS", 2, 4, 99), []),  # a row that is not there does not match
    ("", ("IDS", 2, 4, 4294967295), []),
    ("sell 4", ("IDS", 2, 4, 5), []),
    ("lock 4", ("IDS", 2, 4, 5), "BUSY"),
    ("hold 5", ("IDS", 2, 4, 5), "BUSY"),
    ("sell 4, lock 5", ("IDS", 2, 4, 5), []),
    ("lock 4, hold 5", ("IDS", 1, 6), [6]),
    # ADJACENT: neighbours
    ("", ("ADJACENT", "seat", "WITHIN", "tier"), [1]),
    ("", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), [1, 2, 3]),
    ("", ("ADJACENT", "seat", "WITHIN", "tier", "COUNT", 5), [1, 2, 3, 4, 5]),
    ("", ("COUNT", 6, "ADJACENT", "seat", "WITHIN", "tier"), []),
    ("sell 2", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), [3, 4, 5]),
    ("sell 3", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), [6, 7, 8]),
    ("sell 3", ("COUNT", 2, "ADJACENT", "seat", "WITHIN", "tier"), [1, 2]),
    ("sell 1 3 5", ("COUNT", 2, "ADJACENT", "seat", "WITHIN", "tier"), [6, 7]),
    ("lock 3", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), [6, 7, 8]),
    ("hold 3, sell 8", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), "BUSY"),
    ("lock 3, lock 8", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), "BUSY"),
    ("sell 3, sell 8", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), []),
    ("sell 3 8, lock 4", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), []),
    ("sell 4 9, lock 3 8", ("COUNT", 3, "ADJACENT", "seat", "WITHIN", "tier"), "BUSY"),
    ("sell 2 4 7 9", ("COUNT", 2, "ADJACENT", "seat", "WITHIN", "tier"), []),
]


@pytest.mark.parametrize(("story", "words", "answer"), SUFFICIENT, ids=str)
def test_taken_busy_and_sold_out(hall: Ask, story: str, words: tuple[Any, ...], answer: Any) -> None:
    """Busy is not sold out: it is said when locked and held rows would make it enough, and only then."""
    arrange(hall, story)
    sold, left = states(hall), free(hall)
    assert answer_of(hall, claim(*words)) == answer
    taken = answer if isinstance(answer, list) else []
    assert states(hall) == sorted([*sold, *taken]), "all or none"
    assert free(hall) == [row for row in left if row not in taken]


@pytest.mark.parametrize(("story", "words", "answer"), SUFFICIENT, ids=str)
def test_a_hold_takes_the_same_rows(hall: Ask, story: str, words: tuple[Any, ...], answer: Any) -> None:
    arrange(hall, story)
    sold, left, holds = states(hall), free(hall), len(hall("KL.HOLDS", "hall"))
    found = answer_of(hall, hold(*words))
    assert (found[1] if isinstance(found, list) and found else found) == answer
    taken = answer if isinstance(answer, list) else []
    assert states(hall) == sold, "a hold writes no row"
    assert free(hall) == [row for row in left if row not in taken]
    assert len(hall("KL.HOLDS", "hall")) == holds + bool(taken)


def test_neighbours_are_found_by_their_field_not_by_their_ids(ask: Ask) -> None:
    """Two aisles whose seats were inserted in turns, and a third from right to left."""
    ask("KL.CREATE", "hall", "SCHEMA", "state", "U8", "INDEX", "tier", "U16", "seat", "I64")
    for row, (tier, seat) in enumerate(
        [(1, -1), (2, -1), (1, 0), (2, 0), (1, 2), (2, 1), (3, 3), (3, 2), (3, 1)]
    ):
        ask("KL.INSERT", f"hall:{row}", "tier", tier, "seat", seat)
    within = ("ADJACENT", "seat", "WITHIN", "tier")
    assert ask(*claim("COUNT", 3, *within)) == [1, 3, 5]
    assert ask(*claim("COUNT", 2, *within)) == [0, 2]
    # The contract says "rising by 1 from row to row" and not in which order: whoever sits there does not care
    # which of the two was inserted first, so 6, 7, 8 are three neighbours.
    assert ask(*claim("COUNT", 3, *within)) == [6, 7, 8]
    assert ask(*claim("COUNT", 2, *within)) == []


def test_neighbours_without_within_may_be_anywhere(ask: Ask) -> None:
    ask("KL.CREATE", "hall", "SCHEMA", "state", "U8", "INDEX", "seat", "U64")
    for row, seat in ((3, 7), (9, 8), (20, 9), (21, 2**63 - 1)):
        ask("KL.INSERT", f"hall:{row}", "seat", seat)
    assert ask(*claim("COUNT", 4, "ADJACENT", "seat")) == []
    assert ask(*claim("COUNT", 3, "ADJACENT", "seat")) == [3, 9, 20]
    assert ask(*claim("COUNT", 1, "ADJACENT", "seat")) == [21]


def test_neighbours_among_rows_with_the_same_number(ask: Ask) -> None:
    """Without WITHIN two seats may have one number: each is somebody's neighbour."""
    ask("KL.CREATE", "hall", "SCHEMA", "state", "U8", "INDEX", "seat", "U8")
    for row, seat in ((1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 1)):
        ask("KL.INSERT", f"hall:{row}", "seat", seat)
    pairs = [ask(*claim("COUNT", 2, "ADJACENT", "seat")) for _ in range(4)]
    assert pairs == [[1, 3], [2, 4], [5, 6], []]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_neighbours_as_long_as_there_are_any(hall: Ask, count: int) -> None:
    """Locks and holds come and go between the claims; each claim is judged as if it were the first."""
    print(f"seed {count}")
    source = random.Random(count)
    wanted = ("COUNT", count, "ADJACENT", "seat", "WITHIN", "tier")
    locks: dict[int, int] = {}
    holds: dict[int, list[int]] = {}
    for _ in range(150):
        row = source.randrange(1, SEATS + 1)
        deed = source.random()
        if deed < 0.2 and (token := hall("KL.TRYLOCK", f"hall:{row}")) is not None:
            locks[row] = token
        elif deed < 0.4 and locks:
            row, token = locks.popitem()
            assert hall("KL.UNLOCK", f"hall:{row}", token) == 1
        elif deed < 0.5 and isinstance(found := answer_of(hall, hold("IDS", 1, row)), list) and found:
            holds[found[0]] = found[1]
        elif deed < 0.6 and holds:
            token, _ = holds.popitem()
            assert hall("KL.RELEASE", token) == 1
        elif deed < 0.7:
            answer_of(hall, give_back(row, row % SEATS + 1, owner="bob"))
        else:
            left, there = free(hall), hall("KL.INTERSECT", "hall", "state", 0)
            runs = [[first + i for i in range(count)] for first in range(1, SEATS + 1)]
            runs = [run for run in runs if (run[0] - 1) // 5 == (run[-1] - 1) // 5]
            possible = [run for run in runs if set(run) <= set(left)]
            expected: Any = possible[0] if possible else []
            if not possible and any(set(run) <= set(there) for run in runs):
                expected = "BUSY"
            assert answer_of(hall, claim(*wanted, "FOR", "bob")) == expected


def test_within_takes_any_type(ask: Ask) -> None:
    ask("KL.CREATE", "hall", "SCHEMA", "state", "U8", "INDEX", "tier", "BYTES", 4, "seat", "U8")
    for row, (tier, seat) in enumerate([("A", 1), ("B", 2), ("A\0", 2), ("B", 3)]):
        ask("KL.INSERT", f"hall:{row}", "tier", tier, "seat", seat)
    assert ask(*claim("COUNT", 2, "ADJACENT", "seat", "WITHIN", "tier")) == [1, 3]
    assert ask(*claim("COUNT", 2, "ADJACENT", "seat", "WITHIN", "tier")) == []


def test_adjacent_takes_an_integer_field(hall: Ask, refusal: Refusal) -> None:
    assert "'note'" in refusal(hall, *claim("COUNT", 2, "ADJACENT", "note"))
    assert refusal(hall, *claim("ADJACENT", "chair")) == "unknown field 'chair'"
    assert refusal(hall, *claim("ADJACENT", "seat", "WITHIN", "chair")) == "unknown field 'chair'"
    assert_untouched(hall)


# --- what SET may be ----------------------------------------------------------------------------------


def test_set_has_to_change_a_matched_field(hall: Ask, refusal: Refusal) -> None:
    """Else the next claim would take the same row again."""
    for found, changes in (
        (("state", 0), ("state", 0)),
        (("state", 0), ("state", "000")),
        (("state", 0), ("note", "x")),
        (("state", 0, "zone", 1), ("buyer", 7)),
        (("state", 0, "zone", 1), ("zone", 1, "state", 0)),
    ):
        for more in ((), ("IDS", 1, 1), ("COUNT", 2)):
            words = ("KL.CLAIM", "hall", *found, "SET", *changes, *more)
            assert refusal(hall, *words) == "SET leaves the row matching"
    assert refusal(hall, "KL.CLAIM", "hall", "state", 9, "SET", "state", 9) == "SET leaves the row matching"
    assert_untouched(hall)
    assert hall("KL.CLAIM", "hall", "state", 0, "zone", 1, "SET", "zone", 3) == [1], "one of them is enough"


def test_what_it_refuses_to_write_or_to_look_for(hall: Ask, refusal: Refusal) -> None:
    assert "out of range for U8" in refusal(hall, *claim("zone", 256))
    assert "17 bytes, at most 16" in refusal(hall, *claim("note", "x" * 17))
    assert refusal(hall, *claim("chair", 1)) == "unknown field 'chair'"
    assert "'note' is not indexed" in refusal(hall, "KL.CLAIM", "hall", "note", "", "SET", "note", "x")
    both = ("state", 0, "buyer", 0)
    assert "'buyer' is not indexed" in refusal(hall, "KL.CLAIM", "hall", *both, "SET", "state", 1)
    assert refusal(hall, *claim(table="nowhere")) == "unknown table 'nowhere'"
    assert_untouched(hall)


# --- FOR and MAX --------------------------------------------------------------------------------------


def test_max_counts_what_is_sold_and_held_in_this_table(hall: Ask, refusal: Refusal) -> None:
    make_hall(hall, "other")
    mine = ("FOR", "ann", "MAX", 4)
    assert refusal(hall, *claim("COUNT", 5, *mine)).startswith("LIMIT ")
    assert_untouched(hall)
    assert hall(*claim("COUNT", 2, *mine)) == [1, 2]
    token, ids = held(hall, "MAX", 3)
    assert ids == [3]
    assert refusal(hall, *claim("COUNT", 2, *mine)).startswith("LIMIT ")
    assert refusal(hall, *hold("COUNT", 2, "MAX", 4)).startswith("LIMIT ")
    assert refusal(hall, *hold("MAX", 3)).startswith("LIMIT ")
    assert hall(*claim("FOR", "bob", "MAX", 1)) == [4], "each owner counts alone"
    assert hall(*claim("FOR", "Ann", "MAX", 1)) == [5], "and an owner is bytes, not letters"
    assert hall(*claim("COUNT", 2)) == [6, 7], "what is sold to nobody counts for nobody"
    assert hall(*claim(*mine, table="other")) == [1], "another table is another count"
    assert hall(*claim(*mine)) == [8]
    assert refusal(hall, *claim(*mine)).startswith("LIMIT ")
    assert hall("KL.CONFIRM", token, "SET", "state", 1) == [3]
    assert refusal(hall, *claim(*mine)).startswith("LIMIT "), "a sale of what was held counts once, as before"
    assert hall(*claim("FOR", "ann", "MAX", 5)) == [9]
    assert hall(*claim("FOR", "ann")) == [10], "without MAX nothing is judged"


def test_what_goes_back_does_not_count(hall: Ask, refusal: Refusal) -> None:
    mine = ("FOR", "ann", "MAX", 2)
    token, _ = held(hall, "COUNT", 2)
    assert refusal(hall, *claim(*mine)).startswith("LIMIT ")
    assert hall("KL.RELEASE", token) == 2
    assert hall(*claim("COUNT", 2, *mine)) == [1, 2]
    assert refusal(hall, *claim(*mine)).startswith("LIMIT ")
    assert hall("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0) == 1
    assert hall(*claim(*mine)) == [1]
    assert refusal(hall, *claim(*mine)).startswith("LIMIT ")


def test_replace_does_not_change_who_a_row_was_sold_to(hall: Ask, refusal: Refusal) -> None:
    assert hall(*claim("FOR", "ann", "MAX", 1)) == [1]
    token = lock(hall, 1)
    assert hall("KL.REPLACE", "hall:1", token, "note", "checked", "UNLOCK") == b"OK"
    assert refusal(hall, *claim("FOR", "ann", "MAX", 1)).startswith("LIMIT ")
    token = lock(hall, 1)
    assert hall("KL.REPLACE", "hall:1", token, "state", 0, "UNLOCK") == b"OK"
    assert refusal(hall, *claim("FOR", "ann", "MAX", 1)).startswith("LIMIT "), "though it matches again"
    assert hall(*claim("FOR", "bob", "MAX", 1)) == [1], "the next sale does"
    assert hall(*claim("FOR", "ann", "MAX", 1)) == [2]
    assert hall("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0) == 0
    assert hall("KL.RETURN", "hall", "FOR", "bob", 1, "SET", "state", 0) == 1


@pytest.mark.parametrize("owner", [b"\0", b"a\r\nb", b"MAX", b"x" * 64, "ü".encode()])
def test_an_owner_is_any_bytes(hall: Ask, refusal: Refusal, owner: bytes) -> None:
    assert hall(*claim("FOR", owner, "MAX", 1)) == [1]
    assert refusal(hall, *claim("FOR", owner, "MAX", 1)).startswith("LIMIT ")
    assert hall("KL.RETURN", "hall", "FOR", owner, 1, "SET", "state", 0) == 1


# --- MULTI, order of options, the exact bytes ----------------------------------------------------------


def test_claims_in_a_transaction(hall: Ask, wire: Callable[..., Wire]) -> None:
    one = wire()
    words = [claim("COUNT", 2), claim("IDS", 1, 2), claim(), claim("COUNT", 8), hold("IDS", 1, 4)]
    words += [("KL.COUNT", "hall", "state", 0, "FREE"), claim("COUNT", 7)]
    assert one.ask("MULTI") == b"+OK\r\n"
    for each in words:
        assert one.ask(*each) == b"+QUEUED\r\n"
    assert_untouched(hall)
    one.send("EXEC")
    one.expect(b"*7\r\n*2\r\n:1\r\n:2\r\n*0\r\n*1\r\n:3\r\n*0\r\n*3\r\n:")
    one.line()
    one.expect(b"*1\r\n:4\r\n:")
    one.line()
    one.expect(b":6\r\n-BUSY ")
    one.line()
    assert states(hall) == [1, 2, 3]
    assert free(hall) == [5, 6, 7, 8, 9, 10]


def test_options_come_in_any_order(hall: Ask) -> None:
    options = [
        ("SET", "state", 1, "note", "COUNT"),
        ("COUNT", 1),
        ("FOR", "MAX"),
        ("MAX", 120),
        ("REQUEST", ""),
    ]
    for number, order in enumerate(permutations(options)):
        words = [word for option in order for word in option]
        words[words.index("")] = f"r{number}"
        assert hall("KL.CLAIM", "hall", "state", 0, *words) == [1]
        assert hall("KL.RETURN", "hall", "FOR", "MAX", 1, "SET", "state", 0) == 1


def test_replies_to_the_byte(hall: Ask, wire: Callable[..., Wire]) -> None:
    one = wire()
    for version in (2, 3):
        one.send("HELLO", version)
        one.until(b"modules\r\n*0\r\n")
        first = 1 if version == 2 else 3
        for words, reply in (
            (claim("COUNT", 2), b"*2\r\n:%d\r\n:%d\r\n" % (first, first + 1)),
            (claim("COUNT", 11), b"*0\r\n"),
            (hold("COUNT", 11), b"*0\r\n"),
            (("KL.HOLDS", "hall"), b"*0\r\n"),
            (claim("COUNT", 1, "COUNT", 1), f"-ERR {SYNTAX}\r\n".encode()),
            (("KL.RELEASE", 1), b":0\r\n"),
        ):
            one.send(*words)
            one.expect(reply)
