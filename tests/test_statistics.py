"""What commands have cost: counted by themselves, whoever looks on."""

from __future__ import annotations

import random
import re
import time

import pytest

from commands.spec import Context
from klani_resp.app import App
from klani_resp.insight.statistics import FINE_BUCKETS, FINE_SHIFT, Statistics
from klani_resp.sessions.session import Session
from tests.in_memory import new_session

FINE_NS = FINE_BUCKETS << FINE_SHIFT


@pytest.fixture
def statistics(app: App) -> Statistics:
    return app.dispatcher.statistics


def test_calls_failures_and_refusals_are_told_apart(session: Session, statistics: Statistics) -> None:
    session.receive(b"ECHO a\r\nECHO b\r\nECHO\r\nKL.SEEK nothing:1\r\nNOSUCH\r\n")
    echo, seek = statistics.of("ECHO"), statistics.of("KL.SEEK")
    assert (echo.calls, echo.failed, echo.rejected) == (2, 0, 1)
    assert (seek.calls, seek.failed, seek.rejected) == (1, 1, 0)
    assert echo.ns > 0
    assert statistics.errors == {"ERR": 3}


def test_a_transaction_s_commands_are_counted_when_they_run(session: Session, statistics: Statistics) -> None:
    session.receive(b"MULTI\r\nECHO a\r\nECHO\r\nECHO b\r\nDISCARD\r\n")
    assert (statistics.of("ECHO").calls, statistics.of("ECHO").rejected) == (0, 1)
    session.receive(b"MULTI\r\nECHO a\r\nECHO b\r\nEXEC\r\n")
    assert (statistics.of("ECHO").calls, statistics.of("EXEC").calls, statistics.of("MULTI").calls) == (
        2,
        1,
        2,
    )


@pytest.mark.parametrize("from_ns", [0, 1_000, 10_000_000])
def test_who_looks_on_sees_the_slow_and_nothing_is_counted_twice(
    statistics: Statistics, session: Session, from_ns: int
) -> None:
    rng = random.Random(7)
    echo = statistics.of("ECHO")
    times = [rng.randrange(1, 20_000_000) >> rng.randrange(20) for _ in range(500)]
    seen: list[int] = []

    def watcher(name: str, ns: int, context: Context, argv: list[bytes]) -> None:
        seen.append(ns)

    for i, ns in enumerate(times):
        if i == 200:
            statistics.watch("test", from_ns, watcher)
        if i == 400:
            statistics.unwatch("test")
        # As a compiled command does it.
        try:
            echo.fine[ns >> FINE_SHIFT] += 1
            echo.ns += ns
        except IndexError:
            echo.took(ns, session._context, [b"ECHO"])
    assert echo.calls == 500
    assert echo.ns == sum(times)
    assert seen == [ns for ns in times[200:400] if ns >= from_ns]
    assert max(echo.histogram().values()) == 500
    exact = sorted(times)
    for share, found in zip((50, 99), echo.percentiles((50, 99)), strict=True):
        right = exact[500 * share // 100 - 1]
        assert abs(found * 1000 - right) <= max(64, right * 0.04), (share, found, right)


def test_a_histogram_is_cumulative(statistics: Statistics, session: Session) -> None:
    """As Redis's is: exporters hand it on as a Prometheus histogram, which is."""
    echo = statistics.of("ECHO")
    for us in (0, 1, 3, 3, 5, 1_000_000):
        echo.took(us * 1000, session._context, [b"ECHO"])
    assert list(echo.histogram().items()) == [(1, 2), (4, 4), (8, 5), (1 << 20, 6)]


def test_a_histogram_s_bounds_are_those_of_the_calls(statistics: Statistics, session: Session) -> None:
    rng = random.Random(5)
    echo = statistics.of("ECHO")
    times = [rng.randrange(1, 20_000_000) >> rng.randrange(20) for _ in range(500)]
    for ns in times:
        echo.took(ns, session._context, [b"ECHO"])
    for us, calls in echo.histogram().items():
        assert calls == sum(ns < us << 10 for ns in times), us


def test_reset_forgets_and_goes_on(session: Session, statistics: Statistics) -> None:
    session.receive(b"ECHO a\r\nECHO\r\n")
    statistics.reset()
    echo = statistics.of("ECHO")
    assert (echo.calls, echo.ns, echo.rejected, statistics.errors) == (0, 0, 0, {})
    session.receive(b"ECHO a\r\n")
    assert echo.calls == 1


def test_a_subcommand_is_counted_by_itself(session: Session, statistics: Statistics) -> None:
    """As in Redis: `cmdstat_config|get`. What is no subcommand is its command's."""
    session.receive(
        b"CONFIG GET port\r\nconfig get port\r\nCONFIG NOPE\r\nCONFIG SET port x\r\nCOMMAND COUNT\r\n"
    )
    shown = session.receive(b"INFO commandstats\r\n").decode()
    calls = dict(re.findall(r"^cmdstat_(\S+):calls=(\d+),", shown, re.MULTILINE))
    assert calls == {"config|get": "2", "config": "1", "config|set": "1", "command|count": "1"}
    assert statistics.of("CONFIG|SET").failed == statistics.of("CONFIG").failed == 1
    for asked in (b"config", b"CONFIG|GET"):
        histogram = session.receive(b"LATENCY HISTOGRAM %b\r\n" % asked)
        assert b"config|get" in histogram
        assert (b"config|set" in histogram) is (asked == b"config")


def test_a_subcommand_s_refusal_is_its_own(session: Session, statistics: Statistics) -> None:
    session.receive(
        b"ACL SETUSER ann on nopass +@all -config|get\r\nAUTH ann x\r\nMULTI\r\nCONFIG GET port\r\n"
    )
    assert (statistics.of("CONFIG|GET").rejected, statistics.of("CONFIG").rejected) == (1, 0)


def test_a_subcommand_s_job_is_its_own(statistics: Statistics, app: App, session: Session) -> None:
    session.receive(b"ACL SAVE\r\n")
    assert (statistics.of("ACL|SAVE").calls, statistics.of("ACL|SAVE").failed) == (1, 1)


def test_who_looks_on_sees_a_subcommand_that_was_never_called(
    session: Session, statistics: Statistics
) -> None:
    seen: list[str] = []
    statistics.watch("test", 0, lambda name, ns, context, argv: seen.append(name))
    session.receive(b"CONFIG GET port\r\n")
    assert seen == ["CONFIG"]
    assert statistics.of("CONFIG|GET").calls == 1


def test_percentiles_of_nothing(statistics: Statistics) -> None:
    assert statistics.of("ECHO").percentiles((50.0,)) == [0.0]


@pytest.mark.parametrize(
    ("request_", "ms_max"),
    [("INFO latencystats", 5), ("LATENCY HISTOGRAM", 5), ("LATENCY HISTOGRAM ping", 1), ("MONITOR", 3)],
)
def test_who_asks_holds_up_the_others_little(app: App, request_: str, ms_max: float) -> None:
    """Every bucket of every command was looked at, in Python: 7 to 13 ms in which nobody was served."""
    rng = random.Random(3)
    spent = []
    for _ in range(5):
        for command in app.dispatcher.statistics.commands.values():
            for place in rng.sample(range(FINE_BUCKETS), 200):
                command.fine[place] += 1
        session = new_session(app)
        began = time.thread_time()
        session.receive(request_.encode() + b"\r\n")
        spent.append((time.thread_time() - began) * 1000)
        app.close_session(session)
    assert min(spent) < ms_max


def test_times_are_kept_where_they_were_while_somebody_looks_on(
    statistics: Statistics, session: Session
) -> None:
    echo = statistics.of("ECHO")
    for ns in (100, 2_000, 60_000, 10_000_000):
        echo.took(ns, session._context, [b"ECHO"])
    before = echo.histogram(), echo.percentiles((10, 50, 99))
    statistics.watch("test", 0, lambda name, ns, context, argv: None)
    assert (echo.histogram(), echo.percentiles((10, 50, 99))) == before
    statistics.reset()
    assert echo.calls == 0
    echo.took(2_000, session._context, [b"ECHO"])
    statistics.unwatch("test")
    assert (echo.calls, echo.histogram()) == (1, {2: 1})
