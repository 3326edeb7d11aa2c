"""MULTI, EXEC and DISCARD: what is queued takes effect as one."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
import redis

from bench.harness import launch

if TYPE_CHECKING:
    from bench.harness.launch import Server
    from tests.conftest import Wire

Client = Any  # redis-py does not type execute_command

Ask = Callable[..., Any]
ROUNDS = 200
NO_MULTI = "ERR Command not allowed inside a transaction"
ABORTED = "EXECABORT Transaction discarded because of previous errors."


@pytest.fixture
def seats(client: Client) -> Ask:
    ask: Ask = client.execute_command
    ask("KL.CREATE", "seats", "SCHEMA", "x", "U32", "INDEX")
    for row in (1, 2):
        ask("KL.INSERT", row, "x", 0)
    return ask


def queue(wire: Wire, *commands: tuple[Any, ...]) -> None:
    assert wire.ask("MULTI") == b"+OK\r\n"
    for words in commands:
        assert wire.ask(*words) == b"+QUEUED\r\n"


def test_exec_answers_each_in_order(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(
        one,
        ("KL.INSERT", 3, "x", 5),
        ("KL.INTERSECT", "seats", "x", 5),
        ("KL.SEEK", 3),
        ("KL.SEEK", 4),
        ("PING",),
    )
    assert seats("KL.SEEK", 3) is None, "nothing is done before EXEC"
    one.send("EXEC")
    one.expect(b"*5\r\n:1\r\n*1\r\n:3\r\n*2\r\n$1\r\nx\r\n:5\r\n$-1\r\n+PONG\r\n")
    assert one.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"
    queue(one)
    one.send("EXEC")
    one.expect(b"*0\r\n")


def test_exec_speaks_the_connection_s_protocol(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    one.send("HELLO", 3)
    one.until(b"modules\r\n*0\r\n")
    queue(one, ("KL.SEEK", 1), ("KL.SEEK", 4))
    one.send("EXEC")
    one.expect(b"*2\r\n%1\r\n$1\r\nx\r\n:0\r\n_\r\n")


def test_a_refusal_does_not_stop_the_others(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(
        one,
        ("KL.INSERT", 3, "x", 5),
        ("KL.INSERT", 3, "x", 6),
        ("KL.REPLACE", 1, 999, "x", 6),
        ("KL.SEEK", "nowhere:1"),
        ("KL.INSERT", 4, "x", 5),
    )
    one.send("EXEC")
    one.expect(b"*5\r\n:1\r\n-EXISTS ")
    one.line()
    one.expect(b"-NOLOCK ")
    one.line()
    one.expect(b"-ERR unknown table 'nowhere'\r\n:1\r\n")
    assert seats("KL.INTERSECT", "seats", "x", 5) == [3, 4]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("NOPE", "x"), "ERR unknown command 'NOPE', with args beginning with: 'x' "),
        (("KL.SEEK",), "ERR wrong number of arguments for 'kl.seek' command"),
        (("KL.VERIFY", "seats", "x", 1), NO_MULTI),
    ],
)
def test_what_cannot_be_queued_aborts(
    wire: Callable[..., Wire], seats: Ask, words: tuple[Any, ...], error: str
) -> None:
    one = wire()
    queue(one, ("KL.INSERT", 3, "x", 5))
    assert one.ask(*words) == f"-{error}\r\n".encode()
    assert one.ask("KL.INSERT", 4, "x", 5) == b"+QUEUED\r\n"
    assert one.ask("EXEC") == f"-{ABORTED}\r\n".encode()
    assert seats("KL.INTERSECT", "seats", "x", 5) == []
    assert one.ask("PING") == b"+PONG\r\n", "the connection goes on, outside of MULTI"


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], int]]:
    """The port of a real redis-server, which is started when it is first asked for."""
    running: list[Server] = []

    def port() -> int:
        if not running:
            running.append(launch.redis(tmp_path_factory.mktemp("redis")))
        return running[0].port

    yield port
    for one in running:
        one.stop()


@pytest.mark.parametrize(
    "words",
    [
        ("EXEC", "x"),
        ("DISCARD", "x"),
        ("MULTI", "x"),
        ("MULTI",),
        ("RESET", "x"),
        ("WATCH",),
        ("WATCH", "x"),
        ("UNWATCH", "x"),
        ("NOPE", "x"),
        ("CLIENT",),
        ("CLIENT", "NOPE"),
        ("CLIENT", "a\r\nb"),
        ("CLIENT", "SETNAME"),
        ("client", "getname", "x"),
        ("CLIENT", "HELP", "x"),
        ("CONFIG", "NOPE"),
        ("CONFIG", "GET"),
        ("CONFIG", "SET", "x"),
        ("COMMAND", "NOPE"),
        ("COMMAND", "GETKEYS", "PING"),
        ("CLIENT", "ID"),
        ("CONFIG", "SET", "x", "y", "z"),
        ("COMMAND",),
    ],
    ids=" ".join,
)
def test_a_transaction_ends_as_in_redis(
    wire: Callable[..., Wire],
    need: Callable[[str], str],
    redis_port: Callable[[], int],
    words: tuple[str, ...],
) -> None:
    """Refused or queued, spoiled or not: to the letter. EXEC's own reply by its first line."""
    need("redis-server")
    ours, theirs = wire(), wire(redis_port())
    for asked in (("MULTI",), ("PING",), words, ("PING",), ("EXEC",)):
        assert ours.ask(*asked) == theirs.ask(*asked), asked


@pytest.mark.parametrize(
    "words",
    [("EXEC", "x"), ("DISCARD", "x"), ("MULTI", "x"), ("WATCH",), ("CLIENT", "SETNAME")],
    ids=" ".join,
)
def test_and_without_one_too(
    wire: Callable[..., Wire],
    need: Callable[[str], str],
    redis_port: Callable[[], int],
    words: tuple[str, ...],
) -> None:
    need("redis-server")
    ours, theirs = wire(), wire(redis_port())
    for asked in (words, ("EXEC",), ("PING",)):
        assert ours.ask(*asked) == theirs.ask(*asked), asked


def test_a_spoiled_exec_ends_it_at_once(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(one, ("KL.INSERT", 3, "x", 5))
    assert one.ask("EXEC", "x").startswith(b"-EXECABORT Transaction discarded because of: wrong number")
    assert one.ask("PING") == b"+PONG\r\n"
    assert one.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert seats("KL.SEEK", 3) is None


def test_discard_forgets(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(one, ("KL.INSERT", 3, "x", 5))
    assert one.ask("DISCARD") == b"+OK\r\n"
    assert one.ask("DISCARD") == b"-ERR DISCARD without MULTI\r\n"
    assert one.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"
    queue(one, ("KL.INSERT", 3, "x", 5))
    assert one.ask("NOPE").startswith(b"-ERR unknown command")
    assert one.ask("DISCARD") == b"+OK\r\n"
    queue(one, ("PING",))
    one.send("EXEC")
    one.expect(b"*1\r\n+PONG\r\n")
    queue(one, ("KL.INSERT", 3, "x", 5))
    assert one.ask("RESET") == b"+RESET\r\n"
    assert one.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert seats("KL.SEEK", 3) is None


def test_multi_is_not_nested_and_does_not_begin_to_watch(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(one, ("KL.INSERT", 3, "x", 5))
    assert one.ask("MULTI") == b"-ERR MULTI calls can not be nested\r\n"
    assert one.ask("WATCH", 1) == b"-ERR WATCH inside MULTI is not allowed\r\n"
    assert one.ask("EXEC") == b"*1\r\n"
    one.expect(b":1\r\n")


def test_a_connection_that_ends_takes_its_queue_along(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(one, ("KL.INSERT", 3, "x", 5))
    one.socket.close()
    assert seats("KL.SEEK", 3) is None


def test_tables_can_be_made_and_dropped_inside(wire: Callable[..., Wire], seats: Ask) -> None:
    one = wire()
    queue(
        one,
        ("KL.CREATE", "t", "SCHEMA", "x", "U8", "INDEX"),
        ("KL.INSERT", "t:1", "x", 1),
        ("KL.COUNT", "t", "x", 1),
        ("KL.DROP", "t"),
        ("KL.COUNT", "t", "x", 1),
    )
    one.send("EXEC")
    one.expect(b"*5\r\n+OK\r\n:1\r\n:1\r\n:1\r\n-ERR unknown table 't'\r\n")


def test_nobody_sees_half_of_it(seats: Ask, connect: Callable[..., Client]) -> None:
    """A writer puts one value into both rows; a reader of both always sees them equal."""
    done = Event()
    failures: list[str] = []

    def read() -> None:
        reader = connect()
        while not done.is_set():
            with reader.pipeline() as both:
                both.execute_command("KL.SEEK", 1)
                both.execute_command("KL.SEEK", 2)
                first, second = both.execute()
            if first != second:
                failures.append(f"{first} {second}")

    thread = Thread(target=read)
    thread.start()
    try:
        token = seats("KL.TRYLOCK", 1, 2, "PX", 60_000)
        writer = connect()
        for value in range(1, ROUNDS):
            with writer.pipeline() as both:
                both.execute_command("KL.REPLACE", 1, token, "x", value)
                both.execute_command("KL.REPLACE", 2, token, "x", value)
                assert both.execute() == [b"OK", b"OK"]
    finally:
        done.set()
        thread.join()
    assert failures == []


def test_one_frame_survives_a_kill_whole(start: Callable[..., Server], wire: Callable[..., Wire]) -> None:
    """Sent and killed at once: all of each transaction is there after it, or nothing."""
    rows = range(200)
    running = start()
    with redis.Redis(port=running.port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "x", "U32", "INDEX")
    killed = wire(running.port)
    for group in range(5):
        if group == 2:
            killed.expect((b"+OK\r\n" + b"+QUEUED\r\n" * 200 + b"*200\r\n" + b":1\r\n" * 200) * 2)
        killed.send("MULTI")
        for row in rows:
            killed.send("KL.INSERT", group * len(rows) + row, "x", group)
        killed.send("EXEC")
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    again = start()
    with redis.Redis(port=again.port) as client:
        counts = [client.execute_command("KL.COUNT", "seats", "x", group) for group in range(5)]
        assert counts[:2] == [200, 200]
        assert set(counts) <= {0, 200}
        verdict = client.execute_command("KL.VERIFY", "seats", "x", 0)
        assert verdict[b"ok"] == 1


def test_one_connection_s_commands_are_answered_in_order_long_work_among_them(
    wire: Callable[..., Wire], seats: Ask, request_bytes: Callable[..., bytes]
) -> None:
    """A job in the middle does not let later replies overtake it, even when no more will be sent."""
    one = wire()
    verify = request_bytes("KL.VERIFY", "seats", "x", 0)
    counted = (
        (b"rows", 2),
        (b"matched", 2),
        (b"log_matched", 2),
        (b"index_matched", 2),
        (b"corrupt", 0),
        (b"ok", 1),
    )
    verdict = b"*12\r\n" + b"".join(
        b"$%d\r\n%b\r\n:%d\r\n" % (len(name), name, count) for name, count in counted
    )
    insert = request_bytes("KL.INSERT", 3, "x", 5)
    ping = request_bytes("PING")
    one.send_bytes(ping + verify + insert + ping + verify.replace(b"\r\n0\r\n", b"\r\n9\r\n") + ping)
    one.socket.shutdown(socket.SHUT_WR)
    one.expect(b"+PONG\r\n" + verdict + b":1\r\n+PONG\r\n*12\r\n$4\r\nrows\r\n:3\r\n")
    replies, ended = one.until(b"+PONG\r\n")
    assert not ended
    assert replies.endswith(b"$2\r\nok\r\n:1\r\n+PONG\r\n")
    assert one.receive(1) == b""
