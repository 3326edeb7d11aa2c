"""The request parser.

The fuzz invariant: a byte stream gives the same requests and the same error however it is cut into chunks,
the ones that the careful parser gives when it alone reads the whole, and no exception escapes.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klani_resp.protocol.errors import ProtocolError
from klani_resp.protocol.inline import split_words
from klani_resp.protocol.parser import CarefulParser, ParserLimits, Request, RequestParser
from tests.proof import scaled, share

FUZZ_INPUTS = scaled(200_000, 20_000_000)
FUZZ_PARTS = scaled(10, 1_000)  # each a test of its own, so that none needs more than some seconds
FUZZ_SEED = int(os.environ.get("KLANI_FUZZ_SEED", "1"))
LIMITS = ParserLimits()
TIGHT = ParserLimits(arguments_max=4, bulk_bytes_max=30, request_bytes_max=50)

Outcome = tuple[list[Request], str | None]


def frame(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def parse(chunks: Iterable[bytes], limits: ParserLimits = LIMITS) -> Outcome:
    parser = RequestParser(limits)
    requests = [request for chunk in chunks for request in parser.feed(chunk)]
    return requests, None if parser.error is None else parser.error.text


def parse_carefully(data: bytes, limits: ParserLimits = LIMITS) -> Outcome:
    parser = CarefulParser(limits)
    parser.feed(data)
    requests = []
    try:
        while (request := parser.next()) is not None:
            if request:
                requests.append(request)
    except ProtocolError as error:
        return requests, error.text
    return requests, None


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def assert_same_however_cut(data: bytes, limits: ParserLimits = LIMITS) -> Outcome:
    expected = parse_carefully(data, limits)
    assert parse([data], limits) == expected
    assert parse(single_bytes(data), limits) == expected
    for cut in range(1, len(data)):
        assert parse([data[:cut], data[cut:]], limits) == expected, f"cut at {cut}"
    return expected


SEEK = frame(b"KL.SEEK", b"42")
REQUESTS: list[tuple[str, bytes, list[Request]]] = [
    ("one", SEEK, [[b"KL.SEEK", b"42"]]),
    ("a pipeline", SEEK * 3, [[b"KL.SEEK", b"42"]] * 3),
    ("above what is split in place", frame(*[b"x"] * 40), [[b"x"] * 40]),
    ("empty arguments", frame(b"", b"", b""), [[b"", b"", b""]]),
    ("any bytes", frame(b"\0\xff\r\n", b"*12345\r\n$1"), [[b"\0\xff\r\n", b"*12345\r\n$1"]]),
    ("line ends and stars in values", frame(b"a", b"\r\n*") + SEEK, [[b"a", b"\r\n*"], [b"KL.SEEK", b"42"]]),
    ("lookalikes in values", frame(b"a", b"\n+b\n=c"), [[b"a", b"\n+b\n=c"]]),
    ("nothing to do", b"*0\r\n*-1\r\n\r\n" + SEEK, [[b"KL.SEEK", b"42"]]),
    ("inline", b"PING\r\n", [[b"PING"]]),
    ("inline, a line feed alone", b"PING a\nPING b\n", [[b"PING", b"a"], [b"PING", b"b"]]),
    (
        "inline between frames",
        SEEK + b"PING\r\n" + SEEK,
        [[b"KL.SEEK", b"42"], [b"PING"], [b"KL.SEEK", b"42"]],
    ),
    ("inline with quotes", b"ECHO \"a b\\x41\\n\" 'c d'\r\n", [[b"ECHO", b"a bA\n", b"c d"]]),
    ("bulk ends are skipped, as Redis does", b"*1\r\n$4\r\nPINGxx" + SEEK, [[b"PING"], [b"KL.SEEK", b"42"]]),
    ("unfinished", SEEK + b"*2\r\n$7\r\nKL.SEEK\r\n$5\r\n12", [[b"KL.SEEK", b"42"]]),
]


@pytest.mark.parametrize(("data", "requests"), [case[1:] for case in REQUESTS], ids=[c[0] for c in REQUESTS])
def test_requests(data: bytes, requests: list[Request]) -> None:
    assert assert_same_however_cut(data) == (requests, None)


ERRORS: list[tuple[bytes, str]] = [
    (b"*a\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*4097\r\n", "invalid multibulk length"),
    (b"*1000000000\r\n", "invalid multibulk length"),
    (b"*99999999999999999999\r\n", "invalid multibulk length"),
    (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
    (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
    (b"*1\r\n:1\r\n", "expected '$', got ':'"),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
    (b"*1\r\n=8\r\ntxt:PING\r\n", "expected '$', got '='"),
    (b"*1\r\n(12\r\n", "expected '$', got '('"),
    (b"*2\r\n$4\r\nECHO\r\n+a\r\n", "expected '$', got '+'"),
    (b"*2\r\n$0\r\n*$+a\r\n", "expected '$', got '+'"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$1048577\r\n", "invalid bulk length"),
    (b"*1\r\n$999999999999\r\n", "invalid bulk length"),
    (b'ECHO "a\r\n', "unbalanced quotes in request"),
    (b"ECHO 'a'b\r\n", "unbalanced quotes in request"),
]


@pytest.mark.parametrize(("data", "text"), ERRORS, ids=[repr(data)[2:-1] for data, _ in ERRORS])
def test_errors_come_behind_what_was_sent_before(data: bytes, text: str) -> None:
    assert assert_same_however_cut(data) == ([], text)
    assert assert_same_however_cut(SEEK + data + SEEK) == ([[b"KL.SEEK", b"42"]], text)


@pytest.mark.parametrize("length", [65_537, 70_000])
@pytest.mark.parametrize(
    ("start", "text"),
    [
        (b"P", "too big inline request"),
        (b"*1", "too big mbulk count string"),
        (b"*1\r\n$1", "too big bulk count string"),
    ],
)
def test_lines_have_a_limit(start: bytes, text: str, length: int) -> None:
    data = start + b"1" * length
    assert parse([data]) == parse(single_bytes(data)) == parse([data + b"\r\n"]) == ([], text)


def test_nothing_is_read_after_an_error() -> None:
    parser = RequestParser(LIMITS)
    assert parser.feed(b"*x\r\n") == []
    assert parser.feed(SEEK) == []
    assert parser.error is not None
    assert parser.error.reply() == b"-ERR Protocol error: invalid multibulk length\r\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([b"x"] * 4, None),
        ([b"x"] * 5, "invalid multibulk length"),
        ([b"x" * 30], None),
        ([b"x" * 31], "invalid bulk length"),
        ([b"x" * 25] * 2, None),
        ([b"x" * 25, b"x" * 26], "invalid bulk length"),
    ],
)
def test_limits_hold_on_every_road(words: list[bytes], text: str | None) -> None:
    expected = ([] if text else [words], text)
    assert assert_same_however_cut(frame(*words), TIGHT) == expected


def test_an_announced_length_takes_no_memory() -> None:
    parsers = [RequestParser(LIMITS) for _ in range(200)]
    tracemalloc.start()
    for parser in parsers:
        assert parser.feed(b"*4096\r\n$1048576\r\n") == []
        parser.feed(b"x" * 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(parsers) < 4096


def test_a_byte_at_a_time_costs_the_same_at_any_length() -> None:
    """300 kB of one argument: looking through it again for each byte would take hours."""
    data = frame(b"ECHO", b"x" * 300_000)
    assert parse(single_bytes(data)) == ([[b"ECHO", b"x" * 300_000]], None)


def test_a_client_cannot_guess_the_sentinel() -> None:
    numbers = b"".join(b":%d\r\n" % number for number in (0, 1, 1 << 59))
    assert parse([SEEK + numbers + SEEK])[0][0] == [b"KL.SEEK", b"42"]
    assert_same_however_cut(SEEK + numbers + SEEK)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  a\tb ", [b"a", b"b"]),
        (b'""', [b""]),
        (b"''", [b""]),
        (b'a"b c"', [b"ab c"]),
        (b'"\\x4a\\x4"', [b"Jx4"]),
        (b'"\\\\ \\" \\t\\q"', [b'\\ " \tq']),
        (b"'it\\'s \\n'", [b"it's \\n"]),
        (b'a\0b "', [b"a"]),
        (b"PING\vx", [b"PING\vx"]),
        (b" \va\f \fb\v\r\v", [b"a\f", b"b\v"]),
        (b'"a"\vb\v"c d"', [b"a", b"b\vc d"]),
    ],
)
def test_inline_words(line: bytes, words: list[bytes]) -> None:
    assert split_words(line) == words


# --- fuzz -------------------------------------------------------------------------------------------------

PIECES = [
    SEEK,
    frame(b"PING"),
    frame(b"KL.REPLACE", b"seats:1", b"7", b"rank", b"\r\n*3\r\n"),
    b"PING\r\n",
    b'ECHO "a b"\n',
    *[b"*%d\r\n" % n for n in (-1, 0, 1, 2, 3, 12345)],
    *[b"$%d\r\n" % n for n in (-1, 0, 1, 2, 5, 20, 31)],
    *[
        b"+a\r\n",
        b":1\r\n",
        b"=5\r\ntxt:a\r\n",
        b"(1\r\n",
        b"~1\r\n",
        b">1\r\n",
        b"_\r\n",
        b"%1\r\n",
        b"|1\r\n",
    ],
    *[b"\r\n", b"\r", b"\n", b"$", b"*", b"'", b'"', b"\0", b"\xff", b"a", b"ab\r\n", b" "],
]


def random_input(rng: random.Random) -> bytes:
    data = b"".join(rng.choices(PIECES, k=rng.randint(1, 8)))
    if rng.random() < 0.2:
        at = rng.randrange(len(data))
        data = data[:at] + rng.randbytes(1) + data[at + 1 :]
    return data


def random_chunks(rng: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(rng.sample(range(len(data) + 1), min(len(data), rng.randint(0, 4))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.proof
@pytest.mark.parametrize("part", range(FUZZ_PARTS))
def test_fuzz(part: int, figure: Callable[[str, int], None]) -> None:
    mine = share(FUZZ_INPUTS, part, FUZZ_PARTS)
    figure("C1 inputs, however they are cut", len(mine))
    for number in mine:
        rng = random.Random(f"{FUZZ_SEED}-{number}")
        limits = LIMITS if number // 10 % 2 else TIGHT
        data = random_input(rng)
        expected = parse_carefully(data, limits)
        for chunks in ([data], random_chunks(rng, data), random_chunks(rng, data)):
            assert parse(chunks, limits) == expected, f"seed {FUZZ_SEED}, input {number}: {chunks}"


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=8), st.randoms(use_true_random=False)
)
def test_fuzz_and_shrink(pieces: list[bytes], rng: random.Random) -> None:
    data = b"".join(pieces)
    assert parse(random_chunks(rng, data)) == parse(single_bytes(data)) == parse_carefully(data)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=12), max_size=8))
def test_what_is_framed_comes_out(requests: list[list[bytes]]) -> None:
    assert parse([b"".join(frame(*words) for words in requests)]) == (requests, None)
