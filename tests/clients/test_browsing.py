"""What browsers and monitors ask beyond their first questions: keys, their types and sizes, slow commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import hiredis
import pytest
import redis

from tests.clients.talk import Talk
from tests.clients.terminal import Terminal

if TYPE_CHECKING:
    from bench.harness.launch import Server

Need = Callable[[str], str]
Cli = tuple[str, ...]
ROWS = 50


@pytest.fixture
def hall(seats: Any) -> Any:
    """Two tables: `seats` with row 42, and `hall` with 50 rows."""
    seats.execute_command("KL.CREATE", "hall", "SCHEMA", "rank", "U32", "INDEX")
    for row in range(ROWS):
        seats.execute_command("KL.INSERT", f"hall:{row}", "rank", 1)
    return seats


@pytest.fixture
def cli(server: Server, hall: Any, need: Need) -> Cli:
    return (need("redis-cli"), "-p", str(server.port))


KEYS = {"seats:42"} | {f"hall:{row}" for row in range(ROWS)}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


# --- redis-cli ----------------------------------------------------------------------------------------


def test_scan(cli: Cli) -> None:
    """SCAN <cursor>, with `--pattern` MATCH; keys as KL.SEEK takes them."""
    assert set(run(*cli, "--scan").split()) == KEYS
    assert set(run(*cli, "--scan", "--pattern", "seats:*").split()) == {"seats:42"}


def test_bigkeys(cli: Cli) -> None:
    """DBSIZE, SCAN, TYPE of each key. Of a type that it does not know it asks no size."""
    printed = run(*cli, "--bigkeys")
    assert f"Sampled {len(KEYS)} keys in the keyspace!" in printed
    assert "summary" in printed


def test_memkeys(cli: Cli) -> None:
    """DBSIZE, SCAN, TYPE, MEMORY USAGE of each key: an integer."""
    printed = run(*cli, "--memkeys")
    assert f"Sampled {len(KEYS)} keys in the keyspace!" in printed
    assert re.search(r"Biggest +\S+ found .* has \d+ bytes", printed)


def test_hotkeys_says_that_there_are_no_frequencies(cli: Cli) -> None:
    """DBSIZE, SCAN, OBJECT FREQ of each key: Redis's own refusal without an LFU policy."""
    done = subprocess.run((*cli, "--hotkeys"), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "An LFU maxmemory policy is not selected" in done.stdout + done.stderr


def test_monitor(cli: Cli, hall: Any) -> None:
    """OK, then a line for each command of the other connections: time, database, address, quoted words."""
    with Terminal(*cli, "MONITOR") as terminal:
        terminal.until(b"OK")
        hall.execute_command("KL.SEEK", 42)
        printed = terminal.until(b'"42"')
    assert re.search(rb'\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "KL\.SEEK" "42"', printed)


# --- redis_exporter -----------------------------------------------------------------------------------


def test_redis_exporter_s_scrape(talk: Talk) -> None:
    """SLOWLOG, LATENCY and INFO's command statistics; RESP2."""
    length, last, latest, histogram, info = talk(
        "SLOWLOG LEN", "SLOWLOG GET 1", "LATENCY LATEST", "LATENCY HISTOGRAM", "INFO ALL"
    )
    assert type(length) is int
    assert isinstance(last, list)
    for number, at, micros, words, *_ in last:
        assert all(type(one) is int for one in (number, at, micros))
        assert all(isinstance(word, bytes) for word in words)
    assert isinstance(latest, list)
    for event, at, last_ms, most_ms, *_ in latest:
        assert isinstance(event, bytes)
        assert all(type(one) is int for one in (at, last_ms, most_ms))
    # flat: name, ["calls", n, "histogram_usec", [microseconds, how many, ...]], ...
    assert isinstance(histogram, list)
    assert len(histogram) % 2 == 0
    for name, details in zip(histogram[::2], histogram[1::2], strict=True):
        assert isinstance(name, bytes)
        assert details[0] == b"calls"
        assert type(details[1]) is int
        assert details[2] == b"histogram_usec"
        assert all(type(one) is int for one in details[3])
        within = details[3][1::2]
        assert within == sorted(within)
        assert within[-1] == details[1], "cumulative, as Prometheus wants it"
    lines = info.decode().split("\r\n")
    assert "# Commandstats" in lines
    statistics = [line for line in lines if line.startswith("cmdstat_")]
    fields = r"calls=\d+,usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=\d+,failed_calls=\d+"
    assert statistics
    assert all(re.fullmatch(rf"cmdstat_[a-z.|-]+:{fields}", line) for line in statistics)
    assert any(line.startswith("cmdstat_kl.insert:") for line in statistics)


# --- RedisInsight -------------------------------------------------------------------------------------


def scanned(talk: Talk, *options: str) -> set[str]:
    found: set[str] = set()
    cursor = b"0"
    for _ in range(100):
        ((cursor, keys),) = talk(" ".join(("scan", cursor.decode(), *options)))
        found |= {key.decode() for key in keys}
        if cursor == b"0":
            return found
    raise AssertionError("it does not end")


def test_redisinsight_s_browser(talk: Talk, hall: Any) -> None:
    """Its list of keys: the size of each, its type, its time to live; it shows an error as none."""
    (total,) = talk("dbsize")
    assert total == len(KEYS)
    assert scanned(talk, "MATCH", "*", "COUNT", "500") == KEYS
    assert scanned(talk, "MATCH", "seats:*", "COUNT", "500") == {"seats:42"}
    (size, kind) = talk("memory usage seats:42 samples 0", "type seats:42")
    assert type(size) is int
    assert size > 0
    assert kind not in (b"none", "none")
    assert scanned(talk, "MATCH", "*", "COUNT", "500", "TYPE", kind.decode()) == KEYS
    assert scanned(talk, "MATCH", "*", "COUNT", "500", "TYPE", "string") == set()
    gone_size, gone_kind = talk("memory usage seats:43 samples 0", "type seats:43")
    assert gone_size is None
    assert gone_kind == b"none"
    # of one key, and its TTL, of which it takes an error for no answer
    (left,) = talk("ttl seats:42")
    assert left == -1 or isinstance(left, hiredis.ReplyError)


def test_redisinsight_s_database_analysis(talk: Talk, hall: Any) -> None:
    """As the browser, with a smaller SCAN; indexes and libraries may be errors."""
    assert scanned(talk, "count", "500") == KEYS
    replies = talk(*[f"memory usage {key} samples 0" for key in sorted(KEYS)])
    assert all(type(one) is int for one in replies)
    assert len(set(talk(*[f"type {key}" for key in sorted(KEYS)]))) == 1
    indexes, libraries = talk("FT._LIST", "TFUNCTION LIST")
    assert isinstance(indexes, hiredis.ReplyError)
    assert isinstance(libraries, hiredis.ReplyError)


def test_redisinsight_s_slow_log(talk: Talk) -> None:
    config, log, reset = talk("config get slowlog*", "slowlog get 50", "slowlog reset")
    settings = dict(zip(config[::2], config[1::2], strict=True))
    assert int(settings[b"slowlog-max-len"]) >= 0
    assert int(settings[b"slowlog-log-slower-than"]) >= -1
    assert isinstance(log, list)
    assert all(len(entry) == 6 for entry in log)  # id, time, microseconds, words, address, name
    assert reset == b"OK"
    assert talk("config set slowlog-log-slower-than 5000", "config set slowlog-max-len 64") == [b"OK"] * 2


def test_redisinsight_s_profiler_and_warnings(talk: Talk) -> None:
    """It warns before a dangerous command, and its profiler is MONITOR."""
    (dangerous,) = talk("acl cat dangerous")
    assert b"kl.drop" in dangerous
    assert b"kl.seek" not in dangerous
    assert talk("monitor") == [b"OK"]


# --- clients that the server sends away ---------------------------------------------------------------


def test_redis_py_comes_back_when_it_was_killed(hall: Any, connect: Callable[..., Any]) -> None:
    shop = connect(decode_responses=True)
    number = shop.client_id()
    assert hall.client_kill_filter(_id=str(number)) == 1
    assert shop.execute_command("KL.COUNT", "hall", "rank", 1) == ROWS
    assert shop.client_id() != number


def test_redis_py_watches(hall: Any, connect: Callable[..., Any]) -> None:
    """Only if WATCH is to be had: transaction() with a callable is what redis-py's users write."""
    shop, other = connect(decode_responses=True), connect()
    with shop.pipeline() as pipeline:
        pipeline.watch("hall:1")
        pipeline.multi()
        pipeline.execute_command("KL.COUNT", "hall", "rank", 1)
        assert pipeline.execute() == [ROWS]
        pipeline.watch("hall:1")
        token = other.execute_command("KL.TRYLOCK", "hall:1")
        other.execute_command("KL.REPLACE", "hall:1", token, "rank", 2, "UNLOCK")
        pipeline.multi()
        pipeline.execute_command("KL.COUNT", "hall", "rank", 1)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
