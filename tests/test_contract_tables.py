"""Tables, their rows and what can be asked of them, over the wire, in RESP2 and RESP3."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Wire

Client = Any  # redis-py does not type execute_command

Ask = Callable[..., Any]
Refusal = Callable[..., str]
AsMap = Callable[[Any], dict[Any, Any]]

SEED = 20261123
RESERVED = [
    *("LIMIT", "FREE", "AFTER", "UNLOCK", "SET", "COUNT", "ADJACENT", "WITHIN", "FOR", "MAX", "REQUEST"),
    *("PX", "IDS", "TAKE", "FROM", "REPLACING", "INDEX"),
]
BOUNDS = {
    "U8": (0, 2**8 - 1),
    "U16": (0, 2**16 - 1),
    "U32": (0, 2**32 - 1),
    "U64": (0, 2**63 - 1),
    "I64": (-(2**63), 2**63 - 1),
}
NOT_A_NUMBER = ["", "+1", " 1", "1 ", "1_0", "1.0", "1" * 33, "--1", "-", "- 1", "one", "\u0661"]


# --- CREATE, DROP, TABLES, INFO -----------------------------------------------------------------------


def test_create_and_drop(ask: Ask, refusal: Refusal) -> None:
    assert ask("KL.TABLES") == []
    assert ask("KL.CREATE", "b", "SCHEMA", "x", "u8", "index", "y", "bytes", 4) == b"OK"
    assert ask("KL.CREATE", "A-1", "schema", "x", "I64") == b"OK"
    assert ask("KL.CREATE", "_", "SCHEMA", "x", "U64", "y", "U16") == b"OK"
    assert ask("KL.TABLES") == [b"A-1", b"_", b"b"]
    assert refusal(ask, "KL.CREATE", "b", "SCHEMA", "x", "U8").startswith("EXISTS ")
    assert refusal(ask, "KL.CREATE", "b", "SCHEMA", "x", "U8", "INDEX", "y", "BYTES", 4).startswith("EXISTS ")
    assert ask("KL.DROP", "b") == 1
    assert ask("KL.DROP", "b") == 0
    assert ask("KL.DROP", "B") == 0
    assert ask("KL.TABLES") == [b"A-1", b"_"]
    assert refusal(ask, "KL.INFO", "b") == "unknown table 'b'"


def test_ifnotexists_is_ok_only_for_the_same_schema(ask: Ask, refusal: Refusal) -> None:
    for _ in range(2):
        assert ask("KL.CREATE", "t", "IFNOTEXISTS", "SCHEMA", "x", "U8", "INDEX", "y", "BYTES", 4) == b"OK"
        assert ask("KL.CREATE", "t", "ifnotexists", "SCHEMA", "x", "u8", "index", "y", "bytes", "04") == b"OK"
    for other in (
        ("x", "U8", "y", "BYTES", 4),
        ("x", "U8", "INDEX", "y", "BYTES", 5),
        ("y", "BYTES", 4, "x", "U8", "INDEX"),
        ("x", "U8", "INDEX"),
        ("X", "U8", "INDEX", "y", "BYTES", 4),
    ):
        assert refusal(ask, "KL.CREATE", "t", "IFNOTEXISTS", "SCHEMA", *other).startswith("EXISTS ")


@pytest.mark.parametrize("word", [*RESERVED, "limit", "Free", "1x", "", "x-y", "x y", "é", "x" * 65, "x\n"])
def test_what_cannot_name_a_field(client: Client, refusal: Refusal, word: str) -> None:
    answer = refusal(client.execute_command, "KL.CREATE", "t", "SCHEMA", "a", "U8", word, "U8")
    assert answer.startswith("invalid field name") or (word.upper() == "INDEX" and answer == "syntax error")
    assert client.execute_command("KL.TABLES") == []


def test_names_that_look_odd_and_are_fine(ask: Ask, as_map: AsMap) -> None:
    longest = "x" * 64
    assert (
        ask("KL.CREATE", "T" * 128, "SCHEMA", "SCHEMA", "U8", longest, "U8", "PX1", "U8", "_", "U8") == b"OK"
    )
    assert ask("KL.INSERT", f"{'T' * 128}:1", "SCHEMA", 1, longest, 2, "PX1", 3) == 1
    assert list(as_map(ask("KL.SEEK", f"{'T' * 128}:1")).values()) == [1, 2, 3, 0]


@pytest.mark.parametrize("name", ["", "1t", "-t", "t:t", "t t", "{t}", "T" * 129, "t\n", "ü"])
def test_what_cannot_name_a_table(client: Client, refusal: Refusal, name: str) -> None:
    answer = refusal(client.execute_command, "KL.CREATE", name, "SCHEMA", "x", "U8")
    assert answer.startswith("invalid table name")


def test_create_refuses_what_is_no_schema(ask: Ask, refusal: Refusal) -> None:
    for words in (
        ("SCHEMA", "x", "U8", "y"),
        ("SCHEMA", "x", "BYTES"),
        ("FIELDS", "x", "U8"),
        ("IFNOTEXISTS", "x", "U8"),
        ("SCHEMA", "x", "U8", "x", "U16"),
        ("SCHEMA", "x", "U8", "INDEX", "INDEX"),
    ):
        assert refusal(ask, "KL.CREATE", "t", *words) == "syntax error"
    assert refusal(ask, "KL.CREATE", "t", "SCHEMA", "x", "U7") == "unknown type 'U7'"
    for size in (0, "+4", "4_0", -1, 4001, "1" * 33, "INDEX"):
        assert refusal(ask, "KL.CREATE", "t", "SCHEMA", "x", "BYTES", size).startswith("BYTES takes a size")
    assert ask("KL.TABLES") == []


def test_at_most_64_fields_and_4000_bytes(ask: Ask, refusal: Refusal, as_map: AsMap) -> None:
    fields = [word for number in range(64) for word in (f"f{number}", "U8")]
    assert ask("KL.CREATE", "wide", "SCHEMA", *fields) == b"OK"
    values = [word for number in range(64) for word in (f"f{number}", number)]
    assert ask("KL.INSERT", "wide:1", *values) == 1
    assert list(as_map(ask("KL.SEEK", "wide:1")).values()) == list(range(64))
    assert "64 fields" in refusal(ask, "KL.CREATE", "wider", "SCHEMA", *fields, "f64", "U8")
    whole = bytes(range(256)) * 15 + b"\0" * 160
    assert ask("KL.CREATE", "big", "SCHEMA", "x", "BYTES", 4000) == b"OK"
    assert ask("KL.INSERT", "big:1", "x", whole) == 1
    assert as_map(ask("KL.SEEK", "big:1")) == {b"x": whole}
    assert "4001 bytes" in refusal(ask, "KL.INSERT", "big:2", "x", whole + b"\0")
    most = ("x", "BYTES", 3992, "y", "U64")
    assert ask("KL.CREATE", "mixed", "SCHEMA", *most) == b"OK"
    assert "4000 bytes" in refusal(ask, "KL.CREATE", "more", "SCHEMA", *most, "z", "U8").replace(",", "")


def test_info_describes_a_table(ask: Ask, as_map: AsMap) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8", "INDEX", "y", "BYTES", 4)
    empty = as_map(ask("KL.INFO", "t"))
    assert list(empty) == [b"schema", b"rows", b"bytes", b"locks", b"holds", b"appended", b"durable"]
    assert empty[b"schema"] == [[b"x", b"U8", 1], [b"y", b"BYTES 4", 0]]
    assert (empty[b"rows"], empty[b"locks"], empty[b"holds"]) == (0, 0, 0)
    ask("KL.INSERT", "t:1", "x", 1)
    ask("KL.INSERT", "t:2", "x", 1)
    ask("KL.TRYLOCK", "t:1")
    info = as_map(ask("KL.INFO", "t"))
    assert (info[b"rows"], info[b"locks"], info[b"holds"]) == (2, 1, 0)
    assert info[b"bytes"] > 0
    assert info[b"appended"] > empty[b"appended"]
    assert 0 < info[b"durable"] <= info[b"appended"]


def test_drop_ends_rows_and_locks(ask: Ask, refusal: Refusal) -> None:
    for name in ("t", "other"):
        ask("KL.CREATE", name, "SCHEMA", "x", "U8", "INDEX")
        ask("KL.INSERT", f"{name}:1", "x", 1)
    token = ask("KL.TRYLOCK", "t:1", "other:1", "OWNER", "a")
    assert ask("KL.DROP", "t") == 1
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8", "INDEX")
    assert ask("KL.SEEK", "t:1") is None
    assert ask("KL.COUNT", "t", "x", 1) == 0
    assert ask("KL.INSERT", "t:1", "x", 1) == 1
    assert refusal(ask, "KL.REPLACE", "t:1", token, "x", 2).startswith("NOLOCK ")
    assert ask("KL.UNLOCK", "t:1", "other:1", token) == 1
    assert ask("KL.TRYLOCK", "t:1") > token


# --- INSERT and values --------------------------------------------------------------------------------


@pytest.fixture
def typed(ask: Ask) -> Ask:
    fields = [word for kind in BOUNDS for word in (kind.lower(), kind)]
    ask("KL.CREATE", "seats", "SCHEMA", *fields, "text", "BYTES", 16)
    return ask


def test_insert_is_1_again_only_with_exactly_these_contents(
    typed: Ask, refusal: Refusal, as_map: AsMap
) -> None:
    assert typed("KL.INSERT", 5, "u8", 1, "text", "a") == 1
    assert typed("KL.INSERT", "seats:5", "text", "a", "u8", "01") == 1
    assert typed("KL.INSERT", 5, "u8", 1, "text", "a", "u16", 0) == 1, "unnamed fields are zero or empty"
    for other in (
        ("u8", 1),
        ("u8", 2, "text", "a"),
        ("u8", 1, "text", "a\0"),
        ("u8", 1, "text", "a", "i64", -1),
    ):
        assert refusal(typed, "KL.INSERT", 5, *other).startswith("EXISTS ")
    zero = {kind.lower().encode(): 0 for kind in BOUNDS}
    assert as_map(typed("KL.SEEK", 5)) == zero | {b"u8": 1, b"text": b"a"}
    assert as_map(typed("KL.INFO", "seats"))[b"rows"] == 1


@pytest.mark.parametrize("kind", list(BOUNDS))
def test_integers_have_their_bounds(typed: Ask, refusal: Refusal, as_map: AsMap, kind: str) -> None:
    field = kind.lower()
    low, high = BOUNDS[kind]
    for row, (sent, stored) in enumerate(
        [(low, low), (high, high), (str(high).zfill(32), high), ("0" * 32, 0), ("007", 7)]
    ):
        assert typed("KL.INSERT", row, field, sent) == 1
        assert as_map(typed("KL.SEEK", row, field)) == {field.encode(): stored}
    for beyond in (low - 1, high + 1, 10**31):
        answer = refusal(typed, "KL.INSERT", 99, field, beyond)
        assert "out of range" in answer or "not an integer" in answer
    for bad in NOT_A_NUMBER:
        assert f"field '{field}': value is not an integer" in refusal(typed, "KL.INSERT", 99, field, bad)
    if low == 0:
        assert "not an integer" in refusal(typed, "KL.INSERT", 99, field, "-0")
    else:
        assert typed("KL.INSERT", 100, field, "-0007") == 1
        assert as_map(typed("KL.SEEK", 100, field)) == {field.encode(): -7}
    assert typed("KL.SEEK", 99) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"a\0\0",
        b"\r\n",
        b"a\r\n$1\r\n",
        b"\0" * 16,
        b"\xff\xfe%d%s",
        b"LIMIT",
        b"UNLOCK",
        b"text",
    ],
)
def test_bytes_come_back_as_they_went_in(typed: Ask, as_map: AsMap, refusal: Refusal, text: bytes) -> None:
    assert typed("KL.INSERT", 1, "text", text, "u8", 1) == 1
    assert as_map(typed("KL.SEEK", 1, "text")) == {b"text": text}
    assert as_map(typed("KL.SCAN", "seats", 0)[1][0][1])[b"text"] == text
    assert "17 bytes, at most 16" in refusal(typed, "KL.INSERT", 2, "text", text.ljust(17, b"\0"))


def test_indexed_bytes_are_told_apart_by_their_zeros(ask: Ask, as_map: AsMap) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "BYTES", 4, "INDEX")
    texts = [b"", b"\0", b"a", b"a\0", b"\r\n", b"SET"]
    for row, text in enumerate(texts):
        ask("KL.INSERT", f"t:{row}", "x", text)
    for row, text in enumerate(texts):
        assert ask("KL.INTERSECT", "t", "x", text) == [row]
        assert as_map(ask("KL.VERIFY", "t", "x", text))[b"matched"] == 1


def test_insert_refuses_what_it_cannot_read(typed: Ask, refusal: Refusal) -> None:
    for words in (
        ("u8", 1, "u8", 1),
        ("u8", 1, "text"),
        ("u8", 1, "UNLOCK"),
        ("LIMIT", 1),
        ("u8", 1, "free", 1),
    ):
        assert refusal(typed, "KL.INSERT", 1, *words) == "syntax error"
    assert refusal(typed, "KL.INSERT", 1, "u9", 1) == "unknown field 'u9'"
    assert refusal(typed, "KL.INSERT", "nowhere:1", "u8", 1) == "unknown table 'nowhere'"
    assert typed("KL.SEEK", 1) is None


# --- COUNT, SCAN, LOCKS, VERIFY -----------------------------------------------------------------------


def test_count(ask: Ask, refusal: Refusal) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8", "INDEX", "y", "I64", "INDEX", "z", "U8")
    for row in range(10):
        ask("KL.INSERT", f"t:{row}", "x", row % 2, "y", -row)
    assert ask("KL.COUNT", "t", "x", 1) == 5
    assert ask("KL.COUNT", "t", "x", 1, "y", "-3", "free") == 1
    assert ask("KL.COUNT", "t", "x", 2) == 0
    for words in (("x", 1, "FREE", "FREE"), ("x", 1, "LIMIT", 1), ("x", 1, "x", 1)):
        assert refusal(ask, "KL.COUNT", "t", *words) == "syntax error"


def scanned(ask: Ask, amount: int, meanwhile: Callable[[], None] = lambda: None) -> list[int]:
    """All ids of table `t`, page by page."""
    ids: list[int] = []
    cursor = b"0"
    while True:
        cursor, page = ask("KL.SCAN", "t", cursor, "COUNT", amount)
        assert isinstance(cursor, bytes)
        ids += [row for row, _ in page]
        if cursor == b"0":
            return ids
        meanwhile()


def test_scan_is_complete_and_ascending_while_rows_are_inserted(ask: Ask, as_map: AsMap) -> None:
    print(f"seed {SEED}")
    source = random.Random(SEED)
    ask("KL.CREATE", "t", "SCHEMA", "x", "U32", "y", "BYTES", 2)
    first = sorted([*source.sample(range(0, 1000, 2), 150), 2**32 - 1])
    for row in first:
        ask("KL.INSERT", f"t:{row}", "x", row % 7, "y", "\0")
    assert scanned(ask, 10_000) == scanned(ask, 1) == first
    later = source.sample(range(1, 1000, 2), 100)
    waiting = list(later)

    def insert_some() -> None:
        for row in waiting[:5]:
            ask("KL.INSERT", f"t:{row}", "x", 1)
        del waiting[:5]

    ids = scanned(ask, 7, insert_some)
    assert ids == sorted(set(ids))
    assert set(first) <= set(ids) <= set(first) | set(later)
    row, contents = ask("KL.SCAN", "t", first[3], "COUNT", 1)[1][0]
    assert (row, list(as_map(contents).items())) == (first[3], [(b"x", first[3] % 7), (b"y", b"\0")])


def test_scan_takes_a_bounded_step_however_much_is_asked(ask: Ask, connect: Callable[..., Client]) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8")
    with connect().pipeline() as pipeline:
        for row in range(1200):
            pipeline.execute_command("KL.INSERT", f"t:{row}", "x", 1)
        pipeline.execute()
    cursor, page = ask("KL.SCAN", "t", 0, "COUNT", 2**63 - 1)
    assert (cursor, [row for row, _ in page]) == (b"1000", list(range(1000)))
    assert scanned(ask, 2**63 - 1) == list(range(1200))


def test_scan_pages(ask: Ask, refusal: Refusal) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8")
    assert ask("KL.SCAN", "t", 0) == [b"0", []]
    for row in range(11):
        ask("KL.INSERT", f"t:{row}", "x", 0)
    cursor, page = ask("KL.SCAN", "t", "0")
    assert (int(cursor) > 0, len(page)) == (True, 10)
    assert ask("KL.SCAN", "t", cursor)[0] == b"0"
    assert ask("KL.SCAN", "t", 0, "count", 11)[0] == b"0"
    for words in (("COUNT",), ("COUNT", 1, "COUNT", 1), ("LIMIT", 1)):
        assert refusal(ask, "KL.SCAN", "t", 0, *words) == "syntax error"
    for cursor_and_more in ((0, "COUNT", 0), (0, "COUNT", "x"), ("x",), (-1,)):
        refused = refusal(ask, "KL.SCAN", "t", *cursor_and_more)
        assert refused == f"value is not an integer or out of range: '{cursor_and_more[-1]}'"


def test_locks_lists_live_ones(ask: Ask, refusal: Refusal) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8")
    for row in range(70):
        ask("KL.INSERT", f"t:{row}", "x", 0)
    assert ask("KL.LOCKS", "t") == []
    second = ask("KL.TRYLOCK", "t:9", "t:5", "PX", 60_000, "OWNER", "worker 1")
    plain = ask("KL.TRYLOCK", "t:7")
    rows = ask("KL.LOCKS", "t")
    assert [row[:3] for row in rows] == [[5, second, b"worker 1"], [7, plain, None], [9, second, b"worker 1"]]
    assert 50_000 < rows[0][3] <= 60_000
    assert 0 < rows[1][3] <= 10_000, "a lease is 10 s unless told"
    assert [row[0] for row in ask("KL.LOCKS", "t", "LIMIT", 2)] == [5, 7]
    ask("KL.TRYLOCK", *[f"t:{row}" for row in range(10, 70)], *[f"t:{row}" for row in range(5)])
    assert len(ask("KL.LOCKS", "t", "limit", 0)) == 68
    for words in (("LIMIT",), ("LIMIT", 1, "LIMIT", 1), ("COUNT", 1)):
        assert refusal(ask, "KL.LOCKS", "t", *words) == "syntax error"


def test_verify_counts_three_times(ask: Ask, as_map: AsMap, refusal: Refusal) -> None:
    ask("KL.CREATE", "t", "SCHEMA", "x", "U8", "INDEX", "y", "U8")
    sound = {b"corrupt": 0, b"ok": 1}
    assert as_map(ask("KL.VERIFY", "t", "x", 1)) == sound | dict.fromkeys(
        (b"rows", b"matched", b"log_matched", b"index_matched"), 0
    )
    for row in range(50):
        ask("KL.INSERT", f"t:{row}", "x", row % 3)
    for value, matched in ((0, 17), (1, 17), (2, 16), (3, 0)):
        reply = as_map(ask("KL.VERIFY", "t", "x", value))
        assert list(reply) == [b"rows", b"matched", b"log_matched", b"index_matched", b"corrupt", b"ok"]
        assert reply == sound | {
            b"rows": 50,
            b"matched": matched,
            b"log_matched": matched,
            b"index_matched": matched,
        }
    assert refusal(ask, "KL.VERIFY", "t", "z", 1) == "unknown field 'z'"
    assert "out of range" in refusal(ask, "KL.VERIFY", "t", "x", 256)


def test_replies_to_the_byte(wire: Callable[..., Wire], client: Client) -> None:
    exact = wire()
    for version, map1, map6 in ((2, b"*2\r\n", b"*12\r\n"), (3, b"%1\r\n", b"%6\r\n")):
        exact.send("HELLO", version)
        exact.until(b"modules\r\n*0\r\n")
        zero = b"".join(
            b"$%d\r\n%b\r\n:0\r\n" % (len(name), name)
            for name in (b"rows", b"matched", b"log_matched", b"index_matched", b"corrupt")
        )
        for words, reply in (
            (("KL.CREATE", "t", "SCHEMA", "x", "U8", "INDEX"), b"+OK\r\n"),
            (("KL.TABLES",), b"*1\r\n$1\r\nt\r\n"),
            (("KL.VERIFY", "t", "x", 0), map6 + zero + b"$2\r\nok\r\n:1\r\n"),
            (("KL.INSERT", "t:1", "x", 0), b":1\r\n"),
            (("KL.SCAN", "t", 0), b"*2\r\n$1\r\n0\r\n*1\r\n*2\r\n:1\r\n" + map1 + b"$1\r\nx\r\n:0\r\n"),
            (("KL.COUNT", "t", "x", 0), b":1\r\n"),
            (("KL.DROP", "t"), b":1\r\n"),
            (("KL.DROP", "t"), b":0\r\n"),
            (("PING",), b"+PONG\r\n"),
        ):
            exact.send(*words)
            exact.expect(reply)
