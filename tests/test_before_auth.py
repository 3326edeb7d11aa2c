"""E1 and E2 on the wire: what little is taken before AUTH, and what is not kept of what is forbidden."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest

from klani_resp.protocol.errors import ProtocolError
from klani_resp.protocol.parser import ParserLimits, RequestParser
from klani_resp.sessions.session import Session
from klani_resp.sometimes import LOG_SECONDS_MIN, Sometimes
from tests.acl_sessions import ask, received, replies, shop, user
from tests.conftest import frame
from tests.in_memory import new_app, new_session

NOAUTH = b"-NOAUTH Authentication required.\r\n"
COUNT, BYTES = 10, 16 << 10  # of arguments before AUTH, and of each


def guest() -> Session:
    return new_session(new_app(requirepass="pw"))


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (frame(*["KL.TRYLOCK"] * (COUNT - 1)), NOAUTH),
        (frame(*["KL.TRYLOCK"] * COUNT), NOAUTH),
        (frame(*["KL.TRYLOCK"] * (COUNT + 1)), b"-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*11\r\n", b"-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*2147483647\r\n", b"-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (frame("KL.SEEK", "x" * (BYTES - 1)), NOAUTH),
        (frame("KL.SEEK", "x" * BYTES), NOAUTH),
        (frame("KL.SEEK", "x" * (BYTES + 1)), b"-ERR Protocol error: unauthenticated bulk length\r\n"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", b"-ERR Protocol error: unauthenticated bulk length\r\n"),
        (b"*1\r\n$-1\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (frame("AUTH", "x" * BYTES)[:-1], b""),
    ],
)
def test_e1_limits_before_auth(data: bytes, reply: bytes, figure: Callable[..., None]) -> None:
    figure("E1 limits before AUTH, at n - 1, n and n + 1")
    session = guest()
    assert received(session, data) == reply
    assert session.closing == reply.startswith(b"-ERR Protocol")


def test_e1_limits_behind_auth_are_the_usual_ones() -> None:
    session = guest()
    assert ask(session, "AUTH", "pw") == "OK"
    assert ask(session, "PING", "x" * (BYTES + 1)) == "x" * (BYTES + 1)
    assert ask(session, *["KL.TRYLOCK"] * (COUNT + 1)).startswith("-ERR invalid row id")
    assert ask(session, "RESET") == "RESET"
    assert received(session, b"*11\r\n") == b"-ERR Protocol error: unauthenticated multibulk length\r\n"


@pytest.mark.parametrize("size", [1, 7, 100, 16_384, 1 << 20])
def test_what_comes_behind_auth_in_one_piece_is_judged_behind_it(size: int) -> None:
    """Clients send AUTH and their first commands at once."""
    session = guest()
    data = b"".join(
        [
            frame("PING"),
            frame("HELLO", 3, "AUTH", "default", "pw"),
            frame("ECHO", "x" * (BYTES + 1)),
            frame("KL.CREATE", "seats", "SCHEMA", *["a", "U8", "b", "U8", "c", "U8", "d", "U8"]),
            b"PING\r\n",
            frame("RESET"),
            frame("PING"),
            frame("AUTH", "pw"),
            frame("PING", "end"),
        ]
    )
    reply = b"".join(received(session, data[at : at + size]) for at in range(0, len(data), size))
    assert reply.startswith(NOAUTH + b"%7\r\n$6\r\nserver\r\n")
    assert reply.endswith(
        b"$%d\r\n%b\r\n+OK\r\n+PONG\r\n+RESET\r\n%b+OK\r\n$3\r\nend\r\n"
        % (BYTES + 1, b"x" * (BYTES + 1), NOAUTH)
    )
    assert session.is_between and not session.more


def test_requests_come_out_one_by_one_however_they_are_cut() -> None:
    rng = random.Random(3)
    requests = [frame(*[b"x" * rng.randrange(40) for _ in range(rng.randrange(1, 9))]) for _ in range(40)]
    requests += [b"PING a\r\n", b"*0\r\n", b"\r\n"]
    for _ in range(300):
        data = b"".join(rng.choices(requests, k=rng.randrange(1, 6)))
        whole = RequestParser(ParserLimits())
        expected = whole.feed(data)
        parser = RequestParser(ParserLimits())
        parser.restrict(ParserLimits(10, 100, 1000, is_before_auth=True), one_by_one=True)
        found = []
        at = 0
        while at < len(data) or parser.has_more:
            piece = b"" if parser.has_more else data[at : at + rng.randrange(1, 60)]
            at += len(piece)
            got = parser.feed(piece)
            assert len(got) <= 1
            found += got
        assert found == expected
        assert parser.is_between


# --- what is forbidden is not kept --------------------------------------------------------------------


def kept_bytes(session: Session) -> int:
    careful = session._parser._careful
    return 0 if careful is None else len(careful._buffer) + sum(map(len, careful._request))


def test_arguments_of_a_forbidden_command_are_not_kept() -> None:
    app, operator = shop()
    session = user(app, operator, "~*", "+@all", "-kl.insert", "-config", "-@admin")
    large = b"x" * 400_000
    for words, told in (
        (("kl.insert", "seats:1", "name", large, large), "kl.insert"),
        (("CONFIG", "SET", "requirepass", large), "config|set"),
        (("KL.DROP", large), "kl.drop"),
        (("kl.backup", large), "kl.backup"),
    ):
        data = frame(*words)
        for at in range(0, len(data), 16_384):
            assert kept_bytes(session) < 20_000
            reply = received(session, data[at : at + 16_384])
        assert reply == b"-NOPERM User ann has no permissions to run the '%b' command\r\n" % told.encode()
    assert session.is_between
    data = frame("KL.TRYLOCK", large)
    assert received(session, data[:300_000]) == b""
    assert kept_bytes(session) > 200_000, "what is allowed is kept"
    assert received(session, data[300_000:]).startswith(b"-ERR invalid row id")


def test_before_auth_nothing_is_kept_of_what_is_forbidden() -> None:
    session = guest()
    data = frame("KL.TRYLOCK", *["x" * BYTES] * 9)
    for at in range(0, len(data), 1000):
        assert kept_bytes(session) < 2_000
        reply = received(session, data[at : at + 1000])
    assert reply == NOAUTH


def test_a_wrong_arity_is_told_first_as_in_redis() -> None:
    app, operator = shop()
    session = user(app, operator, "+ping")
    for one in (session, guest()):
        assert ask(one, "KL.SEEK") == "-ERR wrong number of arguments for 'kl.seek' command"
        assert ask(one, "NOPE", "x") == "-ERR unknown command 'NOPE', with args beginning with: 'x' "
    data = frame("KL.TABLES", "x" * 20_000)
    assert received(session, data[:10]) + received(session, data[10:]) == (
        b"-ERR wrong number of arguments for 'kl.tables' command\r\n"
    )


def test_limits_hold_for_what_is_not_kept() -> None:
    parser = RequestParser(ParserLimits(10, 100, 150))
    parser.restrict(ParserLimits(10, 100, 150), frozenset((b"DROP",)))
    for data in (b"*2\r\n$4\r\ndrop\r\n$101\r\n", b"*3\r\n$4\r\ndrop\r\n$90\r\n%b\r\n$90\r\n" % (b"x" * 90)):
        one = RequestParser(ParserLimits(10, 100, 150))
        one.restrict(ParserLimits(10, 100, 150), frozenset((b"DROP",)))
        assert one.feed(data) == []
        assert isinstance(one.error, ProtocolError) and one.error.text == "invalid bulk length"
    assert parser.feed(b"*3\r\n$4\r\ndrop\r\n$70\r\n%b\r\n$3\r\nabc" % (b"x" * 70)) == []
    assert parser.feed(b"\r") == []
    assert parser.feed(b"\n*1\r\n$4\r\nPING\r\n") == [[b"drop", b"", b""], [b"PING"]]


def test_little_may_wait_for_a_guest() -> None:
    session = guest()
    assert session.output_bytes_max == 64 << 10
    assert ask(session, "AUTH", "pw") == "OK"
    assert session.output_bytes_max == 64 << 20


# --- E2: other protocols on the plain port ------------------------------------------------------------

FOREIGN = {
    "POST": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "post": b"post / HTTP/1.1\r\n",
    "GET with Host:": b"GET / HTTP/1.1\r\nHost: localhost:7700\r\nX: y\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)),
}


@pytest.mark.parametrize("name", list(FOREIGN))
@pytest.mark.parametrize("is_guest", [False, True])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_e2_another_protocol_is_cut_off(
    name: str, is_guest: bool, size: int, figure: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    figure("E2 other protocols on the plain port")
    app = new_app(requirepass="pw" if is_guest else "")
    data = FOREIGN[name]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            session = new_session(app)
            reply = b"".join(received(session, data[at : at + size]) for at in range(0, len(data), size))
            assert session.closing
            assert reply == b"" or name == "GET with Host:", "nothing that could be taken for an answer"
            assert b"HTTP" not in reply.replace(b"'/' 'HTTP/1.1'", b"")
    (line,) = caplog.messages
    assert line.startswith("client 1 at ") and ("speaks TLS" if "TLS" in name else "speaks HTTP") in line


def test_a_command_in_a_transaction_can_be_another_protocol_too() -> None:
    session = new_session(new_app())
    assert replies(session, b"MULTI\r\n") == ["OK"]
    assert received(session, b"\x16\x03\x03") == b""
    assert session.closing


def test_what_is_said_sometimes(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    sometimes = Sometimes(clock=lambda: now)
    log = logging.getLogger("klani_resp")
    for now in (0.0, 1.0, LOG_SECONDS_MIN - 1, LOG_SECONDS_MIN, LOG_SECONDS_MIN + 1, 2 * LOG_SECONDS_MIN):
        sometimes.warn(log, "at %g", now)
    assert caplog.messages == ["at 0", "at 60 (and 2 others before it)", "at 120 (and 1 others before it)"]
