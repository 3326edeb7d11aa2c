"""`lock` when something goes wrong on its way in or out: rows are let go of, and a success stays one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from bench.harness import launch
from klani_resp.client import KL, AsyncKL, ConnectionLost, Locked
from klani_resp.client import locking as client_locking
from tests.dropping_proxy import LosingProxy
from tests.kl_driver import FRONTS, Front, retries, sync_front

MS = 60_000


@pytest.fixture
def hall(server: launch.Server, client: Any) -> Iterator[Front]:
    """Loses nothing."""
    with sync_front(port=server.port) as kl:
        kl.create("seats", {"is_booked": "U8 INDEX"})
        kl.insert_many("seats", ((seat, {"is_booked": 0}) for seat in range(9)))
        yield kl


@pytest.fixture
def proxy(server: launch.Server, hall: Front) -> Iterator[LosingProxy]:
    with LosingProxy(server.port) as running:
        yield running


@pytest.fixture(params=sorted(FRONTS))
def front(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """One that sends nothing again by itself."""
    monkeypatch.setattr("klani_resp.client.resending.FIRST_PAUSE_SECONDS", 0.001)
    retry = retries(request.param, 0)
    return lambda **options: FRONTS[request.param](retry=retry, **options)


def test_answers_that_are_lost_on_the_way(hall: Front, proxy: LosingProxy, front: Callable[..., Any]) -> None:
    with front(port=proxy.port) as kl:
        kl.tables()
        proxy.lose = 1
        with kl.lock(1, 2, ms=MS) as (first, _):
            assert {lock.token for lock in hall.locks("seats")} == {first.token}
            proxy.lose = 1
            first.replace(is_booked=1)
            proxy.lose = 1
        assert proxy.lose == 0
    assert hall.locks("seats") == []
    assert hall.count("seats", {"is_booked": 1}) == 1


def test_who_may_lock_and_not_read_leaves_nothing_locked(
    hall: Front, server: launch.Server, front: Callable[..., Any]
) -> None:
    hall.client.execute_command("ACL", "SETUSER", "till", "on", ">pw", "~*", "+@all", "-kl.seek")
    try:
        with front(port=server.port, username="till", password="pw") as kl:
            with pytest.raises(redis.exceptions.NoPermissionError), kl.lock(3, 4, ms=MS):
                pytest.fail("it was not read")
            assert hall.locks("seats") == []
    finally:
        hall.client.execute_command("ACL", "DELUSER", "till")


def test_what_was_locked_unheard_is_let_go_of(
    hall: Front, proxy: LosingProxy, front: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All sendings are lost; by the time of the clean-up the way is free again."""
    let_go = client_locking._Lease.is_to_be_let_go

    def free_the_way(lease: Any, error: BaseException) -> bool:
        assert len(hall.locks("seats")) == 1
        proxy.lose = 0
        return let_go(lease, error)

    monkeypatch.setattr(client_locking._Lease, "is_to_be_let_go", free_the_way)
    with front(port=proxy.port) as kl:
        kl.tables()
        proxy.lose_all()
        with pytest.raises(ConnectionLost), kl.lock(5, ms=MS):
            pytest.fail("no answer came")
    assert hall.locks("seats") == []


def test_what_cannot_be_let_go_of_is_logged_soon(
    hall: Front, proxy: LosingProxy, front: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with front(port=proxy.port) as kl:
        kl.tables()
        proxy.lose_all()
        began = time.monotonic()
        with pytest.raises(ConnectionLost), kl.lock(5, "seats:6", ms=MS):
            pytest.fail("no answer came")
        assert time.monotonic() - began < 10
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("klani_resp.client.locking", logging.WARNING)
    assert record.getMessage().startswith("5, seats:6 stay locked until the lease ends: ")


def test_a_server_that_hangs_does_not_hang_the_clean_up(
    hall: Front, proxy: LosingProxy, front: Callable[..., Any]
) -> None:
    with front(port=proxy.port, socket_timeout=0.1) as kl:
        kl.tables()
        proxy.passing.clear()
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError), kl.lock(5, ms=MS):
            pytest.fail("no answer came")
        assert time.monotonic() - began < 10
        proxy.passing.set()


def test_a_success_stays_one(
    hall: Front, proxy: LosingProxy, front: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with front(port=proxy.port) as kl:
        kl.tables()
        with kl.lock(7, ms=MS) as row:
            row.replace(is_booked=1)
            proxy.lose_all()
        assert hall.seek(7)["is_booked"] == 1
        assert "7 stay locked until the lease ends: " in caplog.text
        caplog.clear()
        proxy.lose = 0
        with pytest.raises(KeyError), kl.lock(8, ms=MS):
            proxy.lose_all()
            raise KeyError
        assert "8 stay locked until the lease ends: " in caplog.text


def test_taken_rows_are_left_to_their_holder(
    hall: Front, server: launch.Server, front: Callable[..., Any]
) -> None:
    token = hall.trylock(1, ms=MS)
    with front(port=server.port) as kl, pytest.raises(Locked), kl.lock(1, 2):
        pytest.fail("it is another's")
    assert [(lock.id, lock.token) for lock in hall.locks("seats")] == [(1, token)]


# --- asyncio: time-outs and cancellation at any await ----------------------------------------------------


def test_who_is_timed_out_anywhere_leaves_nothing_locked(server: launch.Server, hall: Front) -> None:
    async def handler(kl: AsyncKL, seconds: float) -> None:
        async with asyncio.timeout(seconds), kl.lock(1, 2, ms=MS) as (row, _):
            await row.replace(is_booked=1)

    async def shop() -> int:
        timed_out = 0
        async with redis.asyncio.Redis(port=server.port) as client:
            kl = AsyncKL(client)
            await kl.tables()
            for step in range(200):
                try:
                    await handler(kl, 0.0001 * (step % 20))
                except TimeoutError:
                    timed_out += 1
                left = await kl.locks("seats")
                assert left == [], f"step {step}"
        return timed_out

    assert asyncio.run(shop()) > 20


@pytest.mark.parametrize("times", [1, 2])
def test_who_is_cancelled_at_any_step_is_cancelled(server: launch.Server, hall: Front, times: int) -> None:
    """Cancelled twice, the caller leaves the clean-up to itself. The steps of connecting are among them: each
    cancellation costs its connection."""

    async def body(kl: AsyncKL) -> None:
        async with kl.lock(3, ms=MS) as row:
            await row.replace(is_booked=1)
            await asyncio.sleep(60)

    async def shop() -> None:
        async with redis.asyncio.Redis(port=server.port) as client:
            kl = AsyncKL(client)
            for step in range(60):
                task = asyncio.create_task(body(kl))
                for _ in range(step % 15):
                    await asyncio.sleep(0)
                for _ in range(times):
                    task.cancel()
                    await asyncio.sleep(0)
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                assert isinstance(outcome, asyncio.CancelledError)
                while client_locking._letting_go:
                    await asyncio.wait(list(client_locking._letting_go))
                assert await kl.locks("seats") == [], f"step {step}"

    asyncio.run(shop())


def test_who_is_cancelled_while_it_connects_is_cancelled(server: launch.Server, hall: Front) -> None:
    async def shop() -> None:
        async with redis.asyncio.Redis(port=server.port) as client:
            kl = AsyncKL(client)
            for step in range(12):
                for ask in (lambda: kl.seek(1), kl.pipeline().seek(1).execute):
                    task = asyncio.create_task(one(ask))
                    for _ in range(step):
                        await asyncio.sleep(0)
                    task.cancel()
                    (outcome,) = await asyncio.gather(task, return_exceptions=True)
                    assert isinstance(outcome, asyncio.CancelledError)
                    await kl.client.connection_pool.disconnect()

    async def one(ask: Callable[[], Any]) -> None:
        await ask()
        await asyncio.sleep(60)

    asyncio.run(shop())


def test_the_end_of_the_loop_lets_go_too(server: launch.Server, hall: Front) -> None:
    async def body() -> None:
        async with redis.asyncio.Redis(port=server.port) as client, AsyncKL(client).lock(4, ms=MS):
            await asyncio.sleep(60)

    async def shop() -> asyncio.Task[None]:
        task = asyncio.create_task(body())
        while not hall.locks("seats"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return task

    assert asyncio.run(shop()).cancelled()
    assert hall.locks("seats") == []


def test_the_sync_one_lets_go_when_interrupted(
    server: launch.Server, hall: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis(port=server.port) as client:
        kl = KL(client)
        monkeypatch.setattr(
            client_locking._Lease, "read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt), kl.lock(6, ms=MS):
            pytest.fail("interrupted")
    assert hall.locks("seats") == []
