"""What a redis-server answers to the same, to the letter; what 7.4 words otherwise than 7.0 apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import redis

from bench.harness import launch
from commands.glob import Glob
from commands.registry import load
from tests.conftest import frame

if TYPE_CHECKING:
    from tests.conftest import Wire

IN_7_4 = {
    b"otherwise the HELLO AUTH": b"otherwise the HELLO <proto> AUTH",
}
END = b"$3\r\nend\r\n"


@pytest.fixture
def real(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Server]:
    need("redis-server")
    running = launch.redis(tmp_path_factory.mktemp("redis") / "data", appendfsync="no")
    yield running
    running.stop()


OPEN = [  # the default user has no password
    b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n",
    frame("AUTH", "default", "x"),
    frame("AUTH", "nobody", "x"),
    frame("AUTH", "a", "b", "c"),
    frame("AUTH"),
    frame("HELLO", 2, "AUTH", "nobody", "x"),
    frame("HELLO", 2, "AUTH", "x"),
    frame("HELLO", 2, "NOPE"),
    frame("ACL"),
    frame("ACL", "NOPE"),
    frame("ACL", "WHOAMI"),
    frame("ACL", "WHOAMI", "x"),
    frame("ACL", "SETUSER"),
    frame("ACL", "SETUSER", "a b"),
    frame("ACL", "DELUSER", "default"),
    frame("ACL", "DELUSER", "nobody"),
    frame("ACL", "GETUSER", "nobody"),
    frame("ACL", "GETUSER", "nobody", "x"),
    frame("ACL", "CAT", "nope"),
    frame("ACL", "GENPASS", 0),
    frame("ACL", "GENPASS", "x"),
    frame("ACL", "GENPASS", 4097),
    frame("ACL", "LOG", "x"),
    frame("ACL", "LOG", "RESET"),
    frame("ACL", "LOG"),
    frame("ACL", "SAVE"),
    frame("ACL", "LOAD"),
    frame("ACL", "USERS"),
    frame("ACL", "LIST"),
    frame("ACL", "DRYRUN", "nobody", "PING"),
    frame("ACL", "DRYRUN", "default", "NOPE"),
    frame("ACL", "DRYRUN", "default", "ECHO"),
    frame("ACL", "DRYRUN", "default", "PING"),
    frame("ACL", "DRYRUN", "default", "CONFIG", "GET"),
    frame("ACL", "DRYRUN", "default", "CONFIG"),
    frame("ACL", "DRYRUN", "default", "CONFIG", "NOPE"),
    *(
        frame("ACL", "SETUSER", "ann", *rules.split())
        for rules in (
            "+nope",
            "+@nope",
            "+config|nope",
            "+config|get|x",
            "zzz",
            "#12",
            "!12",
            "<nope",
            f"!{'0' * 64}",
            "allkeys ~x",
            "allchannels &x",
            "%~x",
            "%X~x",
            "%RR~x",
            "%WR~x",
            "on >secret ~a:* %R~b:* %W~c +@read +config|get",
        )
    ),
    frame("ACL", "SETUSER", "ann", "~a b"),
    frame("ACL", "GETUSER", "ann"),
    frame("ACL", "LIST"),
    frame("AUTH", "ann", "wrong"),
    frame("AUTH", "ann", "secret") + frame("RESET"),
    frame("ACL", "DELUSER", "ann"),
]
LOCKED = [  # it has one
    frame("PING"),
    frame("NOPE"),
    frame("ECHO"),
    frame("HELLO"),
    frame("HELLO", 3),
    frame("HELLO", 3, "AUTH", "default", "x"),
    frame("HELLO", 9),
    frame("MULTI"),
    frame("RESET"),
    frame("QUIT"),
    frame("AUTH", "x"),
    frame("AUTH", "pw") + frame("PING"),
    frame("PING") + frame("AUTH", "pw") + frame("ECHO", "x" * 20_000) + frame("RESET") + frame("PING"),
    frame(*["ECHO"] * 10),
    frame(*["ECHO"] * 11),
    b"*11\r\n",
    b"*2147483647\r\n",
    b"*2147483648\r\n",
    b"*-1\r\n",
    b"*2\r\n$4\r\nECHO\r\n$16384\r\n%b\r\n" % (b"x" * 16384),
    b"*2\r\n$4\r\nECHO\r\n$16385\r\n",
    b"*2\r\n$4\r\nECHO\r\n$-1\r\n",
    b"POST / HTTP/1.1\r\n",
    b"Host: x\r\n",
]


def reaction(wire: Wire, data: bytes) -> tuple[bytes, bool]:
    """What comes up to the answer to ECHO end, or to the connection's end."""
    wire.send_bytes(data + frame("AUTH", "pw") + frame("ECHO", "end"))
    return wire.until(END)


@pytest.mark.parametrize("is_locked", [False, True], ids=["open", "locked"])
def test_answers_are_those_of_redis(
    wire: Callable[..., Wire],
    server: launch.Server,
    real: launch.Server,
    is_locked: bool,
    figure: Callable[..., None],
) -> None:
    with redis.Redis(port=server.port) as ours, redis.Redis(port=real.port) as theirs:
        for client in (ours, theirs):
            client.acl_setuser("root", enabled=True, passwords=["+pw"], commands=["+@all"], keys=["*"])
            client.acl_deluser("root")
            if is_locked:
                client.execute_command("ACL", "SETUSER", "default", ">pw")
        try:
            for data in LOCKED if is_locked else OPEN:
                figure("E1 answers held against redis-server")
                theirs_said, has_ended = reaction(wire(real.port), data)
                for old, new in IN_7_4.items():
                    theirs_said = theirs_said.replace(old, new)
                assert reaction(wire(), data) == (theirs_said, has_ended), data
        finally:
            for client in (ours, theirs):
                client.execute_command("ACL", "SETUSER", "default", "nopass")


def test_patterns_fit_what_they_fit_in_redis(real: launch.Server) -> None:
    rng = random.Random(5)
    keys = {bytes(rng.choices(b"ab-]^\\:", k=rng.randrange(1, 7))) for _ in range(400)}
    with redis.Redis(port=real.port) as client:
        client.mset(dict.fromkeys(keys, 1))
        for _ in range(2_000):
            pattern = bytes(rng.choices(b"ab-]^\\:*?[[", k=rng.randrange(1, 9)))
            glob = Glob(pattern)
            assert {key for key in keys if glob.matches(key)} == set(client.keys(pattern)), pattern
        client.flushdb()


@pytest.mark.parametrize("category", ["keyspace", "hash"])
def test_what_we_share_is_in_redis_s_categories(
    server: launch.Server, real: launch.Server, category: str
) -> None:
    """Users of browsers are usually made with both."""
    with redis.Redis(port=server.port) as ours, redis.Redis(port=real.port) as theirs:
        shared = {one.decode() for one in ours.execute_command("ACL", "CAT", category)}
        there = {one.decode() for one in theirs.execute_command("ACL", "CAT", category)}
        assert shared == {one for one in there if one.partition("|")[0].upper() in load()}
