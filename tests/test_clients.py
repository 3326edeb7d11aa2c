"""Stock clients as they come: redis-py, coredis on trio, redis-cli, redis-benchmark."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import coredis
import pytest
import redis
import redis.asyncio
from coredis.response._callbacks import NoopCallback
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from bench.launch import Server

Client = Any  # redis-py does not type execute_command

Need = Callable[[str], str]
ROW = {"rank": 3, "is_booked": 0, "note": "a"}


@pytest.fixture
def seats(client: Client) -> Client:
    client.execute_command(
        "KL.CREATE", "seats", "SCHEMA", "rank", "U32", "INDEX", "is_booked", "U8", "INDEX", "note", "BYTES", 8
    )
    client.execute_command("KL.INSERT", 42, "rank", 3, "note", "a")
    return client


# --- redis-py -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_redis_py_sells_a_seat(
    seats: Client,
    connect: Callable[..., Client],
    as_map: Callable[[Any], dict[Any, Any]],
    protocol: int | None,
    decode: bool,
) -> None:
    chosen = {} if protocol is None else {"protocol": protocol}
    ask = connect(decode_responses=decode, **chosen).execute_command

    def text(word: str) -> str | bytes:
        return word if decode else word.encode()

    assert ask("KL.INTERSECT", "seats", "is_booked", 0, "rank", 3) == [42]
    token = ask("KL.TRYLOCK", 42)
    assert ask("KL.TRYLOCK", 42) is None
    row = ask("KL.SEEK", 42)
    assert isinstance(row, list if protocol == 2 else dict)
    assert as_map(row) == {
        text(name): text(value) if isinstance(value, str) else value for name, value in ROW.items()
    }
    assert ask("KL.REPLACE", 42, token, "is_booked", 1, "UNLOCK") == text("OK")
    assert ask("KL.INTERSECT", "seats", "is_booked", 0) == []
    assert ask("KL.SEEK", 43) is None


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_pipelines(
    seats: Client, connect: Callable[..., Client], protocol: int, transaction: bool
) -> None:
    client = connect(protocol=protocol)
    with client.pipeline(transaction=transaction) as pipeline:
        for row in range(100):
            pipeline.execute_command("KL.INSERT", row + 100, "rank", 5)
        pipeline.execute_command("KL.COUNT", "seats", "rank", 5)
        pipeline.execute_command("KL.TRYLOCK", 42)
        pipeline.execute_command("KL.TRYLOCK", 42)
        replies = pipeline.execute()
    assert replies[:101] == [1] * 100 + [100]
    assert replies[101] > 0
    assert replies[102] is None
    with client.pipeline(transaction=transaction) as pipeline:
        pipeline.execute_command("KL.REPLACE", 42, 0, "rank", 4)
        pipeline.execute_command("KL.INSERT", 300, "rank", 6)
        first, second = pipeline.execute(raise_on_error=False)
    assert isinstance(first, redis.ResponseError)
    assert str(first).startswith("NOLOCK ")
    assert second == 1


def test_redis_py_s_own_methods(seats: Client) -> None:
    assert seats.ping() is True
    assert seats.echo("x") == b"x"
    assert seats.dbsize() == 1
    assert seats.info()["redis_version"] == "7.4.0"
    assert seats.info("replication")["role"] == "master"
    assert seats.config_get("appendfsync") == {"appendfsync": "always"}
    assert seats.client_id() > 0
    assert seats.client_setname("shop")
    assert "shop" in [one["name"] for one in seats.client_list()]
    assert "kl.seek" in seats.command()
    assert seats.command_count() == len(seats.command())
    assert seats.time()[0] > 1_700_000_000
    seats.select(0)


def test_redis_py_resends_nothing_on_its_own_for_our_errors(
    seats: Client, connect: Callable[..., Client]
) -> None:
    client = connect(retry=Retry(NoBackoff(), 3))
    before = seats.info("stats")["total_commands_processed"]
    with pytest.raises(redis.ResponseError, match=r"^NOROW "):
        client.execute_command("KL.TRYLOCK", 77)
    sent_at_connect, sent, asked = 4, 1, 1
    assert seats.info("stats")["total_commands_processed"] - before <= sent_at_connect + sent + asked


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_asyncio(server: Server, seats: Client, protocol: int) -> None:
    async def lock(client: Client) -> int | None:
        token: int | None = await client.execute_command("KL.TRYLOCK", 42)
        return token

    async def fight() -> list[int | None]:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol) as client:
            async with client.pipeline() as pipeline:
                pipeline.execute_command("KL.SEEK", 42, "rank")
                (row,) = await pipeline.execute()
            assert row in ([b"rank", 3], {b"rank": 3})
            return await asyncio.gather(*[lock(client) for _ in range(20)])

    tokens = [token for token in asyncio.run(fight()) if token is not None]
    assert len(tokens) == 1


async def test_coredis_on_trio(server: Server, seats: Client) -> None:
    async with coredis.Redis(port=server.port, decode_responses=True) as client:
        assert await client.ping() == "PONG"
        callback: NoopCallback[Any] = NoopCallback()
        assert await client.create_request(b"KL.INTERSECT", "seats", "rank", 3, callback=callback) == [42]
        assert await client.create_request(b"KL.SEEK", 42, callback=callback) == ROW
        assert await client.create_request(b"KL.SEEK", 43, callback=callback) is None


# --- redis-cli ----------------------------------------------------------------------------------------


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", [(), ("-3",)])
def test_redis_cli_one_shot(server: Server, seats: Client, need: Need, protocol: tuple[str, ...]) -> None:
    cli = (need("redis-cli"), "-p", str(server.port), *protocol)
    assert run(*cli, "PING") == "PONG\n"
    assert run(*cli, "KL.INTERSECT", "seats", "rank", "3") == "42\n"
    assert run(*cli, "KL.SEEK", "42").split() == ["rank", "3", "is_booked", "0", "note", "a"]
    assert run(*cli, "KL.SEEK", "43") == "\n"
    assert "rank 4 out" not in run(*cli, "KL.SEEK", "x")
    assert run(*cli, "KL.TRYLOCK", "77").startswith("NOROW ")
    assert run(*cli, "--no-raw", "KL.SEEK", "43") == "(nil)\n"
    assert "redis_version:7.4.0" in run(*cli, "INFO", "server")


def test_redis_cli_reads_the_readme_s_session_from_stdin(server: Server, client: Client, need: Need) -> None:
    session = """KL.CREATE seats SCHEMA rank U32 INDEX is_booked U8 INDEX buyer U32
        KL.INSERT 42 rank 3
        KL.INTERSECT seats is_booked 0 rank 3
        KL.TRYLOCK 42
        """
    cli = (need("redis-cli"), "-p", str(server.port))
    created, inserted, found, token = run(*cli, text=session).split()
    assert (created, inserted, found) == ("OK", "1", "42")
    sale = (
        f'kl.replace 42 {token} is_booked 1 buyer "7" unlock\nKL.SEEK 42\nKL.VERIFY seats is_booked 1\nNOPE\n'
    )
    printed = run(*cli, text=sale)
    assert printed.split()[:7] == ["OK", "rank", "3", "is_booked", "1", "buyer", "7"]
    assert "ok\n1\n" in printed
    assert "unknown command 'NOPE'" in printed


class Terminal:
    """A program on a terminal of its own, as a person has it."""

    def __init__(self, *command: str) -> None:
        self._fd, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "TERM": "xterm", "HOME": os.devnull},
            start_new_session=True,
        )
        os.close(inside)

    def until(self, end: bytes, start: bytes = b"") -> bytes:
        """What is printed behind `start`, up to `end` at least; without colours and cursor movements."""
        got = b""
        while end not in (got.partition(start)[2] if start else got):
            assert select.select([self._fd], [], [], 20)[0], got
            got += os.read(self._fd, 65536)
        return re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", got)

    def type(self, line: str, prompt: bytes) -> bytes:
        """What is printed behind the typed line. What is typed before the next prompt may get lost."""
        os.write(self._fd, line.encode() + b"\r")
        return self.until(prompt, b"\r\n")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def ended(self) -> int:
        return self._process.wait(timeout=20)


def test_redis_cli_interactive(server: Server, seats: Client, need: Need) -> None:
    """On a terminal it asks COMMAND DOCS, for hints and HELP: a shape that it does not know aborts it."""
    prompt = f"127.0.0.1:{server.port}> ".encode()
    with Terminal(need("redis-cli"), "-p", str(server.port)) as terminal:
        terminal.until(prompt)
        assert b"PONG" in terminal.type("PING", prompt)
        assert b"KL.SEEK key [field [field ...]]" in terminal.type("HELP KL.SEEK", prompt)
        assert b"field value [field value [field value ...]]" in terminal.type("HELP KL.INSERT", prompt)
        assert b'"rank"' in terminal.type("KL.SEEK 42", prompt)
        assert b"1) (integer) 42" in terminal.type("KL.INTERSECT seats rank 3 LIMIT 5", prompt)
        terminal.type("QUIT", b"")
        assert terminal.ended() == 0


def test_redis_cli_s_tools(server: Server, seats: Client, need: Need) -> None:
    cli = (need("redis-cli"), "-p", str(server.port))
    requests = "".join(f"KL.INSERT {row} rank 9\r\n" for row in range(1000, 1500))
    printed = run(*cli, "--pipe", text=requests)
    assert "errors: 0, replies: 500" in printed
    assert seats.execute_command("KL.COUNT", "seats", "rank", 9) == 500


# --- redis-benchmark ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "load",
    [
        ("-t", "ping"),
        ("-t", "ping", "-P", "16"),
        ("-r", "1000", "KL.SEEK", "__rand_int__"),
        ("-r", "1000", "-P", "8", "KL.INSERT", "bench:__rand_int__", "x", "9"),
        ("-3", "-r", "1000", "KL.SEEK", "seats:__rand_int__", "rank"),
    ],
)
def test_redis_benchmark(server: Server, seats: Client, need: Need, load: tuple[str, ...]) -> None:
    seats.execute_command("KL.CREATE", "bench", "SCHEMA", "x", "U8")
    benchmark = (need("redis-benchmark"), "-p", str(server.port), "-c", "20", "-n", "2000", "--csv")
    printed = run(*benchmark, *load)
    assert "rror" not in printed
    assert len(printed.splitlines()) >= 2
    assert seats.ping()
