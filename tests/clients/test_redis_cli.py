"""redis-cli, in each of its ways: one command, a terminal with hints, and the tools that measure."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.terminal import Terminal

if TYPE_CHECKING:
    from bench.harness.launch import Server

Need = Callable[[str], str]
Cli = tuple[str, ...]


@pytest.fixture
def cli(server: Server, seats: Any, need: Need) -> Cli:
    """The program, told nothing but the port."""
    return (need("redis-cli"), "-p", str(server.port))


def run(*command: str, text: str = "", says: str = "") -> str:
    """What it prints; it ends with status 0, and on stderr it says this."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert says in done.stderr if says else done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("protocol", [(), ("-2",), ("-3",)], ids=["as it comes", "RESP2", "RESP3"])
def test_one_shot(cli: Cli, protocol: Cli) -> None:
    cli += protocol
    assert run(*cli, "PING") == "PONG\n"
    assert run(*cli, "KL.INTERSECT", "seats", "rank", "3") == "42\n"
    assert run(*cli, "KL.SEEK", "42").split() == ["rank", "3", "is_booked", "0", "note", "a"]
    assert run(*cli, "KL.SEEK", "43") == "\n"
    assert run(*cli, "KL.SEEK", "x").startswith("ERR invalid row id 'x'")
    assert run(*cli, "KL.TRYLOCK", "77").startswith("NOROW ")
    assert run(*cli, "NOPE", "1").startswith("ERR unknown command 'NOPE', with args beginning with: '1'")
    assert run(*cli, "--no-raw", "KL.SEEK", "43") == "(nil)\n"
    assert "redis_version:7.4.0" in run(*cli, "INFO", "server")


@pytest.mark.parametrize("protocol", [(), ("-2",), ("-3",)], ids=["as it comes", "RESP2", "RESP3"])
def test_json(cli: Cli, protocol: Cli) -> None:
    """`--json` asks for RESP3 by itself, where maps are maps."""
    cli += (*protocol, "--json")
    row = {"rank": 3, "is_booked": 0, "note": "a"}
    flat = ["rank", 3, "is_booked", 0, "note", "a"]
    assert json.loads(run(*cli, "KL.SEEK", "42")) == (flat if protocol == ("-2",) else row)
    assert json.loads(run(*cli, "KL.SEEK", "43")) is None
    assert json.loads(run(*cli, "KL.INTERSECT", "seats", "rank", "3")) == [42]
    assert json.loads(run(*cli, "KL.COUNT", "seats", "rank", "3")) == 1
    described = json.loads(run(*cli, "COMMAND", "DOCS", "KL.SEEK"))
    if protocol != ("-2",):
        assert described["kl.seek"]["summary"]


def test_csv_and_other_forms(cli: Cli) -> None:
    assert run(*cli, "--csv", "KL.SEEK", "42") == '"rank",3,"is_booked",0,"note","a"\n'
    assert run(*cli, "-d", ";", "KL.SEEK", "42") == "rank;3;is_booked;0;note;a\n"
    assert run(*cli, "-r", "3", "-i", "0.01", "KL.COUNT", "seats", "rank", "3") == "1\n" * 3
    assert run(*cli, "-x", "KL.SEEK", text="42").split()[:2] == ["rank", "3"]
    assert json.loads(run(*cli, "--quoted-json", "KL.SEEK", "42"))["note"] == "a"


def test_options_of_the_connection(server: Server, cli: Cli) -> None:
    assert run(*cli, "-n", "0", "PING") == "PONG\n"
    assert run(*cli, "-n", "1", "PING", says="SELECT 1 failed: ERR DB index is out of range") == "PONG\n"
    unset = "AUTH failed: ERR AUTH <password> called without any password configured for the default user"
    assert run(*cli, "-a", "secret", "PING", says=unset) == "PONG\n"
    assert run(*cli, "--no-auth-warning", "--user", "default", "--pass", "any", "PING") == "PONG\n"
    assert run(cli[0], "-u", f"redis://127.0.0.1:{server.port}/0", "PING") == "PONG\n"


def test_minus_e_ends_with_the_error_s_status(cli: Cli) -> None:
    done = subprocess.run((*cli, "-e", "KL.TRYLOCK", "77"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("NOROW ")


def test_the_readme_s_session_from_stdin(server: Server, client: Any, need: Need) -> None:
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


def test_interactive(server: Server, seats: Any, need: Need) -> None:
    """On a terminal it asks COMMAND DOCS, for hints and HELP: a shape that it does not know aborts it."""
    prompt = f"127.0.0.1:{server.port}> ".encode()
    with Terminal(need("redis-cli"), "-p", str(server.port)) as terminal:
        terminal.until(prompt)
        assert b"PONG" in terminal.type("PING", prompt)
        assert b"KL.SEEK key [field [field ...]]" in terminal.type("HELP KL.SEEK", prompt)
        assert b"field value [field value [field value ...]]" in terminal.type("HELP KL.INSERT", prompt)
        assert b"SHUTDOWN [NOSAVE|SAVE] [NOW]" in terminal.type("HELP SHUTDOWN", prompt)
        assert b"[COUNT n|IDS n id [id [id ...]]]" in terminal.type("HELP KL.HOLD", prompt)
        assert b"CLIENT REPLY ON|OFF|SKIP" in terminal.type("HELP CLIENT REPLY", prompt)
        assert b'"rank"' in terminal.type("KL.SEEK 42", prompt)
        assert b"1) (integer) 42" in terminal.type("KL.INTERSECT seats rank 3 LIMIT 5", prompt)
        terminal.type("QUIT", b"")
        assert terminal.ended() == 0


def test_hints_while_typing(server: Server, cli: Cli) -> None:
    """Behind what is typed stands, in grey, what may follow: from COMMAND DOCS, option by option."""
    prompt = f"127.0.0.1:{server.port}> ".encode()
    with Terminal(*cli) as terminal:
        terminal.until(prompt)
        terminal.press("KL.INTERSECT seats ")
        terminal.until(b"field value [field value [field value ...]] [FREE] [AFTER id] [LIMIT n]", b"seats ")
        terminal.press("rank 3 LIMIT ")
        terminal.until(b" n", b"LIMIT ")
        assert b"(integer) 42" in terminal.type("5", prompt)
        terminal.press("KL.CLAIM seats rank 3 SET rank 4 ")
        terminal.until(b"[COUNT n|IDS n id [id [id ...]]]", b"rank 4 ")
        terminal.press("IDS 1 42")
        terminal.type("", prompt)
        terminal.press("CONFIG GET ")
        assert b"unknown" not in terminal.type("save", prompt)


def test_pipe(cli: Cli, seats: Any) -> None:
    requests = "".join(f"KL.INSERT {row} rank 9\r\n" for row in range(1000, 1500))
    assert "errors: 0, replies: 500" in run(*cli, "--pipe", text=requests)
    assert seats.execute_command("KL.COUNT", "seats", "rank", 9) == 500


def test_pipe_counts_errors_and_goes_on(cli: Cli, seats: Any, request_bytes: Callable[..., bytes]) -> None:
    rows = [request_bytes("KL.INSERT", row, "rank", 9) for row in range(2000, 2100)]
    bad = [request_bytes("NOPE"), request_bytes("KL.TRYLOCK", 77)]
    done = subprocess.run(
        (*cli, "--pipe"), input=b"".join(bad + rows), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert b"errors: 2, replies: 102" in done.stdout
    assert b"unknown command 'NOPE'" in done.stderr
    assert seats.execute_command("KL.COUNT", "seats", "rank", 9) == 100


def test_stat(cli: Cli) -> None:
    """A line a second from INFO, for ever: rows, memory, clients, requests and connections so far."""
    with Terminal(*cli, "--stat", "-i", "0.1") as terminal:
        printed = terminal.until(b"(+1)").replace(b"\r", b"").decode()
        assert terminal.interrupt() == -signal.SIGINT
    assert [
        word for word in ("keys", "mem", "clients", "blocked", "requests", "connections") if word in printed
    ]
    rows, memory, clients, blocked, requests = printed.splitlines()[2].split()[:5]
    assert (rows, blocked) == ("1", "0")
    assert memory.endswith("M")
    assert int(clients) >= 1
    assert int(requests) >= 1


def test_latency(cli: Cli) -> None:
    """Into a pipe it measures for a second, prints one line and ends; on a terminal it goes on for ever."""
    least, most, average, count = run(*cli, "--latency", "-i", "1").split()
    assert 0 <= float(least) <= float(average) <= float(most)
    assert int(count) > 10
    with Terminal(*cli, "--latency") as terminal:
        terminal.until(b"samples)")
        assert terminal.interrupt() == -signal.SIGINT
    with Terminal(*cli, "--latency-history", "-i", "0.1") as terminal:
        terminal.until(b"seconds range")
        assert terminal.interrupt() == -signal.SIGINT
    with Terminal(*cli, "--latency-dist", "-i", "0.1") as terminal:
        terminal.until(b"?\x1b[0m")  # the end of its line of colours
        assert terminal.interrupt() == -signal.SIGINT
