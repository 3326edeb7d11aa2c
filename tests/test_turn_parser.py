"""One parse for a whole turn gives each connection what its own parser would, or nothing at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klani_resp.protocol.parser import SENTINEL, ParserLimits, RequestParser
from klani_resp.protocol.turn import TurnParser
from tests.conftest import frame

LIMITS = ParserLimits()
SEEK = frame("KL.SEEK", "seats:42")

words = st.binary(max_size=12) | st.sampled_from([b"a+b@x", b"=", b"\r\n", b"*1\r\n$1\r\na\r\n", b"(1"])
requests = st.lists(words, min_size=1, max_size=4).map(lambda parts: frame(*parts))
whole_chunks = st.lists(requests, min_size=1, max_size=3).map(b"".join)
odd_chunks = st.sampled_from(
    [
        b"PING\r\n",
        b"\r\n",
        b"*0\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n=8\r\ntxt:PING\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*-1\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*99999\r\n",
        b"+OK\r\n",
        b"$3\r\nabc\r\n",
        SEEK[:-1],
        SEEK[:9],
        b"*2\r\n$3\r\nGET\r\n$100\r\nabc\r\n",
        b"*1\r\n$4\r\nPINGxx",
        SENTINEL,
    ]
)


def apart(chunk: bytes) -> tuple[list[list[bytes]], bool]:
    """What a connection's own parser makes of it; whether it is between two requests then."""
    parser = RequestParser(LIMITS)
    return parser.feed(chunk), parser.is_between


@given(st.lists(whole_chunks, max_size=5))
def test_whole_requests_come_out_as_each_parser_has_them(chunks: list[bytes]) -> None:
    parser = TurnParser(LIMITS, 16384)
    assert parser.parse(chunks) == [apart(chunk)[0] for chunk in chunks]


@given(st.lists(whole_chunks | odd_chunks | st.binary(max_size=30), min_size=1, max_size=5))
def test_anything_else_gives_the_same_or_nothing(chunks: list[bytes]) -> None:
    parser = TurnParser(LIMITS, 16384)
    batches = parser.parse(chunks)
    if batches is not None:
        assert [(batch, True) for batch in batches] == [apart(chunk) for chunk in chunks]
    assert parser.parse([SEEK, SEEK]) == [[[b"KL.SEEK", b"seats:42"]]] * 2, "nothing is left behind"


@pytest.mark.parametrize("missing", range(-2, 4))
def test_a_request_cannot_reach_into_the_next_connection(missing: int) -> None:
    """One that announces just as many bytes as the secret and the next one's request have."""
    length = len(SENTINEL) + len(SEEK) + missing
    thief = b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % length
    for chunks in ([thief, SEEK], [thief, SEEK, SEEK], [SEEK, thief, SEEK], [thief, thief, SEEK]):
        assert TurnParser(LIMITS, 16384).parse(chunks) is None


def test_limits_too_tight_for_a_whole_chunk_are_left_to_each_parser() -> None:
    tight = ParserLimits(arguments_max=2)
    assert TurnParser(tight, 16384).parse([SEEK]) is None
    assert TurnParser(tight, tight.fast_bytes_max).parse([]) == []
