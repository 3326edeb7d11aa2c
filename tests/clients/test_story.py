"""Every client plays the same story over a real socket, and each reply is judged the same: see story.py.

A client is as it comes, or with the protocol and the decoding that are named.
memtier_benchmark is not among those that Debian 12, PyPI or npm have: test_handshakes.py sends what it sends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.harness import launch
from tests.clients import story
from tests.dropping_proxy import DroppingProxy

ROOT = Path(__file__).resolve().parents[2]
PLAY_SECONDS_MAX = 60
MEMORY = Path("/dev/shm")
OWN = ""  # the tests' own environment, where redis-py 8 has hiredis


@dataclass(frozen=True)
class Played:
    done: dict[str, Any]
    dropped: int


def python(environment: str, module: str, *more: object) -> tuple[str, ...]:
    return (
        environment,
        f"tests.clients.{module}",
        *[one if isinstance(one, str) else json.dumps(one) for one in more],
    )


def redis_py() -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, environment in (("redis-py 8", OWN), ("redis-py 5", "redis-py 5")):
        for kind in ("sync", "async"):
            for protocol in (None, 2, 3):
                for decode in (False, True):
                    options: dict[str, Any] = {"decode_responses": True} if decode else {}
                    options |= {} if protocol is None else {"protocol": protocol}
                    said = "".join(
                        f" {word}" for word in (protocol and f"RESP{protocol}", decode and "decode") if word
                    )
                    yield f"{name} {kind}{said}", python(environment, "play_redis", kind, options)
            often = {"health_check_interval": 0.001}  # seconds: before every few commands
            yield f"{name} {kind} health checks", python(environment, "play_redis", kind, often)
    for environment in ("redis-py 5 with hiredis", "redis-py 8 without hiredis"):
        for kind in ("sync", "async"):
            yield f"{environment} {kind}", python(environment, "play_redis", kind, {"protocol": 3})


PYTHON = dict(redis_py()) | {
    "coredis": python(OWN, "play_coredis"),
    "coredis decode": python(OWN, "play_coredis", {"decode_responses": True}),
    "valkey-glide in Python": python(OWN, "play_glide"),
    "valkey-glide in Python RESP2": python(OWN, "play_glide", "RESP2"),
}
IN_NODE: dict[str, tuple[str, dict[str, Any]]] = {
    "ioredis 5": ("ioredis5", {}),
    "ioredis 6": ("ioredis6", {}),
    "node-redis 5": ("node-redis5", {}),
    "node-redis 5 RESP3": ("node-redis5", {"RESP": 3}),
    "node-redis 6": ("node-redis6", {}),
    "node-redis 6 RESP2": ("node-redis6", {"RESP": 2}),
    "valkey-glide in Node": ("glide", {}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[launch.Server]:
    """In memory where there is such a place: valkey-glide waits 250 ms, a busy disk may take more."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        running = launch.klani(Path(directory) / "data")
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module", params=[*PYTHON, *IN_NODE])
def played(request: pytest.FixtureRequest, server: launch.Server) -> Played:
    """All that one client did, in a process of its own."""
    if request.param in PYTHON:
        environment, module, *options = PYTHON[request.param]
        make: Callable[[str], Path] = request.getfixturevalue("python_with")
        program = [str(make(environment)) if environment else sys.executable, "-m", module]
    else:
        name, chosen = IN_NODE[request.param]
        program = [str(request.getfixturevalue("node")), "tests/clients/node/play.js", name]
        options = [json.dumps(chosen)]
    with redis.Redis(port=server.port) as client, DroppingProxy(server.port, story.DROPS_EVERY) as proxy:
        for table in client.execute_command("KL.TABLES"):
            client.execute_command("KL.DROP", table)
        ended = subprocess.run(
            [*program, str(server.port), *options],
            input=json.dumps(story.job(proxy.port)),
            capture_output=True,
            text=True,
            timeout=PLAY_SECONDS_MAX,
            cwd=ROOT,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert ended.stderr == ""
    return Played(json.loads(ended.stdout.splitlines()[-1]), proxy.dropped)


def test_the_story(played: Played) -> None:
    story.judge(story.STORY, played.done["story"])


@pytest.mark.parametrize("way", ["pipeline", "transaction"])
def test_a_pipeline(played: Played, way: str) -> None:
    story.judge(story.PIPELINE, played.done[way])


def test_a_transaction_that_was_refused_in_its_queue_changes_nothing(played: Played) -> None:
    text = played.done["spoiled"]["error"]
    assert (
        text.startswith("EXECABORT Transaction discarded")
        or "wrong number of arguments for 'kl.seek'" in text
    )
    assert played.done["after"] == [None, "x"]


def test_a_crowd_of_connections_gets_each_row_once(played: Played) -> None:
    done = played.done["crowd"]
    story.judge(story.CROWD_BEGINS, done["begun"])
    rows = story.CROWD_CLIENTS // 2
    assert sorted(done["replies"]) == [[]] * (story.CROWD_CLIENTS - rows) + [[row] for row in range(rows)]


def test_connections_that_end_in_place_of_a_reply_sell_nothing_twice(played: Played) -> None:
    done = played.done["lossy"]
    story.judge(story.LOSSY_BEGINS, done["begun"])
    assert done["replies"] == story.LOST
    assert played.dropped > 0
