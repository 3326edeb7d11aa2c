"""What the selling verbs refuse to read: options twice or missing, reserved words, numbers, arity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.hall import (
    NOT_AN_INTEGER,
    SYNTAX,
    Ask,
    Refusal,
    Words,
    assert_untouched,
    claim,
    hold,
    make_hall,
    refused_at_syntax,
)

if TYPE_CHECKING:
    from tests.conftest import Wire

BAD_NUMBERS = ["", "+1", " 1", "1 ", "1_0", "-1", "1.0", "0x1", "1" * 33, "one", "\u0661", "1\r\n2"]
RESERVED = [
    *("LIMIT", "FREE", "AFTER", "UNLOCK", "SET", "COUNT", "ADJACENT", "WITHIN", "FOR", "MAX", "REQUEST"),
    *("PX", "IDS", "TAKE", "FROM", "REPLACING", "INDEX"),
]


@pytest.fixture
def hall(ask: Ask) -> Iterator[Ask]:
    """Whatever a test asks of it is refused, and changes nothing."""
    yield make_hall(ask)
    assert_untouched(ask)


TWICE: list[tuple[Any, ...]] = [
    ("COUNT", 1),
    ("IDS", 1, 1),
    ("ADJACENT", "seat"),
    ("FOR", "ann"),
    ("REQUEST", "r"),
]


@pytest.mark.parametrize("option", TWICE, ids=str)
def test_each_option_once(hall: Ask, refusal: Refusal, option: Words) -> None:
    assert refusal(hall, *claim(*option, *option)) == SYNTAX
    between = ("REQUEST", "x") if option[0] == "FOR" else ("FOR", "x")
    assert refusal(hall, *claim(*option, *between, *(str(word).lower() for word in option))) == SYNTAX


@pytest.mark.parametrize(
    "more",
    [
        ("PX", 1),
        ("FOR", "ann"),
        ("COUNT", 1, "COUNT", 2),
        ("IDS", 1, 1, "IDS", 1, 1),
        ("ADJACENT", "seat", "ADJACENT", "seat"),
        ("ADJACENT", "seat", "WITHIN", "tier", "WITHIN", "tier"),
        ("MAX", 1, "MAX", 1),
        ("REQUEST", "r", "REQUEST", "r"),
        ("REPLACING", 1, "REPLACING", 1),
        ("SET", "state", 1),
        ("REPLACING",),
        ("MAX",),
        ("COUNT",),
        ("IDS",),
        ("IDS", 2, 1),
        ("IDS", 1, 1, 2),
        ("LIMIT", 1),
        ("FREE",),
        ("AFTER", 1),
        ("UNLOCK",),
        ("COUNT", 1, "IDS", 1, 1),
        ("IDS", 1, 1, "ADJACENT", "seat"),
        ("WITHIN", "tier"),
        ("ADJACENT",),
        ("ADJACENT", "seat", "WITHIN"),
        ("nonsense",),
        ("OWNER", "ann"),
    ],
    ids=str,
)
def test_what_hold_cannot_read(hall: Ask, refusal: Refusal, more: Words) -> None:
    assert refusal(hall, *hold(*more)) == SYNTAX


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("state", 0),
        ("state", 0, "SET"),
        ("state", 0, "SET", "state"),
        ("state", 0, "SET", "SET", "state", 1),
        ("state", 0, "COUNT", 1),
        ("state", 0, "SET", "COUNT", 1),
        ("state", "SET", "state", 1),
        ("SET", "state", 1),
        ("state", 0, "state", 0, "SET", "state", 1),
        ("state", 0, "state", 1, "SET", "state", 2),
        ("state", 0, "SET", "state", 1, "state", 2),
        ("state", 0, "SET", "state", 1, "SET", "note", "x"),
        ("state", 0, "SET", "state", 1, "MAX", 1),
        ("state", 0, "SET", "state", 1, "FOR", "ann", "MAX", 1, "MAX", 1),
        ("state", 0, "SET", "state", 1, "ADJACENT", "seat", "WITHIN", "tier", "WITHIN", "tier"),
        ("state", 0, "SET", "state", 1, "FOR"),
        ("state", 0, "SET", "state", 1, "FOR", "ann", "MAX"),
        ("state", 0, "SET", "state", 1, "REQUEST"),
        ("state", 0, "SET", "state", 1, "COUNT"),
        ("state", 0, "SET", "state", 1, "IDS"),
        ("state", 0, "SET", "state", 1, "IDS", 1),
        ("state", 0, "SET", "state", 1, "IDS", 3, 1, 2),
        ("state", 0, "SET", "state", 1, "IDS", 1, 1, 2),
        ("state", 0, "SET", "state", 1, "IDS", 1, 1, "COUNT", 1),
        ("state", 0, "SET", "state", 1, "IDS", 1, 1, "ADJACENT", "seat"),
        ("state", 0, "SET", "state", 1, "WITHIN", "tier"),
        ("state", 0, "SET", "state", 1, "ADJACENT"),
        ("state", 0, "SET", "state", 1, "ADJACENT", "seat", "WITHIN"),
        ("state", 0, "SET", "state", 1, "PX", 1000),
        ("state", 0, "SET", "state", 1, "REPLACING", 1),
        ("state", 0, "SET", "state", 1, "LIMIT", 1),
        ("state", 0, "SET", "state", 1, "FREE"),
        ("state", 0, "SET", "state", 1, "UNLOCK"),
        ("state", 0, "FREE", "SET", "state", 1),
    ],
    ids=str,
)
def test_what_claim_cannot_read(hall: Ask, words: Words) -> None:
    refused_at_syntax(hall, "KL.CLAIM", "hall", *words)


@pytest.mark.parametrize("word", ["nonsense", "PXX", "OWNER", "1"])
def test_behind_pairs_a_word_that_is_none_is_a_field(hall: Ask, refusal: Refusal, word: str) -> None:
    assert refusal(hall, *claim(word, 1)) == f"unknown field '{word}'"
    assert refusal(hall, *claim("COUNT", 1, word, 1)) == SYNTAX


@pytest.mark.parametrize(
    "words",
    [
        ("KL.HOLD", "hall", "state", 0, "PX", 1000),
        ("KL.HOLD", "hall", "state", 0, "FOR", "ann"),
        ("KL.HOLD", "hall", "PX", 1000, "FOR", "ann"),
        ("KL.HOLD", "hall", "state", 0, "PX", 1000, "FOR", "ann", "PX", 1000),
        ("KL.HOLD", "hall", "state", 0, "SET", "state", 1, "PX", 1000, "FOR", "ann"),
        ("KL.HOLD", "hall", "state", 0, "state", 0, "PX", 1000, "FOR", "ann"),
        ("KL.EXTEND", 1, "EX", 1000),
        ("KL.HOLDS", "hall", "FOR"),
        ("KL.HOLDS", "hall", "FOR", "ann", "FOR", "ann"),
        ("KL.HOLDS", "hall", "LIMIT", 1),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "COUNT", 1),
        ("KL.RETURN", "hall", "FOR", "ann", "SET", "state", 0),
        ("KL.RETURN", "hall", "OWNER", "ann", 1, "SET", "state", 0),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0, "state", 0),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0, "REQUEST"),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0, "REQUEST", "r", "REQUEST", "r"),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0, "MAX", 1),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0, "COUNT", 1),
    ],
    ids=str,
)
def test_what_the_others_cannot_read(hall: Ask, words: Words) -> None:
    refused_at_syntax(hall, *words)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, "0", "1001", str(2**63)])
def test_numbers_of_claim_and_hold(hall: Ask, refusal: Refusal, bad: str) -> None:
    for verb in (claim, hold):
        assert NOT_AN_INTEGER in refusal(hall, *verb("COUNT", bad))
        assert NOT_AN_INTEGER in refusal(hall, *verb("COUNT", bad, "ADJACENT", "seat"))
        assert NOT_AN_INTEGER in refusal(hall, *verb("IDS", bad, 1))


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, str(2**63)])
def test_other_numbers(hall: Ask, refusal: Refusal, bad: str) -> None:
    assert NOT_AN_INTEGER in refusal(hall, *claim("FOR", "ann", "MAX", bad))
    assert NOT_AN_INTEGER in refusal(hall, *hold("MAX", bad))
    assert NOT_AN_INTEGER in refusal(hall, *hold("REPLACING", bad))
    for words in (
        ("KL.CONFIRM", bad, "SET", "state", 1),
        ("KL.RELEASE", bad),
        ("KL.EXTEND", bad, "PX", 1000),
    ):
        assert NOT_AN_INTEGER in refusal(hall, *words)
    assert "'state'" in refusal(hall, "KL.CLAIM", "hall", "state", bad, "SET", "state", 1)
    assert "'state'" in refusal(hall, "KL.CLAIM", "hall", "state", 0, "SET", "state", bad)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, "4294967296", "hall:1"])
def test_row_ids(hall: Ask, refusal: Refusal, bad: str) -> None:
    """As a bad row id or as a bad number: the contract has no text for it. RETURN's ids end at the first word
    that is none, so there it may be a bad option as well."""
    for words in (claim("IDS", 1, bad), hold("IDS", 2, 1, bad)):
        answer = refusal(hall, *words)
        assert "invalid row id" in answer or NOT_AN_INTEGER in answer
    for ids in ((bad,), (1, bad)):
        refusal(hall, "KL.RETURN", "hall", "FOR", "ann", *ids, "SET", "state", 0)


@pytest.mark.parametrize("bad", [b"", b"x" * 65])
def test_owners_and_request_ids_have_1_to_64_bytes(hall: Ask, refusal: Refusal, bad: bytes) -> None:
    for words in (
        claim("FOR", bad),
        claim("REQUEST", bad),
        hold("REQUEST", bad),
        ("KL.HOLD", "hall", "state", 0, "PX", 1000, "FOR", bad),
        ("KL.RETURN", "hall", "FOR", bad, 1, "SET", "state", 0),
        ("KL.RETURN", "hall", "FOR", "ann", 1, "SET", "state", 0, "REQUEST", bad),
    ):
        assert "1 to 64 bytes" in refusal(hall, *words)


ARITY = [
    *(("KL.CLAIM",), ("KL.CLAIM", "hall"), ("KL.CLAIM", "hall", "state")),
    *(("KL.HOLD",), ("KL.HOLD", "hall"), ("KL.HOLD", "hall", "state")),
    ("KL.CONFIRM",),  # of units it may come without SET, as the claim of units does
    *(("KL.RELEASE",), ("KL.RELEASE", 1, 2)),
    *(("KL.EXTEND",), ("KL.EXTEND", 1), ("KL.EXTEND", 1, "PX"), ("KL.EXTEND", 1, "PX", 1, 2)),
    *(("KL.HOLDS",), ("KL.RETURN",), ("KL.RETURN", "hall"), ("KL.RETURN", "hall", "FOR", "ann")),
]


@pytest.mark.parametrize("words", ARITY, ids=str)
def test_arity_as_redis_has_it(hall: Ask, wire: Callable[..., Wire], words: Words) -> None:
    name = str(words[0]).lower()
    reply = wire().ask(*words)
    assert reply == f"-ERR wrong number of arguments for '{name}' command\r\n".encode()


@pytest.mark.parametrize("word", RESERVED)
def test_a_value_may_be_a_reserved_word(ask: Ask, word: str) -> None:
    """A list of pairs ends at such a word in the place of a field only."""
    ask("KL.CREATE", "t", "SCHEMA", "kind", "BYTES", 16, "INDEX", "note", "BYTES", 16)
    for row in (1, 2):
        ask("KL.INSERT", f"t:{row}", "kind", word)
    sold = ("SET", "kind", word.lower() + "x", "note", word)
    assert ask("KL.CLAIM", "t", "kind", word, *sold, "FOR", word, "REQUEST", word) == [1]
    token, ids, _ = ask("KL.HOLD", "t", "kind", word, "PX", 60_000, "FOR", word, "REQUEST", word + "1")
    assert ids == [2]
    assert ask("KL.HOLDS", "t", "FOR", word)[0][:3] == [token, word.encode(), [2]]
    assert ask("KL.CONFIRM", token, *sold) == [2]
    assert ask("KL.RETURN", "t", "FOR", word, 1, 2, "SET", "kind", word, "REQUEST", word + "2") == 2


def test_unknown_tables(hall: Ask, refusal: Refusal) -> None:
    for words in (
        ("KL.CLAIM", "no", "state", 0, "SET", "state", 1),
        ("KL.HOLD", "no", "state", 0, "PX", 1, "FOR", "ann"),
        ("KL.HOLDS", "no"),
        ("KL.RETURN", "no", "FOR", "ann", 1, "SET", "state", 0),
    ):
        assert refusal(hall, *words) == "unknown table 'no'"
