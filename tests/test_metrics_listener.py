"""The metrics listener in process: what is ready when, what a bad client costs, how a scrape gives way."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from bench.harness.launch import ROOT, free_port
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.metrics import lag
from klani_resp.metrics.lag import new_histogram
from klani_resp.metrics.listener import Metrics
from klani_resp.metrics.scrape import scrape
from klani_resp.metrics.text import labels
from klani_resp.net.descriptors import KEPT_BACK
from storage import locks
from storage.engine import Engine
from storage.histogram import Histogram
from tests.fake_disk import FakeDisk
from tests.scraping import Scrape, read
from tests.store import FakeClock, open_store, row, schema


def open_app(app: App, clock: FakeClock | None = None) -> Engine:
    engine, _ = open_store(FakeDisk(), clock=clock or FakeClock())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    return engine


@asynccontextmanager
async def listening(app: App, stop: trio.Event) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(Metrics(app, stop.is_set).serve)
        yield
        nursery.cancel_scope.cancel()


def new_app(**settings: Any) -> App:
    return App(Config(metrics_port=free_port(), **settings))


async def exchange(app: App, sent: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and text; the connection is at its end behind them."""
    async with await trio.open_tcp_stream("127.0.0.1", app.config.metrics_port) as stream:
        await stream.send_all(sent)
        got = b"".join([data async for data in stream])
    head, _, text = got.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    assert first.startswith("HTTP/1.1 ")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, text


async def get(app: App, path: str) -> tuple[int, str]:
    status, headers, text = await exchange(app, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert int(headers["Content-Length"]) == len(text)
    assert headers["Connection"] == "close"
    return status, text


def scraped(app: App) -> Scrape:
    *_, text = finished(scrape(app, new_histogram(), 0.0, None))
    assert isinstance(text, bytes)
    return read(text.decode())


def finished(steps: Generator[None, None, Any]) -> Generator[Any]:
    """A None for each step, then what it came to."""
    yield (yield from steps)


# --- ready, or not ----------------------------------------------------------------------------------------


async def test_ready_from_loading_to_the_end() -> None:
    app, stop = new_app(), trio.Event()
    async with listening(app, stop):
        app.loading_progress = 0.254
        assert await get(app, "/readyz") == (503, "loading: 25.4 %\n")
        assert await get(app, "/healthz") == (200, "ok\n")
        loading = read((await get(app, "/metrics"))[1])
        assert (loading["klani_ready"], loading["klani_loading_ratio"]) == (0, 0.254)
        assert "klani_sales_total" not in loading.families

        engine = open_app(app)
        assert await get(app, "/readyz") == (200, "ready\n")
        assert read((await get(app, "/metrics"))[1])["klani_ready"] == 1

        engine.disk_full(OSError(errno.ENOSPC, ""))
        status, text = await get(app, "/readyz")
        assert (status, text.count("\n")) == (503, 1)
        assert text.startswith("readonly_full: MISCONF ")
        full = read((await get(app, "/metrics"))[1])
        assert (full["klani_disk_state", "ok"], full["klani_disk_state", "readonly_full"]) == (0, 1)
        engine.room_is_back()
        assert (await get(app, "/readyz"))[0] == 200

        stop.set()
        assert await get(app, "/readyz") == (503, "stopping\n")
        app.fail(OSError(errno.EIO, "Input/output error"))
        assert await get(app, "/readyz") == (503, "failed: [Errno 5] Input/output error\n")
        assert await get(app, "/healthz") == (200, "ok\n")


# --- clients ----------------------------------------------------------------------------------------------


async def test_methods_and_paths() -> None:
    app = new_app()
    open_app(app)
    async with listening(app, trio.Event()):
        assert (await get(app, "/metrics?x=1"))[0] == 200
        assert (await get(app, "/"))[0] == 404
        assert (await get(app, "/metrics/"))[0] == 404
        status, headers, text = await exchange(app, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, text) == (200, "")
        assert int(headers["Content-Length"]) > 1000
        body = b"x" * 5000
        post = b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + body
        status, headers, _ = await exchange(app, post)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert (await exchange(app, b"GET /healthz HTTP/1.0\r\n\r\n"))[::2] == (200, "ok\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),  # without a Host
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000, 431),
        (b"G" * 20_000, 431),
    ],
)
async def test_what_is_no_request_is_answered_and_costs_one_connection(sent: bytes, status: int) -> None:
    app = new_app()
    async with listening(app, trio.Event()):
        assert (await exchange(app, sent))[0] == status
        assert (await get(app, "/healthz"))[0] == 200


async def test_a_client_that_says_nothing_is_cut_off() -> None:
    app = new_app(onlooker_request_seconds_max=0.05)
    async with listening(app, trio.Event()):
        for sent in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n"):
            async with await trio.open_tcp_stream("127.0.0.1", app.config.metrics_port) as stream:
                if sent:
                    await stream.send_all(sent)
                assert await stream.receive_some() == b""


async def test_one_connection_too_many_is_closed() -> None:
    app = new_app(onlooker_connections_max=2)
    async with listening(app, trio.Event()):
        port = app.config.metrics_port
        async with (
            await trio.open_tcp_stream("127.0.0.1", port),
            await trio.open_tcp_stream("127.0.0.1", port),
            await trio.open_tcp_stream("127.0.0.1", port) as third,
        ):
            assert await third.receive_some() == b""
        assert (await get(app, "/healthz"))[0] == 200


async def test_a_bug_in_a_scrape_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    app = new_app()
    engine = open_app(app)
    async with listening(app, trio.Event()):
        app.committer = None  # a loaded store has one
        with caplog.at_level(logging.ERROR):
            async with await trio.open_tcp_stream("127.0.0.1", app.config.metrics_port) as stream:
                await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await stream.receive_some() == b""
        assert "bug in the metrics listener" in caplog.text
        app.committer = InlineCommitter(engine.wal, app.release)
        assert (await get(app, "/metrics"))[0] == 200


# --- what is counted --------------------------------------------------------------------------------------


def test_leases_that_end_are_counted_when_they_have() -> None:
    clock, app = FakeClock(), new_app()
    engine = open_app(app, clock)
    engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    for number in range(6):
        engine.insert(seats, number, row(1))
    engine.try_lock(((seats, 0), (seats, 1)), 5, b"a")
    engine.try_lock(((seats, 0), (seats, 1)), 5, b"a")  # a resend is no other lock
    token = engine.try_lock(((seats, 2),), 5, None)
    assert token is not None and engine.unlock([(seats, 2)], token) == 1
    engine.try_lock(((seats, 3),), 50, None)

    def shown() -> tuple[float, ...]:
        found = scraped(app)
        ended = [found["klani_locks_ended_total", "seats", how] for how in ("released", "expired")]
        return found["klani_locks", "seats"], found["klani_locks_granted_total", "seats"], *ended

    assert shown() == (3, 4, 1, 0)
    clock.pass_ms(5)
    assert shown() == (1, 4, 1, 2)
    engine.try_lock(((seats, 0),), 5, None)  # in the place of one that ended
    assert shown() == (2, 5, 1, 2)
    assert list(locks.live(seats, clock())) and shown() == (2, 5, 1, 2), "swept or not"
    clock.pass_ms(60)
    assert shown() == (0, 5, 1, 4)


def test_a_lock_that_goes_while_they_are_counted_is_one_that_was_there() -> None:
    app = new_app()
    engine = open_app(app)
    engine.create(b"seats", schema(), False)
    seats = engine.table(b"seats")
    for number in range(3 * locks.COUNTED_AT_ONCE):
        engine.insert(seats, number, row(1))
    token = engine.try_lock(tuple((seats, number) for number in range(3 * locks.COUNTED_AT_ONCE)), 5, None)
    assert token is not None
    steps = finished(locks.count(seats, engine.clock()))
    next(steps)
    engine.unlock([(seats, 2 * locks.COUNTED_AT_ONCE), (seats, 0)], token)
    engine.try_lock(((seats, 0),), 5, None)
    *between, counted = steps
    assert len(between) == 2
    total = 3 * locks.COUNTED_AT_ONCE
    assert (counted.granted, counted.released, counted.expired, counted.live) == (total, 0, 0, total)


def test_a_scrape_gives_way_between_its_families_and_tables() -> None:
    app = new_app()
    engine = open_app(app)
    assert len(list(finished(scrape(app, new_histogram(), 0.0, None)))) >= 20
    for number in range(50):
        engine.create(b"t%d" % number, schema(), False)
    *steps, text = finished(scrape(app, new_histogram(), 0.0, None))
    assert len(steps) >= 70
    assert read(text.decode())["klani_table_rows", "t49"] == 0


def test_a_table_that_goes_in_the_middle_of_a_scrape_does_no_harm() -> None:
    app = new_app()
    engine = open_app(app)
    for name in (b"a", b"b"):
        engine.create(name, schema(), False)
    steps = finished(scrape(app, new_histogram(), 0.0, None))
    for _ in range(3):
        next(steps)
    engine.drop(b"b")
    *_, text = steps
    assert read(text.decode())["klani_table_rows", "a"] == 0


# --- the parts --------------------------------------------------------------------------------------------


def test_a_histogram_s_bounds_are_its_buckets_upper_ends() -> None:
    found = Histogram((1, 10))
    for value in (0, 1, 2, 10, 11, 500):
        found.add(value)
    assert (found.counts, found.total, found.count) == ([2, 2, 2], 524, 6)


def test_a_label_s_value_may_be_anything() -> None:
    value = 'a"b\\c\nd'
    assert list(read(f"# TYPE x gauge\nx{labels(table=value)} 1\n").samples) == [("x", value)]


async def test_the_loop_s_lag_is_what_a_sleeper_oversleeps(mock_clock: trio.testing.MockClock) -> None:
    found = new_histogram()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.measure, found)
        for seconds, lags_ms in ((0.1, [0]), (0.1, [0, 0]), (0.3, [0, 0, 200]), (0.104, [0, 0, 200, 4])):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(seconds)  # nobody could run meanwhile
            await trio.testing.wait_all_tasks_blocked()
            assert found.count == len(lags_ms)
            assert found.total == pytest.approx(sum(lags_ms) * 1e6, abs=1000)
        nursery.cancel_scope.cancel()


def test_its_descriptors_are_kept_back_too() -> None:
    code = (
        "from klani_resp.config import Config; from klani_resp.net.descriptors import fitted;"
        "print(*[fitted(Config(metrics_port=port)).connections_max for port in (0, 1)])"
    )
    limited = f'ulimit -n 100; exec {sys.executable} -c "{code}"'
    done = subprocess.run(["sh", "-c", limited], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        str(100 - KEPT_BACK),
        str(100 - KEPT_BACK - Config().onlooker_connections_max),
    ]
