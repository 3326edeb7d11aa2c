"""The five verbs over the wire, reply branch by reply branch, in RESP2 and RESP3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from bench.harness.launch import Server
    from tests.conftest import Wire

Client = Any  # redis-py does not type execute_command

Ask = Callable[..., Any]
Refusal = Callable[..., str]
AsMap = Callable[[Any], dict[Any, Any]]

ROWS = 100
NOT_AN_INTEGER = "value is not an integer"
SYNTAX = "syntax error"
BAD_NUMBERS = ["", "+1", " 1", "1 ", "1_0", "-1", "1.0", "0x1", "1" * 33, "one", "\u0661", "1\r\n2"]


@pytest.fixture
def seats(ask: Ask) -> Ask:
    """Three rows: 1 and 2 of rank 3, 7 of rank 4; `note` has no index."""
    ask(
        "KL.CREATE", "seats", "SCHEMA", "rank", "U32", "INDEX", "is_booked", "U8", "INDEX", "note", "BYTES", 8
    )
    for row, rank in ((1, 3), (2, 3), (7, 4)):
        assert ask("KL.INSERT", row, "rank", rank) == 1
    return ask


def until_not_null(ask: Ask, *words: Any) -> int:
    """Asks again until the lease in the way has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if (token := ask(*words)) is not None:
            assert isinstance(token, int)
            return token
    pytest.fail("the lease has not ended in 10 s")


# --- INTERSECT ----------------------------------------------------------------------------------------


def test_intersect_answers_ids_that_have_all_the_values(seats: Ask) -> None:
    assert seats("KL.INTERSECT", "seats", "rank", 3) == [1, 2]
    assert seats("KL.INTERSECT", "seats", "rank", 3, "is_booked", 0) == [1, 2]
    assert seats("KL.INTERSECT", "seats", "is_booked", 0) == [1, 2, 7]
    assert seats("KL.INTERSECT", "seats", "rank", 3, "is_booked", 1) == []
    assert seats("kl.intersect", "seats", "rank", "0000000003") == [1, 2]
    assert seats("KL.INTERSECT", "seats", "rank", "3".zfill(32)) == [1, 2]


def test_intersect_limits(ask: Ask) -> None:
    ask("KL.CREATE", "many", "SCHEMA", "is_booked", "U8", "INDEX")
    for row in range(ROWS):
        ask("KL.INSERT", f"many:{row}", "is_booked", 0)
    find = ("KL.INTERSECT", "many", "is_booked", 0)
    assert ask(*find) == list(range(64))
    assert ask(*find, "LIMIT", 0) == list(range(ROWS))
    assert ask(*find, "LIMIT", 3) == [0, 1, 2]
    assert ask(*find, "limit", 3, "after", 10) == [11, 12, 13]
    assert ask(*find, "AFTER", ROWS - 1) == []
    assert ask(*find, "AFTER", 4294967295) == []


def test_intersect_options_come_in_any_order_each_once(seats: Ask, refusal: Refusal) -> None:
    options = [("FREE",), ("AFTER", 0), ("LIMIT", 1)]
    for order in permutations(options):
        assert seats("KL.INTERSECT", "seats", "rank", 3, *[word for option in order for word in option]) == [
            1
        ]
    for option in options:
        assert refusal(seats, "KL.INTERSECT", "seats", "rank", 3, *option, *option) == SYNTAX


def test_free_leaves_out_what_is_locked(seats: Ask) -> None:
    token = seats("KL.TRYLOCK", 1)
    assert seats("KL.INTERSECT", "seats", "rank", 3, "FREE") == [2]
    assert seats("KL.INTERSECT", "seats", "rank", 3) == [1, 2]
    assert seats("KL.INTERSECT", "seats", "rank", 3, "FREE", "LIMIT", 1) == [2]
    assert seats("KL.COUNT", "seats", "rank", 3, "FREE") == 1
    assert seats("KL.COUNT", "seats", "rank", 3) == 2
    assert seats("KL.UNLOCK", 1, token) == 1
    assert seats("KL.INTERSECT", "seats", "rank", 3, "FREE") == [1, 2]


def test_an_unindexed_field_is_an_error_never_a_scan(seats: Ask, refusal: Refusal) -> None:
    for words in (("note", "x"), ("rank", 3, "note", "x")):
        assert "'note' is not indexed" in refusal(seats, "KL.INTERSECT", "seats", *words)
        assert "'note' is not indexed" in refusal(seats, "KL.COUNT", "seats", *words)
    assert "'note' is not indexed" in refusal(seats, "KL.VERIFY", "seats", "note", "x")


@pytest.mark.parametrize(
    "words",
    [
        ("rank", 3, "rank", 3),
        ("rank", 3, "rank", 4),
        ("rank",),
        ("rank", 3, "is_booked"),
        ("rank", 3, "LIMIT"),
        ("rank", 3, "AFTER"),
        ("rank", 3, "FREE", "rank", 3),
        ("rank", 3, "UNLOCK"),
        ("rank", 3, "index"),
        ("LIMIT", 3),
        ("FREE", "FREE"),
    ],
)
def test_intersect_syntax_errors(seats: Ask, refusal: Refusal, words: tuple[Any, ...]) -> None:
    if len(words) == 1:
        assert "wrong number of arguments" in refusal(seats, "KL.INTERSECT", "seats", *words)
    else:
        assert refusal(seats, "KL.INTERSECT", "seats", *words) == SYNTAX


# --- SEEK ---------------------------------------------------------------------------------------------


def test_seek_answers_a_map_in_the_order_asked(seats: Ask, as_map: AsMap) -> None:
    assert list(as_map(seats("KL.SEEK", 1)).items()) == [(b"rank", 3), (b"is_booked", 0), (b"note", b"")]
    assert list(as_map(seats("KL.SEEK", 1, "note", "rank")).items()) == [(b"note", b""), (b"rank", 3)]
    assert seats("KL.SEEK", 3) is None
    assert seats("KL.SEEK", 3, "rank") is None


def test_seek_refuses_unknown_and_repeated_fields(seats: Ask, refusal: Refusal) -> None:
    assert refusal(seats, "KL.SEEK", 1, "rank", "rank") == SYNTAX
    assert refusal(seats, "KL.SEEK", 1, "nothing") == "unknown field 'nothing'"
    assert refusal(seats, "KL.SEEK", 3, "nothing") == "unknown field 'nothing'"
    assert refusal(seats, "KL.SEEK", 1, "RANK") == "unknown field 'RANK'"
    assert refusal(seats, "KL.SEEK", "nowhere:1") == "unknown table 'nowhere'"
    assert refusal(seats, "KL.SEEK", "SEATS:1") == "unknown table 'SEATS'"


def test_key_forms_name_the_same_row(seats: Ask, refusal: Refusal) -> None:
    forms = ("7", "seats:7", "{seats}:7", "0007", "seats:007", "7".zfill(32))
    assert {tuple(seats("KL.SEEK", key, "rank")) for key in forms if seats("KL.SEEK", key)} == {
        tuple(seats("KL.SEEK", 7, "rank"))
    }
    for key in forms:
        assert seats("KL.SEEK", key) == seats("KL.SEEK", 7) is not None
    for bad in ("seats:", ":", "seats:+7", "seats: 7", "seats:-7", "seats:7_0", "4294967296", "7".zfill(33)):
        assert "ERR" not in refusal(seats, "KL.SEEK", bad)
        assert "ERR" not in refusal(seats, "KL.TRYLOCK", 1, bad)
    assert refusal(seats, "KL.SEEK", ":7") == "unknown table ''"
    assert refusal(seats, "KL.SEEK", "{seats:7") == "unknown table '{seats'"


def test_row_ids_go_from_0_to_the_last_of_32_bits(seats: Ask, refusal: Refusal) -> None:
    for row in (0, 4294967295):
        assert seats("KL.INSERT", row, "rank", 9) == 1
        assert seats("KL.SEEK", f"seats:{row}") is not None
    assert seats("KL.INTERSECT", "seats", "rank", 9) == [0, 4294967295]
    assert seats("KL.INTERSECT", "seats", "rank", 9, "AFTER", 4294967294) == [4294967295]
    for row in (4294967296, 2**64, 10**31):
        for words in (
            ("KL.INSERT", row, "rank", 9),
            ("KL.SEEK", row),
            ("KL.TRYLOCK", row),
            ("KL.UNLOCK", row, 1),
        ):
            assert refusal(seats, *words) == f"invalid row id '{row}'"
    assert NOT_AN_INTEGER in refusal(seats, "KL.INTERSECT", "seats", "rank", 9, "AFTER", 4294967296)


# --- TRYLOCK ------------------------------------------------------------------------------------------


def test_trylock_takes_all_keys_or_none(seats: Ask, refusal: Refusal) -> None:
    token = seats("KL.TRYLOCK", 1)
    assert 0 < token < 2**53
    assert seats("KL.TRYLOCK", 1) is None
    assert seats("KL.TRYLOCK", 2, "seats:1", 7) is None
    other = seats("KL.TRYLOCK", 2, "{seats}:7", 2)
    assert other > token
    assert seats("KL.UNLOCK", 2, 7, other) == 2
    assert refusal(seats, "KL.TRYLOCK", 2, 99).startswith("NOROW ")
    assert refusal(seats, "KL.TRYLOCK", 99).startswith("NOROW ")
    assert seats("KL.TRYLOCK", 2) is not None, "a refusal has changed nothing"


def test_trylock_bounds_of_px(seats: Ask, refusal: Refusal) -> None:
    for bad in (0, 86_400_001, *BAD_NUMBERS):
        assert NOT_AN_INTEGER in refusal(seats, "KL.TRYLOCK", 1, "PX", bad)
    assert seats("KL.TRYLOCK", 1, "px", "86400000") is not None
    assert 86_390_000 < seats("KL.LOCKS", "seats")[0][3] <= 86_400_000


def test_trylock_options(seats: Ask, refusal: Refusal) -> None:
    for words in (
        ("PX", 1, "PX", 1),
        ("OWNER", "a", "OWNER", "a"),
        ("PX",),
        ("OWNER",),
        ("PX", 1, "FREE"),
        ("PX", 1, 2),
    ):
        assert refusal(seats, "KL.TRYLOCK", 1, *words) == SYNTAX
    for owner in ("", "x" * 65):
        assert "OWNER takes 1 to 64 bytes" in refusal(seats, "KL.TRYLOCK", 1, "OWNER", owner)
    token = seats("KL.TRYLOCK", 1, "OWNER", "a", "PX", 9000)
    assert seats("KL.TRYLOCK", 1, "PX", 9000, "OWNER", "a") == token
    assert "invalid row id 'LIMIT'" in refusal(seats, "KL.TRYLOCK", 1, "LIMIT", 3)


def test_a_resend_with_owner_gets_the_same_token_and_a_fresh_lease(seats: Ask) -> None:
    token = seats("KL.TRYLOCK", 1, 2, "PX", 5000, "OWNER", b"\0uuid\r\n")
    assert seats("KL.TRYLOCK", 2, 1, 1, "PX", 80_000, "OWNER", b"\0uuid\r\n") == token
    assert [(row, of, owner) for row, of, owner, _ in seats("KL.LOCKS", "seats")] == [
        (1, token, b"\0uuid\r\n"),
        (2, token, b"\0uuid\r\n"),
    ]
    assert all(left > 70_000 for *_, left in seats("KL.LOCKS", "seats"))
    for overlapping in ((1,), (2,), (1, 7), (1, 2, 7), (7, 1, 2)):
        assert seats("KL.TRYLOCK", *overlapping, "OWNER", b"\0uuid\r\n") is None
    assert seats("KL.TRYLOCK", 1, 2, "OWNER", "another") is None
    assert seats("KL.TRYLOCK", 7, "OWNER", b"\0uuid\r\n") != token, (
        "a set that does not overlap is a new lock"
    )


def test_owner_after_unlock_is_a_new_lock(seats: Ask) -> None:
    token = seats("KL.TRYLOCK", 1, 2, "OWNER", "a")
    assert seats("KL.UNLOCK", 2, token) == 1
    assert seats("KL.TRYLOCK", 1, 2, "OWNER", "a") is None, "it holds another set now"
    assert seats("KL.TRYLOCK", 1, "OWNER", "a") == token
    assert seats("KL.UNLOCK", 1, token) == 1
    assert seats("KL.TRYLOCK", 1, 2, "OWNER", "a") > token


def test_a_lease_ends(seats: Ask, refusal: Refusal) -> None:
    first = seats("KL.TRYLOCK", 1, 2, "PX", 1)
    second = until_not_null(seats, "KL.TRYLOCK", 2, 1, "PX", 60_000)
    assert second > first
    assert seats("KL.UNLOCK", 1, 2, first) == 0
    assert refusal(seats, "KL.REPLACE", 1, first, "is_booked", 1).startswith("NOLOCK ")
    assert seats("KL.REPLACE", 1, second, "is_booked", 1) == b"OK"
    owned = seats("KL.TRYLOCK", 7, "PX", 1, "OWNER", "a")
    assert until_not_null(seats, "KL.TRYLOCK", 7, "OWNER", "b") > owned


def test_locks_belong_to_the_token_not_to_the_connection(seats: Ask, connect: Callable[..., Client]) -> None:
    with connect(single_connection_client=True) as one:
        token = one.execute_command("KL.TRYLOCK", 1)
    assert seats("KL.TRYLOCK", 1) is None
    assert seats("KL.REPLACE", 1, token, "is_booked", 1, "UNLOCK") == b"OK"


# --- REPLACE and UNLOCK -------------------------------------------------------------------------------


def test_replace_writes_named_fields_under_the_lock(seats: Ask, as_map: AsMap, refusal: Refusal) -> None:
    token = seats("KL.TRYLOCK", 1)
    assert seats("KL.REPLACE", 1, token, "is_booked", 1) == b"OK"
    assert as_map(seats("KL.SEEK", 1)) == {b"rank": 3, b"is_booked": 1, b"note": b""}
    assert seats("KL.REPLACE", "{seats}:1", token, "note", "LIMIT", "rank", 5) == b"OK"
    assert as_map(seats("KL.SEEK", 1)) == {b"rank": 5, b"is_booked": 1, b"note": b"LIMIT"}
    assert seats("KL.INTERSECT", "seats", "is_booked", 1, "rank", 5) == [1]
    assert seats("KL.TRYLOCK", 1) is None
    assert seats("KL.REPLACE", 1, f"000{token}", "rank", 6, "unlock") == b"OK"
    assert seats("KL.TRYLOCK", 1) > token
    assert refusal(seats, "KL.REPLACE", 99, token, "rank", 6).startswith("NOROW ")


def test_replace_unlock_lets_go_of_this_row_only(seats: Ask) -> None:
    token = seats("KL.TRYLOCK", 1, 2)
    assert seats("KL.REPLACE", 1, token, "is_booked", 1, "UNLOCK") == b"OK"
    assert seats("KL.TRYLOCK", 2) is None
    assert seats("KL.UNLOCK", 1, 2, token) == 1


def test_a_replace_sent_again_is_ok_exactly_when_it_was_done(
    seats: Ask, as_map: AsMap, refusal: Refusal
) -> None:
    token = seats("KL.TRYLOCK", 1)
    assert seats("KL.REPLACE", 1, token, "is_booked", 1, "note", "x", "UNLOCK") == b"OK"
    for again in (("is_booked", 1, "note", "x"), ("note", "x"), ("rank", 3), ("is_booked", 1, "UNLOCK")):
        assert seats("KL.REPLACE", 1, token, *again) == b"OK"
    for other in (("is_booked", 0), ("is_booked", 1, "note", "y"), ("rank", 4)):
        assert refusal(seats, "KL.REPLACE", 1, token, *other).startswith("NOLOCK ")
    assert refusal(seats, "KL.REPLACE", 1, token + 1, "is_booked", 1).startswith("NOLOCK ")
    assert refusal(seats, "KL.REPLACE", 1, 0, "is_booked", 1).startswith("NOLOCK ")
    later = seats("KL.TRYLOCK", 1)
    assert seats("KL.REPLACE", 1, token, "is_booked", 1) == b"OK", "the last write is still its own"
    assert seats("KL.REPLACE", 1, later, "is_booked", 1) == b"OK"
    assert refusal(seats, "KL.REPLACE", 1, token, "is_booked", 1).startswith("NOLOCK ")
    assert as_map(seats("KL.SEEK", 1)) == {b"rank": 3, b"is_booked": 1, b"note": b"x"}


def test_replace_refuses_what_it_cannot_read(seats: Ask, refusal: Refusal) -> None:
    token = seats("KL.TRYLOCK", 1)
    for words in (
        ("is_booked", 1, "is_booked", 1),
        ("is_booked", 1, "note"),
        ("UNLOCK", "is_booked", 1),
        ("is_booked", 1, "UNLOCK", "UNLOCK"),
        ("is_booked", 1, "UNLOCK", "rank", 3),
        ("is_booked", 1, "FREE"),
    ):
        assert refusal(seats, "KL.REPLACE", 1, token, *words) == SYNTAX
    assert refusal(seats, "KL.REPLACE", 1, token, "nothing", 1) == "unknown field 'nothing'"
    assert "out of range for U8" in refusal(seats, "KL.REPLACE", 1, token, "is_booked", 256)
    assert "9 bytes, at most 8" in refusal(seats, "KL.REPLACE", 1, token, "note", "123456789")
    for bad in (*BAD_NUMBERS, str(2**63)):
        assert NOT_AN_INTEGER in refusal(seats, "KL.REPLACE", 1, bad, "is_booked", 1)
    assert seats("KL.COUNT", "seats", "is_booked", 1) == 0, "a refusal has changed nothing"


def test_unlock_counts_what_it_released(seats: Ask, refusal: Refusal) -> None:
    token = seats("KL.TRYLOCK", 1, 2)
    other = seats("KL.TRYLOCK", 7)
    assert seats("KL.UNLOCK", 1, 2, other) == 0
    assert seats("KL.UNLOCK", 1, 7, 1, token) == 1
    assert seats("KL.UNLOCK", 1, 2, 7, token) == 1
    assert seats("KL.UNLOCK", 1, 2, token) == 0
    assert seats("KL.UNLOCK", 7, f"00{other}") == 1
    assert seats("KL.UNLOCK", 99, other) == 0
    for bad in BAD_NUMBERS:
        assert NOT_AN_INTEGER in refusal(seats, "KL.UNLOCK", 1, bad)


def test_tokens_rise_across_a_restart_that_drops_the_locks(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    last = 0
    for turn in range(3):
        running = start(directory=tmp_path / "data")
        with redis.Redis(port=running.port) as client:
            ask = client.execute_command
            if turn == 0:
                ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
                ask("KL.INSERT", 1, "is_booked", 0)
            else:
                with pytest.raises(redis.ResponseError, match=r"^NOLOCK "):
                    ask("KL.REPLACE", 1, last, "is_booked", 3)
                assert ask("KL.UNLOCK", 1, last) == 0
            token = ask("KL.TRYLOCK", 1)
            assert token > last
            last = ask("KL.TRYLOCK", 1) or token
        assert running.stop() == 0


# --- the exact bytes ----------------------------------------------------------------------------------


@pytest.fixture
def exact(wire: Callable[..., Wire], seats: Ask) -> Iterator[Wire]:
    yield wire()


def test_replies_to_the_byte(exact: Wire) -> None:
    exact.send("KL.TRYLOCK", 1)
    token = exact.line()[1:-2]
    row = b"$4\r\nrank\r\n:3\r\n$9\r\nis_booked\r\n:0\r\n$4\r\nnote\r\n$0\r\n\r\n"
    for version, map3, null in ((2, b"*6\r\n", b"$-1\r\n"), (3, b"%3\r\n", b"_\r\n")):
        exact.send("HELLO", version)
        exact.until(b"modules\r\n*0\r\n")
        for words, reply in (
            (("KL.SEEK", 1), map3 + row),
            (("KL.SEEK", 3), null),
            (("KL.TRYLOCK", 1), null),
            (("KL.INTERSECT", "seats", "rank", 3), b"*2\r\n:1\r\n:2\r\n"),
            (("KL.INTERSECT", "seats", "rank", 9), b"*0\r\n"),
            (("KL.REPLACE", 1, token, "is_booked", 0), b"+OK\r\n"),
            (("KL.UNLOCK", 1, 1), b":0\r\n"),
            (("KL.COUNT", "seats", "rank", 3), b":2\r\n"),
            (("KL.TRYLOCK", 1, "PX", 1, "PX", 1), b"-ERR syntax error\r\n"),
        ):
            exact.send(*words)
            exact.expect(reply)
