"""The helper behind a network that loses every tenth reply: what is sold is what was asked for, unasked.

No test here names a REQUEST or an OWNER. The client is as redis-py comes: version 8 sends again by itself,
version 5 leaves it to the helper.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from bench.harness import launch
from tests.dropping_proxy import DroppingProxy
from tests.kl_driver import FRONTS, Front, sync_front

EVERY = 10
BUYERS = 40
ROWS = 400
FREE = {"is_booked": 0}


@pytest.fixture
def hall(server: launch.Server, client: Any) -> Iterator[Front]:
    """Loses nothing."""
    with sync_front(port=server.port) as kl:
        kl.create("seats", {"is_booked": "U8 INDEX", "buyer": "U32"})
        kl.create("tours", {"places": "COUNTER"})
        kl.insert_many("seats", ((seat, {"buyer": 0}) for seat in range(ROWS)))
        kl.insert("tours:1", {"places": 1000})
        yield kl


@pytest.fixture(params=sorted(FRONTS))
def lossy(
    request: pytest.FixtureRequest, hall: Front, server: launch.Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Front, DroppingProxy]]:
    real_sleep = asyncio.sleep
    monkeypatch.setattr("klani_resp.client.resending.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)  # redis-py's retries, without its waiting
    monkeypatch.setattr("redis.asyncio.retry.sleep", lambda seconds: real_sleep(0))
    with ExitStack() as stack:
        proxy = stack.enter_context(DroppingProxy(server.port, EVERY))
        yield stack.enter_context(FRONTS[request.param](port=proxy.port)), proxy


def wanted(buyer: int) -> int:
    return buyer % 3 + 1


def sold_to(buyer: int) -> dict[str, int]:
    return {"is_booked": 1, "buyer": buyer}


def claim(kl: Front, buyer: int) -> list[int]:
    ids: list[int] = kl.claim("seats", FREE, sold_to(buyer), count=wanted(buyer))
    return ids


def hold_and_confirm(kl: Front, buyer: int) -> list[int]:
    hold = kl.hold("seats", FREE, ms=60_000, owner=f"shopper-{buyer}", count=wanted(buyer))
    ids: list[int] = kl.confirm(hold.token, sold_to(buyer))
    return ids


def in_a_pipeline(kl: Front, buyer: int) -> list[int]:
    with kl.pipeline(transaction=False) as pipe:
        pipe.tables().claim("seats", FREE, sold_to(buyer), count=wanted(buyer))
        ids: list[int] = pipe.execute()[1]
    return ids


def in_a_transaction(kl: Front, buyer: int) -> list[int]:
    with kl.pipeline() as pipe:
        pipe.tables().claim("seats", FREE, sold_to(buyer), count=wanted(buyer))
        ids: list[int] = pipe.execute()[1]
    return ids


def under_a_lock(kl: Front, buyer: int) -> list[int]:
    first = kl.intersect("seats", FREE, limit=1)[0]
    rows = list(range(first, first + wanted(buyer)))
    with kl.lock(*rows, ms=60_000) as held:
        for row in held if isinstance(held, tuple) else (held,):
            row.replace(**sold_to(buyer))
    return rows


@pytest.mark.parametrize(
    "sale",
    [claim, hold_and_confirm, in_a_pipeline, in_a_transaction, under_a_lock],
    ids=lambda sale: sale.__name__,
)
def test_what_is_sold_is_what_was_asked_for(
    hall: Front, lossy: tuple[Front, DroppingProxy], sale: Callable[[Front, int], list[int]]
) -> None:
    kl, proxy = lossy
    answered = {buyer: sale(kl, buyer) for buyer in range(1, BUYERS + 1)}
    assert {buyer: len(ids) for buyer, ids in answered.items()} == {
        buyer: wanted(buyer) for buyer in range(1, BUYERS + 1)
    }
    stored: dict[int, list[int]] = {}
    for row in hall.scan("seats"):
        if row["is_booked"]:
            stored.setdefault(row["buyer"], []).append(row.id)
    assert stored == answered
    assert proxy.dropped >= BUYERS // EVERY
    assert hall.holds("seats") == hall.locks("seats") == []


def test_units_are_taken_and_given_back_once(hall: Front, lossy: tuple[Front, DroppingProxy]) -> None:
    kl, proxy = lossy
    for _ in range(BUYERS):
        assert kl.claim("tours", ids=[1], take=3, from_="places", owner="ann") == [1]
        assert kl.give_back("tours", [1], owner="ann", take=2, from_="places") == 2
    assert hall.seek("tours:1")["places"] == 1000 - BUYERS
    assert proxy.dropped >= BUYERS // EVERY


@pytest.mark.parametrize(
    ("front", "retry"), [("sync", redis.retry.Retry), ("asyncio", redis.asyncio.retry.Retry)]
)
def test_without_its_ids_it_would_sell_more(
    hall: Front, server: launch.Server, front: str, retry: Callable[..., Any]
) -> None:
    """By redis-py's own retries, as version 5 has them when told."""
    told = {"retry": retry(NoBackoff(), 3), "retry_on_error": [redis.ConnectionError]}
    with DroppingProxy(server.port, EVERY) as proxy, FRONTS[front](port=proxy.port, **told) as kl:
        buyers = range(1, BUYERS + 1)
        answered = [row for buyer in buyers for row in kl.claim("seats", FREE, sold_to(buyer), request=None)]
    assert max(Counter(answered).values()) == 1
    assert hall.count("seats", {"is_booked": 1}) > len(answered)
