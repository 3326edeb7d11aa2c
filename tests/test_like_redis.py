"""C2: the same bytes to redis-server and to this server: the same replies, the same fate of the connection.

Behind each case stand two PINGs, and the end of what the client sends. So both servers answer all that is
whole and close; one that closed before has no answer to the PINGs.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.harness import launch
from tests.conftest import frame
from tests.proof import scaled, share
from tests.random_frames import case_of
from tests.resp_replies import Reply, read_replies

pytestmark = pytest.mark.proof

CASES = scaled(5_000, 100_000)
PARTS = scaled(5, 100)
FIRST_SEED = int(os.environ.get("KLANI_LIKE_REDIS_SEED", "0"))
LAST = frame("PING", "last") * 2
# As far as Redis goes: its limits of arguments and their lengths are compared, too.
SETTINGS = "arguments_max = 2147483647\nbulk_bytes_max = 536870912\nrequest_bytes_max = 1099511627776\n"


@dataclass(frozen=True)
class Difference:
    """One that is chosen: what either says (type and text) where both say something else, and when."""

    ours: str
    theirs: str
    reason: str
    example: bytes
    behind: str = ""  # a difference that the same case must have shown before

    def explains(self, ours: Reply, theirs: Reply) -> bool:
        return all(
            re.fullmatch(pattern, (one.kind + one.value).decode("latin-1"), re.DOTALL) is not None
            for pattern, one in ((self.ours, ours), (self.theirs, theirs))
        )


@dataclass(frozen=True)
class Silence:
    """Bytes behind which Redis says no more, and this server does."""

    sent: re.Pattern[bytes]
    reason: str
    example: bytes


DIFFERENCES = {
    "version": Difference(
        r"\$7\.4\.0",
        r"\$7\.\d+\.\d+",
        "a fixed one, by which clients choose what they use",
        frame("HELLO"),
    ),
    "HELLO AUTH": Difference(
        r"-ERR (Syntax error in HELLO option|Client names cannot contain) .*",
        r"-WRONGPASS .*",
        "as in Redis 7.4 options are judged before the password is; 7.0 judged each as it came",
        frame("HELLO", "3", "AUTH", "nobody", "x", "NOPE"),
    ),
    "data types": Difference(
        r"-ERR unknown command '\w+'.*",
        r"-ERR wrong number of arguments for '\w+' command|_",
        "there are none of Redis's data types, whose names the cut frames spell at times: SCARD of DISCARD",
        frame("GET"),
    ),
    "HELLO's name": Difference(
        r"_",
        r"\$(me|x{100})",
        "what is refused has changed nothing",
        frame("HELLO", 3, "SETNAME", "me", "NOPE") + frame("CLIENT", "GETNAME"),
    ),
    "arity when queued": Difference(
        r"-ERR wrong number of arguments for 'ping' command",
        r"\+QUEUED",
        "too many arguments are refused when they come, in Redis by EXEC",
        frame("MULTI") + frame("PING", "a", "b"),
    ),
    "EXEC behind it": Difference(
        r"-EXECABORT Transaction discarded because of previous errors\.",
        r"\*",
        "so nothing of it is done, in Redis the rest",
        frame("MULTI") + frame("PING", "a", "b") + frame("EXEC"),
        "arity when queued",
    ),
    "long pattern": Difference(
        r"-ERR a pattern has at most 128 bytes, not \d+",
        r"[*%]",
        "a megabyte of it would stop the others for seconds",
        frame("CONFIG", "GET", "x" * 129),
    ),
}
SILENCES = {
    "NUL": Silence(
        re.compile(rb"\0"),
        "Redis looks for the end of a line as far as a NUL, and then waits for ever",
        b"NO\0PE\r\n",
    ),
    "POST": Silence(
        re.compile(rb"(?i)post|host:"),
        "Redis closes without the replies that it has not sent yet; here these are sent",
        frame("PING") + b"POST / HTTP/1.1\r\n",
    ),
}
# Replies that tell of this server, this connection or this moment: of one shape.
SHAPES = [
    re.compile(pattern, re.DOTALL)
    for pattern in (rb"(txt:)?id=\d+ addr=.*\n", rb"(txt:)?# Server\r\n.*", rb"\d+")
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The unix sockets of this server and of redis-server."""
    base = tmp_path_factory.mktemp("like")
    (base / "settings.toml").write_text(SETTINGS)
    ours, theirs = base / "ours", base / "theirs"
    with contextlib.ExitStack() as stack:
        one = launch.klani(base / "data", "--config", str(base / "settings.toml"), unixsocket=ours)
        stack.callback(one.stop)
        other = launch.redis(base / "redis", "--databases", "1", unixsocket=theirs)
        stack.callback(other.stop)
        yield ours, theirs


def reactions(paths: tuple[Path, Path], chunks: list[bytes]) -> list[bytes]:
    """All that either server says. The chunks go to both by turns, so mostly they arrive one by one."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in paths]
        for one, path in zip(sockets, paths, strict=True):
            one.settimeout(20)
            one.connect(str(path))
        for chunk in (*chunks, LAST):
            for one in sockets:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    one.sendall(chunk)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_WR)
        return [b"".join(received(one)) for one in sockets]


def received(one: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while data := one.recv(65536):
            yield data


def differences(ours: Reply, theirs: Reply, used: Counter[str]) -> Iterator[str]:
    if ours.kind == theirs.kind and len(ours.parts) == len(theirs.parts):
        if ours.parts:
            for one, other in zip(ours.parts, theirs.parts, strict=True):
                yield from differences(one, other, used)
            return
        if ours.value == theirs.value:
            return
        if not ours.is_error and any(
            shape.fullmatch(ours.value) and shape.fullmatch(theirs.value) for shape in SHAPES
        ):
            return
    for name, difference in DIFFERENCES.items():
        if difference.explains(ours, theirs) and (not difference.behind or used[difference.behind]):
            used[name] += 1
            return
    yield f"{ours}, redis-server: {theirs}"


def compare(sent: bytes, ours: bytes, theirs: bytes, used: Counter[str]) -> list[str]:
    one, other = read_replies(ours), read_replies(theirs)
    found = [text for pair in zip(one, other, strict=False) for text in differences(*pair, used)]
    if len(one) > len(other):
        for name, silence in SILENCES.items():
            if silence.sent.search(sent):
                used[name] += 1
                return found
    if len(one) != len(other):
        found.append(f"{len(one)} replies, redis-server: {len(other)}; {one[-3:]} and {other[-3:]}")
    return found


def reacts_alike(paths: tuple[Path, Path], chunks: list[bytes]) -> tuple[list[str], Counter[str]]:
    used: Counter[str] = Counter()
    ours, theirs = reactions(paths, chunks)
    return compare(b"".join(chunks), ours, theirs, used), used


@pytest.mark.parametrize("part", range(PARTS))
def test_random_frames(
    paths: tuple[Path, Path], need: Callable[[str], str], figure: Callable[[str, int], None], part: int
) -> None:
    need("redis-server")
    for seed in share(CASES, part, PARTS):
        chunks = case_of(FIRST_SEED + seed)
        found, _ = reacts_alike(paths, chunks)
        assert not found, (
            f"{found}\n{b''.join(chunks)!r}\nagain: KLANI_LIKE_REDIS_SEED={FIRST_SEED + seed} "
            f"python -m pytest '{__file__}::test_random_frames[0]'"
        )
        figure("C2 cases", 1)


@pytest.mark.parametrize("name", [*DIFFERENCES, *SILENCES])
def test_each_chosen_difference_is_one_still(
    paths: tuple[Path, Path], need: Callable[[str], str], name: str
) -> None:
    need("redis-server")
    example = DIFFERENCES[name].example if name in DIFFERENCES else SILENCES[name].example
    found, used = reacts_alike(paths, [example])
    assert not found
    assert used[name] == 1


PONG, LATE = b"+PONG\r\n", b"-ERR EXEC without MULTI\r\n"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (PONG, b"$4\r\nPONG\r\n"),
        (PONG, b"+PENG\r\n"),
        (PONG, PONG + PONG),
        (PONG + PONG, PONG),
        (b"", PONG),
        (LATE, b"-ERR EXEC with MULTI\r\n"),
        (LATE, b"-EXECABORT EXEC without MULTI\r\n"),
        (LATE, b"*0\r\n"),
        (b"*1\r\n" + PONG, b"*1\r\n" + LATE),
        (b"*1\r\n" + PONG, b"*2\r\n" + PONG + PONG),
        (b"-EXECABORT Transaction discarded because of previous errors.\r\n", b"*0\r\n"),
    ],
)
def test_what_differs_is_found(ours: bytes, theirs: bytes) -> None:
    assert compare(b"", ours, theirs, Counter())
