"""What is wrong gets one clear error and disturbs nobody else; a connection ends where Redis ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from bench.harness import launch

if TYPE_CHECKING:
    from tests.conftest import Wire

Client = Any  # redis-py does not type execute_command

ROUNDS = 60
RSS_GROWTH_BYTES_MAX = 8 << 20
PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
MULTI = b"*1\r\n$5\r\nMULTI\r\n"
LAST, LAST_ANSWERED = b"*2\r\n$4\r\nPING\r\n$3\r\nend\r\n", b"$3\r\nend\r\n"

# Both servers read these alike: the first words of the errors agree, and whether the connection is closed.
LIKE_REDIS = {
    "unknown command": b"*2\r\n$4\r\nNOPE\r\n$1\r\nx\r\n",
    "unknown inline": b"NOPE x y\r\n",
    "no name": b"*1\r\n$0\r\n\r\n",
    "binary name": b"*1\r\n$3\r\n\x00\r\n\r\n",
    "wrong arity": b"*1\r\n$4\r\nECHO\r\n",
    "unknown subcommand": b"*2\r\n$6\r\nCLIENT\r\n$4\r\nNOPE\r\n",
    "subcommand's arity": b"*2\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n",
    "exec without multi": b"*1\r\n$4\r\nEXEC\r\n",
    "bad database": b"*2\r\n$6\r\nSELECT\r\n$2\r\n99\r\n",
    "protocol 4": b"*2\r\n$5\r\nHELLO\r\n$1\r\n4\r\n",
    "protocol x": b"*2\r\n$5\r\nHELLO\r\n$1\r\nx\r\n",
    "empty array": b"*0\r\n",
    "null array": b"*-1\r\n",
    "empty line": b"\r\n",
    "spaces": b"   \r\n",
    "count is no number": b"*x\r\n",
    "count with a plus": b"*+1\r\n$4\r\nPING\r\n",
    "count with zeros": b"*01\r\n$4\r\nPING\r\n",
    "count beyond all": b"*99999999999\r\n",
    "count is huge": b"*2147483648\r\n",
    "nested array": b"*2\r\n*1\r\n$4\r\nPING\r\n$1\r\nx\r\n",
    "integer argument": b"*2\r\n$4\r\nPING\r\n:1\r\n",
    "simple argument": b"*1\r\n+PING\r\n",
    "null argument": b"*2\r\n$4\r\nPING\r\n$-1\r\n",
    "negative length": b"*1\r\n$-5\r\n",
    "length is no number": b"*1\r\n$x\r\n",
    "length with zeros": b"*1\r\n$04\r\nPING\r\n",
    "length beyond all": b"*1\r\n$99999999999999999999\r\n",
    "length is huge": b"*1\r\n$4294967296\r\n",
    "endless count": b"*" + b"1" * 66_000,
    "endless line": b"x" * 66_000,
    "open quote": b'PING "x\r\n',
    "text behind a quote": b'PING "x"y\r\n',
    "another protocol": b"POST / HTTP/1.1\r\n",
    "another header": b"Host: example\r\n",
    "another protocol in a transaction": MULTI + b"POST / HTTP/1.1\r\n",
    "another header in a transaction": MULTI + b"Host: example\r\n",
    "good then bad": PING + b"*x\r\n",
    "bad then good": b"*x\r\n" + PING,
}


def reaction(wire: Wire, data: bytes) -> tuple[bytes, bool]:
    """What comes up to the answer to a PING behind `data`; whether the connection ends instead."""
    wire.send_bytes(data)
    if b"\n" in data:  # what has no end yet would go on with the PING
        wire.send_bytes(LAST)
    return wire.until(LAST_ANSWERED)


def first_words(replies: bytes) -> list[bytes]:
    return [line.split(b" ")[0] for line in replies.split(b"\r\n") if line.startswith(b"-")]


@pytest.fixture(scope="module")
def disturbed(server: launch.Server) -> Iterator[Client]:
    """A client that was there before, on one connection throughout."""
    with redis.Redis(port=server.port, single_connection_client=True) as client:
        client.execute_command("KL.CREATE", "mine", "SCHEMA", "x", "U8", "INDEX")
        client.execute_command("KL.INSERT", "mine:1", "x", 1)
        client.client_setname("undisturbed")
        yield client


def check_undisturbed(client: Client) -> None:
    assert client.client_getname() == "undisturbed"
    assert client.execute_command("KL.INTERSECT", "mine", "x", 1) == [1]


@pytest.mark.parametrize("name", list(LIKE_REDIS))
def test_one_clear_error(wire: Callable[..., Wire], disturbed: Client, name: str) -> None:
    replies, _ = reaction(wire(), LIKE_REDIS[name])
    errors = [line for line in replies.split(b"\r\n") if line.startswith(b"-")]
    if name in ("empty array", "null array", "empty line", "spaces"):
        assert replies == LAST_ANSWERED
    elif not name.startswith("another "):
        assert len(errors) == 1
        assert b"internal error" not in errors[0]
    check_undisturbed(disturbed)


def test_reactions_are_those_of_redis(
    wire: Callable[..., Wire], need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    need("redis-server")
    redis_server = launch.redis(tmp_path_factory.mktemp("redis") / "data")
    differences: list[str] = []
    try:
        for name, data in LIKE_REDIS.items():
            ours, theirs = reaction(wire(), data), reaction(wire(redis_server.port), data)
            if (first_words(ours[0]), ours[1]) != (first_words(theirs[0]), theirs[1]):
                differences.append(f"{name}: {ours}, redis-server: {theirs}")
    finally:
        redis_server.stop()
    assert differences == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("NOPE",), "ERR unknown command 'NOPE', with args beginning with: "),
        (("nope", "a", "b"), "ERR unknown command 'nope', with args beginning with: 'a' 'b' "),
        (("KL.NOPE", "a\r\nb"), "ERR unknown command 'KL.NOPE', with args beginning with: 'a  b' "),
        (("KL.SEEK",), "ERR wrong number of arguments for 'kl.seek' command"),
        (("KL.INTERSECT", "t", "x"), "ERR wrong number of arguments for 'kl.intersect' command"),
        (("KL.TRYLOCK",), "ERR wrong number of arguments for 'kl.trylock' command"),
        (("KL.REPLACE", "1", "1", "x"), "ERR wrong number of arguments for 'kl.replace' command"),
        (("KL.UNLOCK", "1"), "ERR wrong number of arguments for 'kl.unlock' command"),
        (("KL.TABLES", "x"), "ERR wrong number of arguments for 'kl.tables' command"),
        (("KL.VERIFY", "t", "x"), "ERR wrong number of arguments for 'kl.verify' command"),
        (("KL.INSERT", "1", "x"), "ERR wrong number of arguments for 'kl.insert' command"),
        (("ping", "a", "b"), "ERR wrong number of arguments for 'ping' command"),
        (("CLIENT", "NOPE"), "ERR unknown subcommand 'NOPE'. Try CLIENT HELP."),
        (("CONFIG", "NOPE"), "ERR unknown subcommand 'NOPE'. Try CONFIG HELP."),
        (("CLIENT", "SETNAME"), "ERR wrong number of arguments for 'client|setname' command"),
        (("HELLO", "4"), "NOPROTO unsupported protocol version"),
        (("SELECT", "1"), "ERR DB index is out of range"),
        (("SELECT", "x"), "ERR value is not an integer or out of range"),
        (("KL.SEEK", "nowhere:1"), "ERR unknown table 'nowhere'"),
        (("KL.INTERSECT", "nowhere", "x", "1"), "ERR unknown table 'nowhere'"),
        (("KL.INTERSECT", "mine", "y", "1"), "ERR unknown field 'y'"),
        (("KL.SEEK", "mine:x"), "ERR invalid row id 'x'"),
    ],
)
def test_texts_that_clients_match(
    wire: Callable[..., Wire], disturbed: Client, words: tuple[str, ...], text: str
) -> None:
    assert wire().ask(*words) == f"-{text}\r\n".encode()


def test_refused_texts_are_redis_s_own(
    wire: Callable[..., Wire], need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Commands that both have: the whole line is the same."""
    need("redis-server")
    redis_server = launch.redis(tmp_path_factory.mktemp("redis") / "data")
    try:
        for words in (
            ("NOPE", "x" * 200, "y"),
            ("N" * 300, "y"),
            ("nope", "a\0b", "\x01"),
            ("nope", *["abcdefgh"] * 30),
            ("ECHO",),
            ("PING", "a", "b"),
            ("CLIENT", "NOPE"),
            ("CLIENT", "SETNAME", "a b"),
            ("CLIENT",),
            ("CLIENT", "HELP", "x"),
            ("COMMAND", "GETKEYS", "PING"),
            ("HELLO", "4"),
            ("HELLO", "3", "NOPE"),
            ("HELLO", "03"),
            ("HELLO", "-3"),
            ("HELLO", "9" * 30),
            ("SELECT", "99"),
            ("SELECT", "x"),
            ("SELECT", "00"),
            ("SELECT", "-0"),
            ("SELECT", "-1"),
            ("SELECT", "9" * 30),
            ("SELECT", str(2**31)),
            ("AUTH", "x"),
            ("AUTH", "a", "b"),
            ("EXEC",),
            ("DISCARD",),
        ):
            ours, theirs = wire().ask(*words), wire(redis_server.port).ask(*words)
            assert ours == theirs, words
    finally:
        redis_server.stop()


INLINE = [
    b"NOPE@a",
    b"@NOPE a",
    b"NOPE @a@ b@",
    b"NOPE a@b",
    b"NOPE a@@b @ c",
    b'NOPE "a@b"',
    b"NOPE 'a@b'",
    b'NOPE "a"@b',
    b"NOPE 'a'@b",
    b'NOPE "a"@',
    b'NOPE "a"b@',
    b'NOPE a@"b c"',
    b"NOPE \"\\@\" '\\@'",
    b"@",
]


@pytest.mark.parametrize("space", [bytes([byte]) for byte in b" \t\n\v\f\r"])
def test_words_of_a_line_are_redis_s_own(
    wire: Callable[..., Wire],
    need: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    space: bytes,
) -> None:
    """White space before, in and behind words and quotes: an unknown command's error shows them."""
    need("redis-server")
    redis_server = launch.redis(tmp_path_factory.mktemp("redis") / "data")
    try:
        for template in INLINE:
            line = template.replace(b"@", space) + b"\r\n"
            assert reaction(wire(), line) == reaction(wire(redis_server.port), line), line
    finally:
        redis_server.stop()


def test_numbers_beyond_all_are_refused_not_computed(wire: Callable[..., Wire], disturbed: Client) -> None:
    one = wire()
    for digits in (33, 1000, 500_000):
        number = "9" * digits
        for words in (
            ("KL.SEEK", number),
            ("KL.INTERSECT", "mine", "x", number),
            ("KL.INTERSECT", "mine", "x", 1, "LIMIT", number),
            ("KL.INTERSECT", "mine", "x", 1, "AFTER", number),
            ("KL.TRYLOCK", "mine:1", "PX", number),
            ("KL.UNLOCK", "mine:1", number),
            ("KL.REPLACE", "mine:1", number, "x", 1),
            ("KL.SCAN", "mine", number),
            ("KL.SCAN", "mine", 0, "COUNT", number),
            ("KL.LOCKS", "mine", "LIMIT", number),
            ("KL.CREATE", "t", "SCHEMA", "x", "BYTES", number),
            ("SELECT", number),
            ("HELLO", number),
            ("CLIENT", "LIST", "ID", number),
        ):
            answer = one.ask(*words)
            assert answer.startswith((b"-ERR ", b"-NOPROTO ")), words[:4]
            assert len(answer) < 500
    check_undisturbed(disturbed)


def test_a_pattern_is_no_program(wire: Callable[..., Wire], disturbed: Client) -> None:
    """To compile a megabyte of it took seconds, in which nobody was served."""
    one = wire()
    for words in (("CONFIG", "GET"), ("COMMAND", "LIST", "FILTERBY", "PATTERN")):
        assert one.ask(*words, "*a" * 500_000) == b"-ERR a pattern has at most 128 bytes, not 1000000\r\n"
        assert not one.ask(*words, "*a" * 64).startswith(b"-")
    check_undisturbed(disturbed)


def test_too_many_arguments_and_too_long_ones_end_the_connection(
    wire: Callable[..., Wire], disturbed: Client
) -> None:
    for data, text in (
        (b"*4097\r\n", b"invalid multibulk length"),
        (b"*2\r\n$4\r\nPING\r\n$1048577\r\n", b"invalid bulk length"),
    ):
        assert reaction(wire(), data) == (b"-ERR Protocol error: %b\r\n" % text, True)
    most = wire()
    most.send(*["PING"] * 4096)
    most.expect(b"-ERR wrong number of arguments for 'ping' command\r\n")
    longest = b"x" * (1 << 20)
    most.send("ECHO", longest)
    most.expect(b"$1048576\r\n" + longest + b"\r\n")
    check_undisturbed(disturbed)


def test_a_length_without_end_ends_the_connection(wire: Callable[..., Wire]) -> None:
    one = wire()
    one.send_bytes(b"*1\r\n$" + b"1" * 66_000)
    assert one.until(LAST_ANSWERED) == (b"-ERR Protocol error: too big bulk count string\r\n", True)


def test_a_request_may_come_byte_by_byte_and_many_at_once(
    wire: Callable[..., Wire], request_bytes: Callable[..., bytes]
) -> None:
    one = wire()
    for byte in request_bytes("ECHO", "a\r\nb"):
        one.send_bytes(bytes([byte]))
    one.expect(b"$4\r\na\r\nb\r\n")
    one.send_bytes(request_bytes("ECHO", "x") * 5000 + PING)
    one.expect(b"$1\r\nx\r\n" * 5000 + PONG)


def test_memory_stays_flat(server: launch.Server, wire: Callable[..., Wire], disturbed: Client) -> None:
    def barrage() -> None:
        for data in LIKE_REDIS.values():
            one = wire()
            reaction(one, data)
            one.socket.close()
        cut_short = wire()
        cut_short.send_bytes(b"*3\r\n$4\r\nECHO\r\n$1000000\r\n" + b"x" * 300_000)
        cut_short.socket.close()

    for _ in range(5):
        barrage()
    before = server.rss_bytes()
    for _ in range(ROUNDS):
        barrage()
    assert server.rss_bytes() - before < RSS_GROWTH_BYTES_MAX
    check_undisturbed(disturbed)


def test_headers_that_announce_much_take_no_memory(server: launch.Server, wire: Callable[..., Wire]) -> None:
    before = server.rss_bytes()
    waiting = [wire() for _ in range(100)]
    for one in waiting:
        one.send_bytes(b"*4096\r\n$1048576\r\nx")
    wire().ask("PING")
    assert server.rss_bytes() - before < RSS_GROWTH_BYTES_MAX


def test_what_a_client_does_not_read_costs_no_more_the_more_it_is(
    server: launch.Server, wire: Callable[..., Wire]
) -> None:
    """32 MiB of replies wait. When each further one copied them all, that was 7 s of CPU."""
    before = sum(server.cpu_seconds())
    silent = wire()
    echo = b"*2\r\n$4\r\nECHO\r\n$10000\r\n%b\r\n" % (b"x" * 10_000)
    for _ in range(32):
        silent.send_bytes(echo * 100)
    assert wire().ask("PING") == b"+PONG\r\n"
    silent.socket.close()
    assert sum(server.cpu_seconds()) - before < 2.0
