"""The helper when no answer comes: what is sent again, what is not, and what the caller is told.

redis-py sends nothing again here, as version 5 does by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from bench.harness import launch
from klani_resp.client import KL, AsyncKL, ConnectionLost, TimedOut, Unanswered
from tests.dropping_proxy import LosingProxy
from tests.kl_driver import FRONTS, Front, retries, sync_front

FREE = {"is_booked": 0}
SOLD = {"is_booked": 1}


@pytest.fixture
def hall(server: launch.Server, client: Any) -> Iterator[Front]:
    """Loses nothing."""
    with sync_front(port=server.port) as kl:
        kl.create("seats", {"is_booked": "U8 INDEX", "note": "BYTES 8"})
        kl.insert_many("seats", ((seat, {"is_booked": 0}) for seat in range(20)))
        yield kl


@pytest.fixture
def proxy(server: launch.Server, hall: Front) -> Iterator[LosingProxy]:
    with LosingProxy(server.port) as running:
        yield running


@pytest.fixture(params=sorted(FRONTS))
def kl(
    request: pytest.FixtureRequest, proxy: LosingProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Front]:
    monkeypatch.setattr("klani_resp.client.resending.FIRST_PAUSE_SECONDS", 0.001)
    retry = retries(request.param, 0)
    with FRONTS[request.param](port=proxy.port, retry=retry, socket_timeout=5) as front:
        front.tables()  # the handshake's replies are not to be lost
        yield front


def sold(hall: Front) -> int:
    return int(hall.count("seats", SOLD))


def test_what_is_safe_is_sent_again(hall: Front, proxy: LosingProxy, kl: Front) -> None:
    def lossy(verb: str, *args: Any, **named: Any) -> Any:
        proxy.lose = 1
        answer = getattr(kl, verb)(*args, **named)
        assert proxy.lose == 0
        return answer

    assert lossy("claim", "seats", FREE, SOLD, count=2, owner="ann") == [0, 1]
    assert lossy("give_back", "seats", [0, 1], FREE, owner="ann") == 2
    hold = lossy("hold", "seats", FREE, ms=60_000, owner="ann", count=2)
    assert [live.token for live in hall.holds("seats")] == [hold.token]
    assert lossy("extend", hold.token, ms=90_000) > hold.deadline_ms
    assert lossy("confirm", hold.token, SOLD) == hold.ids
    token = lossy("trylock", 8)
    assert [lock.token for lock in hall.locks("seats")] == [token]
    assert lossy("replace", 8, token, SOLD, unlock=True)
    assert lossy("insert", 50, {"note": b"x"})
    assert lossy("seek", 50)["note"] == b"x"
    assert lossy("create", "seats", {"is_booked": "U8 INDEX", "note": "BYTES 8"}, if_not_exists=True)
    rows = ((seat, {"note": b"y"}) for seat in range(100, 130))
    assert lossy("insert_many", "seats", rows, batch=10) == 30
    assert sold(hall) == 3


def test_the_obvious_loop_buys_once(hall: Front, proxy: LosingProxy, kl: Front) -> None:
    """It goes on with the request that the exception names."""
    proxy.lose_all()
    request: Any = "order-1"
    for _ in range(3):
        try:
            ids = kl.claim("seats", FREE, SOLD, request=request)
            break
        except redis.ConnectionError as error:
            assert isinstance(error, ConnectionLost)
            assert error.request == request
            proxy.lose = 0
    assert ids == [0]
    assert sold(hall) == 1


def test_a_fresh_id_is_told_in_the_end(hall: Front, proxy: LosingProxy, kl: Front) -> None:
    proxy.lose_all()
    with pytest.raises(redis.ConnectionError) as caught:
        kl.claim("seats", FREE, SOLD)
    lost = caught.value
    assert isinstance(lost, Unanswered)
    assert f"KL.CLAIM, REQUEST {lost.request!r}; calls made: 4" in str(lost)
    again = pickle.loads(pickle.dumps(lost))
    assert (type(again), again.request, str(again)) == (ConnectionLost, lost.request, str(lost))
    with pytest.raises(ConnectionLost) as locking:
        kl.trylock(9)
    proxy.lose = 0
    assert kl.claim("seats", FREE, SOLD, request=lost.request) == [0]
    assert kl.trylock(9, attempt=locking.value.attempt) > 0
    assert sold(hall) == 1


@pytest.mark.parametrize("front", sorted(FRONTS))
def test_a_time_out_too(hall: Front, proxy: LosingProxy, front: str) -> None:
    with FRONTS[front](port=proxy.port, retry=retries(front, 0), socket_timeout=0.1) as kl:
        kl.tables()
        proxy.passing.clear()
        with pytest.raises(redis.TimeoutError) as caught:
            kl.claim("seats", FREE, SOLD)
        assert isinstance(caught.value, TimedOut)
        proxy.passing.set()
        assert kl.claim("seats", FREE, SOLD, request=caught.value.request) == [0]
    assert sold(hall) == 1


@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_pipelines(hall: Front, proxy: LosingProxy, kl: Front, transaction: bool) -> None:
    proxy.lose = 1
    with kl.pipeline(transaction) as pipe:
        ids, token = pipe.claim("seats", FREE, SOLD).trylock(9).execute()
    assert (ids, sold(hall)) == ([0], 1)
    assert [lock.token for lock in hall.locks("seats")] == [token]
    proxy.lose_all()
    with kl.pipeline(transaction) as pipe, pytest.raises(ConnectionLost) as caught:
        pipe.tables().claim("seats", FREE, SOLD).trylock(8).execute()
    proxy.lose = 0
    lost = caught.value
    assert (lost.requests, lost.attempts) == ([None, lost.request, None], [None, None, lost.attempt])
    assert len(pipe) == 0
    with kl.pipeline(transaction) as pipe:
        ids = (
            pipe.claim("seats", FREE, SOLD, request=lost.request)
            .trylock(8, attempt=lost.attempt)
            .execute()[0]
        )
    assert (ids, sold(hall)) == ([1], 2)


@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_a_pipeline_with_something_unsafe_is_sent_once(
    hall: Front, proxy: LosingProxy, kl: Front, transaction: bool
) -> None:
    proxy.lose = 1
    with kl.pipeline(transaction) as pipe, pytest.raises(ConnectionLost):
        pipe.tables().claim("seats", FREE, SOLD, request=None).execute()
    assert sold(hall) == 1
    proxy.lose = 1
    with kl.pipeline(transaction) as pipe, pytest.raises(ConnectionLost):
        pipe.tables().client.echo("x")  # not ours, so not known
        pipe.execute()
    assert pipe.tables().execute() == [["seats"]]


def test_without_an_id_it_is_sent_once(hall: Front, proxy: LosingProxy, kl: Front) -> None:
    proxy.lose = 1
    with pytest.raises(ConnectionLost) as caught:
        kl.claim("seats", FREE, SOLD, request=None)
    assert (caught.value.request, sold(hall)) == (None, 1)


def test_resends_can_be_none(hall: Front, proxy: LosingProxy) -> None:
    with redis.Redis(port=proxy.port, retry=retries("sync", 0)) as client:
        kl = KL(client, resends=0)
        kl.tables()
        proxy.lose = 1
        with pytest.raises(ConnectionLost, match="calls made: 1"):
            kl.claim("seats", FREE, SOLD)


@pytest.mark.parametrize("front", sorted(FRONTS))
def test_what_is_refused_keeps_its_class(server: launch.Server, front: str) -> None:
    nobody = {"username": "nobody", "password": "x", "retry": retries(front, 0)}
    with FRONTS[front](port=server.port, **nobody) as kl, pytest.raises(redis.AuthenticationError) as caught:
        kl.tables()
    assert type(caught.value) is redis.AuthenticationError


@pytest.mark.parametrize("front", sorted(FRONTS))
def test_redis_py_s_own_retries_send_no_drop_again(hall: Front, proxy: LosingProxy, front: str) -> None:
    """Another may have made the table anew meanwhile."""
    retry = retries(front, 5)
    with FRONTS[front](port=proxy.port, retry=retry, retry_on_error=[redis.ConnectionError]) as kl:
        kl.tables()
        before = proxy.replies
        assert kl.drop("seats")
        handshake = proxy.replies - before - 1
        proxy.skip, proxy.lose = handshake, 1
        with pytest.raises(ConnectionLost):
            kl.create("seats", {"is_booked": "U8"})
        assert hall.tables() == ["seats"]
        proxy.skip, proxy.lose = handshake, 1
        with pytest.raises(ConnectionLost):
            kl.drop("seats")
        assert hall.tables() == []


@pytest.mark.parametrize("front", sorted(FRONTS))
def test_long_work_has_no_read_time_out(hall: Front, proxy: LosingProxy, front: str) -> None:
    hall.client.config_resetstat()
    with FRONTS[front](port=proxy.port, socket_timeout=0.3) as kl:
        proxy.passing.clear()
        later = threading.Timer(1.0, proxy.passing.set)
        later.start()
        assert kl.verify("seats", "is_booked", 0).ok
        later.join()
    assert hall.client.info("commandstats")["cmdstat_kl.verify"]["calls"] == 1


def test_who_is_cancelled_is_cancelled(hall: Front, proxy: LosingProxy) -> None:
    """While it waits for an answer, and between two sendings."""

    async def shop(seconds: float) -> None:
        async with redis.asyncio.Redis(port=proxy.port) as client, asyncio.timeout(seconds):
            kl = AsyncKL(client)
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    await kl.claim("seats", FREE, SOLD, request="order-1")

    proxy.lose_all()
    for seconds in (0.02, 0.05, 0.1, 0.2):
        with pytest.raises(TimeoutError):
            asyncio.run(shop(seconds))
    assert sold(hall) <= 1
