"""REQUEST: a resend gets the first answer again, to the letter, and buys nothing."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import frame
from tests.hall import (
    Ask,
    Refusal,
    answer_of,
    arrange,
    claim,
    confirm,
    free,
    give_back,
    held,
    hold,
    make_hall,
    states,
)
from tests.zygote import until

if TYPE_CHECKING:
    from tests.conftest import Wire

ROUNDS = 20
SENDERS = 6


@pytest.fixture
def hall(ask: Ask) -> Ask:
    return make_hall(ask)


def test_a_claim_sent_again_gets_the_first_answer(hall: Ask) -> None:
    words = claim("COUNT", 2, "FOR", "ann", "MAX", 2, "REQUEST", "r1")
    assert hall(*words) == [1, 2]
    for _ in range(3):
        assert hall(*words) == [1, 2]
    assert states(hall) == [1, 2], "MAX is not judged again, nothing bought"
    assert hall(*give_back(1, 2)) == 2
    assert hall(*words) == [1, 2], "whatever became of the rows"
    assert states(hall) == []
    assert hall(*claim("COUNT", 10)) == list(range(1, 11))
    assert hall(*words) == [1, 2], "and though all is sold out"


def test_a_hold_sent_again_gets_the_first_answer(hall: Ask) -> None:
    words = hold("COUNT", 2, "REQUEST", "r1")
    first = hall(*words)
    assert hall(*words) == first
    token, ids, deadline = first
    assert len(hall("KL.HOLDS", "hall")) == 1
    assert hall("KL.EXTEND", token, "PX", 120_000) > deadline
    assert hall(*words) == first, "to the letter: the deadline of then"
    assert hall(*confirm(token)) == ids
    assert hall(*words) == first
    assert hall("KL.HOLDS", "hall") == []
    other = hold("REQUEST", "r2")
    second = hall(*other)
    assert hall("KL.RELEASE", second[0]) == 1
    assert hall(*other) == second
    assert hall("KL.HOLDS", "hall") == [], "what was released stays so"
    short = hold("COUNT", 1, "REQUEST", "r3", px=1)
    third = hall(*short)
    until(lambda: hall("KL.HOLDS", "hall") == [], "the deadline")
    assert hall(*short) == third
    assert hall("KL.HOLDS", "hall") == []


def test_a_hold_that_replaces_sent_again(hall: Ask) -> None:
    cart, _ = held(hall, "COUNT", 2)
    words = hold("COUNT", 3, "REPLACING", cart, "REQUEST", "r1")
    first = hall(*words)
    assert first[1] == [1, 2, 3]
    assert hall(*words) == first
    assert [one[0] for one in hall("KL.HOLDS", "hall")] == [first[0]]


def test_a_return_sent_again_gets_the_first_answer(hall: Ask) -> None:
    assert hall(*claim("COUNT", 3, "FOR", "ann")) == [1, 2, 3]
    words = give_back(1, 2, more=("REQUEST", "r1"))
    assert hall(*words) == 2
    assert hall(*words) == 2, "as then, not the 0 of a second refund"
    assert hall(*claim("COUNT", 2, "FOR", "ann")) == [1, 2]
    assert hall(*words) == 2
    assert states(hall) == [1, 2, 3], "what was bought since stays bought"


OTHERS = [
    # the first, and one that differs
    (claim("REQUEST", "r"), claim("COUNT", 1, "REQUEST", "r")),
    (claim("COUNT", 2, "REQUEST", "r"), claim("COUNT", 3, "REQUEST", "r")),
    (claim("COUNT", 2, "REQUEST", "r"), claim("COUNT", "02", "REQUEST", "r")),
    (claim("COUNT", 2, "REQUEST", "r"), claim("count", 2, "REQUEST", "r")),
    (claim("COUNT", 2, "REQUEST", "r"), claim("REQUEST", "r", "COUNT", 2)),
    (claim("REQUEST", "r"), claim("FOR", "ann", "REQUEST", "r")),
    (claim("FOR", "ann", "REQUEST", "r"), claim("FOR", "bob", "REQUEST", "r")),
    (claim("REQUEST", "r"), claim("note", "x", "REQUEST", "r")),
    (claim("IDS", 1, 4, "REQUEST", "r"), claim("IDS", 1, 5, "REQUEST", "r")),
    (claim("IDS", 2, 4, 5, "REQUEST", "r"), claim("IDS", 2, 5, 4, "REQUEST", "r")),
    (claim("REQUEST", "r"), hold("REQUEST", "r")),
    (hold("REQUEST", "r"), claim("REQUEST", "r")),
    (hold("REQUEST", "r"), hold("REQUEST", "r", px=61_000)),
    (claim("FOR", "ann", "REQUEST", "r"), give_back(1, more=("REQUEST", "r"))),
    (claim("REQUEST", "r"), claim("COUNT", 11, "REQUEST", "r")),  # which would be sold out
]


@pytest.mark.parametrize(("first", "other"), OTHERS, ids=str)
def test_with_other_arguments_it_is_refused(hall: Ask, refusal: Refusal, first: Any, other: Any) -> None:
    """Byte for byte: a client library that resends sends the same bytes."""
    answer = hall(*first)
    sold, left = states(hall), free(hall)
    assert refusal(hall, *other).startswith("REQUEST ")
    assert (states(hall), free(hall)) == (sold, left)
    assert hall(*first) == answer, "the first is remembered as before"


def test_a_returns_s_id_is_taken_for_claims_too(hall: Ask, refusal: Refusal) -> None:
    assert hall(*claim("FOR", "ann")) == [1]
    assert hall(*give_back(1, more=("REQUEST", "r"))) == 1
    assert refusal(hall, *claim("REQUEST", "r")).startswith("REQUEST ")
    assert refusal(hall, *hold("REQUEST", "r")).startswith("REQUEST ")
    assert states(hall) == []


def test_each_table_has_its_own_ids(hall: Ask) -> None:
    make_hall(hall, "other")
    assert hall(*claim("COUNT", 2, "REQUEST", "r")) == [1, 2]
    assert hall(*claim("COUNT", 3, "REQUEST", "r", table="other")) == [1, 2, 3]
    assert hall(*claim("COUNT", 2, "REQUEST", "r")) == [1, 2]
    assert states(hall) == [1, 2]


@pytest.mark.parametrize("id_", [b"\0", b"a\r\n", b"REQUEST", b"x" * 64, b"\xff\xfe"])
def test_an_id_is_any_bytes(hall: Ask, id_: bytes) -> None:
    assert hall(*claim("REQUEST", id_)) == [1]
    assert hall(*claim("REQUEST", id_ + b" ")) == [2] if len(id_) < 64 else True
    assert hall(*claim("REQUEST", id_)) == [1]


def test_ids_differ_in_each_byte(hall: Ask, refusal: Refusal) -> None:
    assert hall(*claim("REQUEST", "r")) == [1]
    assert hall(*claim("REQUEST", "R")) == [2]
    assert hall(*claim("REQUEST", b"r\0")) == [3]
    for bad in ("", "x" * 65):
        assert "1 to 64 bytes" in refusal(hall, *claim("REQUEST", bad))
    assert states(hall) == [1, 2, 3]


# --- only what took rows is remembered ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "first", "answer"),
    [
        ("sell 1 2 3 4 5 6 7 8 9 10", claim("REQUEST", "r"), []),
        ("", claim("COUNT", 11, "REQUEST", "r"), []),
        ("", claim("IDS", 1, 99, "REQUEST", "r"), []),
        ("lock 1", claim("IDS", 1, 1, "REQUEST", "r"), "BUSY"),
        ("", claim("COUNT", 2, "FOR", "ann", "MAX", 1, "REQUEST", "r"), "LIMIT"),
        ("", claim("zone", 256, "REQUEST", "r"), "ERR"),
        ("", ("KL.CLAIM", "hall", "state", 0, "SET", "state", 0, "REQUEST", "r"), "ERR"),
        ("", hold("COUNT", 11, "REQUEST", "r"), []),
        ("lock 1", hold("IDS", 1, 1, "REQUEST", "r"), "BUSY"),
        ("", give_back(1, more=("REQUEST", "r")), 0),
    ],
    ids=str,
)
def test_what_took_no_rows_is_decided_afresh(hall: Ask, story: str, first: Any, answer: Any) -> None:
    arrange(hall, story)
    for _ in range(2):
        assert answer_of(hall, first) == answer
    assert hall("KL.INSERT", "hall:50", "zone", 1) == 1
    assert hall(*claim("IDS", 1, 50, "REQUEST", "r")) == [50], "the id is free for another"
    # What cannot be read at all may be refused as such: its REQUEST need not even be found.
    assert answer_of(hall, first) in ("REQUEST", "ERR" if answer == "ERR" else "REQUEST")


def test_a_busy_claim_is_decided_afresh(hall: Ask) -> None:
    words = claim("IDS", 1, 1, "REQUEST", "r")
    token, _ = held(hall)
    assert answer_of(hall, words) == "BUSY"
    assert hall("KL.RELEASE", token) == 1
    assert hall(*words) == [1]
    assert hall(*words) == [1]


# --- at the same time -----------------------------------------------------------------------------------


def test_resends_in_one_pipeline_and_in_one_transaction(hall: Ask, wire: Callable[..., Wire]) -> None:
    """A resend waits for a first that is not yet durable, and shows no other rows."""
    one = wire()
    words = frame(*claim("COUNT", 2, "REQUEST", "r"))
    one.send_bytes(words * 3)
    one.expect(b"*2\r\n:1\r\n:2\r\n" * 3)
    words = frame(*claim("REQUEST", "s"))
    one.send_bytes(frame("MULTI") + words * 2 + frame("EXEC"))
    one.expect(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*1\r\n:3\r\n*1\r\n:3\r\n")
    assert states(hall) == [1, 2, 3]


def test_resends_on_many_connections_at_once(client: Any, connect: Callable[..., Any]) -> None:
    hall: Ask = make_hall(client.execute_command, seats=2 * ROUNDS)
    barrier = Barrier(SENDERS)
    answers: list[list[Any]] = [[] for _ in range(ROUNDS)]

    def send() -> None:
        with connect() as one:
            for number in range(ROUNDS):
                words = claim("FOR", "ann", "REQUEST", f"r{number}")
                barrier.wait(20)
                answers[number].append(answer_of(one.execute_command, words))

    threads = [Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[[number + 1]] * SENDERS for number in range(ROUNDS)]
    assert states(hall) == list(range(1, ROUNDS + 1))


def test_drop_forgets_requests(hall: Ask) -> None:
    words = claim("COUNT", 2, "REQUEST", "r")
    assert hall(*claim()) == [1]
    assert hall(*words) == [2, 3]
    hall("KL.DROP", "hall")
    make_hall(hall)
    assert hall(*words) == [1, 2]
