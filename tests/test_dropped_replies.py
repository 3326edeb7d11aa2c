"""Shoppers behind a network that loses every tenth reply, with a client that sends again by itself.

redis-py does so as it comes. Under a REQUEST id a claim that is sent again is the claim that was made: what
is sold is exactly what was asked for. Without one it buys twice, as the last test shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.dropping_proxy import DroppingProxy

if TYPE_CHECKING:
    from bench.harness.launch import Server

SHOPPERS = 4  # each with a client and a proxy of its own
REQUESTS = 60  # of each
EVERY = 10
ROWS = 2000
SCHEMA = ("rank", "U32", "INDEX", "is_booked", "U8", "INDEX", "buyer", "U32")
Sale = Callable[[Any, int, int], list[int]]  # (client, buyer, count) -> the rows that are theirs


@pytest.fixture
def hall(client: Any) -> Any:
    """A table `seats` of free rows, and a client that loses nothing."""
    client.execute_command("KL.CREATE", "seats", "SCHEMA", *SCHEMA)
    pipeline = client.pipeline(transaction=False)
    for row in range(ROWS):
        pipeline.execute_command("KL.INSERT", row, "rank", row % 2)
    pipeline.execute()
    return client


@pytest.fixture
def lossy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Any], list[DroppingProxy]]]:
    """Clients with redis-py's default retries, and the proxies that they are behind."""
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)  # its retries, without its waiting
    with ExitStack() as stack:
        proxies = [stack.enter_context(DroppingProxy(server.port, EVERY)) for _ in range(SHOPPERS)]
        clients = [stack.enter_context(redis.Redis(port=proxy.port)) for proxy in proxies]
        yield clients, proxies


def shop(clients: list[Any], sale: Sale) -> dict[int, list[int]]:
    """All shoppers at once, one purchase after the other; the rows that each purchase was answered."""

    def purchases(shopper: int) -> dict[int, list[int]]:
        numbers = range(shopper * REQUESTS + 1, (shopper + 1) * REQUESTS + 1)
        return {buyer: sale(clients[shopper], buyer, count_of(buyer)) for buyer in numbers}

    with ThreadPoolExecutor(SHOPPERS) as pool:
        return {
            buyer: rows for books in pool.map(purchases, range(SHOPPERS)) for buyer, rows in books.items()
        }


def count_of(buyer: int) -> int:
    """How many rows this purchase is of."""
    return buyer % 3 + 1


def stored(client: Any) -> dict[int, list[int]]:
    """The rows of each buyer, re-read."""
    found: dict[int, list[int]] = {}
    cursor = 0
    while True:
        cursor, page = client.execute_command("KL.SCAN", "seats", cursor, "COUNT", 1000)
        cursor = int(cursor)
        for row, fields in page:
            values = dict(zip(fields[::2], fields[1::2], strict=True)) if isinstance(fields, list) else fields
            if int(values[b"is_booked"]):
                found.setdefault(int(values[b"buyer"]), []).append(int(row))
        if cursor == 0:
            return found


def claim(client: Any, buyer: int, count: int, *more: str) -> list[int]:
    words = ("KL.CLAIM", "seats", "is_booked", 0, "rank", buyer % 2, "SET", "is_booked", 1, "buyer", buyer)
    ids: list[int] = client.execute_command(*words, "COUNT", count, "FOR", f"shopper-{buyer}", *more)
    return ids


def claim_once(client: Any, buyer: int, count: int) -> list[int]:
    return claim(client, buyer, count, "REQUEST", f"request-{buyer}")


def hold_and_confirm(client: Any, buyer: int, count: int) -> list[int]:
    words = ("KL.HOLD", "seats", "is_booked", 0, "rank", buyer % 2, "PX", 60_000, "FOR", f"shopper-{buyer}")
    request = ("REQUEST", f"request-{buyer}")
    token, held, _ = client.execute_command(*words, "COUNT", count, *request)
    sold: list[int] = client.execute_command("KL.CONFIRM", token, "SET", "is_booked", 1, "buyer", buyer)
    assert sold == held
    return sold


@pytest.mark.parametrize("sale", [claim_once, hold_and_confirm], ids=["claim", "hold and confirm"])
def test_what_is_sold_is_what_was_asked_for(
    hall: Any, lossy: tuple[list[Any], list[DroppingProxy]], sale: Sale
) -> None:
    clients, proxies = lossy
    answered = shop(clients, sale)
    assert {buyer: len(rows) for buyer, rows in answered.items()} == {
        buyer: count_of(buyer) for buyer in range(1, SHOPPERS * REQUESTS + 1)
    }
    assert stored(hall) == answered
    assert max(Counter(row for rows in answered.values() for row in rows).values()) == 1
    assert all(proxy.dropped >= REQUESTS // EVERY for proxy in proxies)
    assert hall.execute_command("KL.HOLDS", "seats") == []


def test_without_a_request_id_a_lost_reply_buys_twice(
    hall: Any, lossy: tuple[list[Any], list[DroppingProxy]]
) -> None:
    answered = shop(lossy[0], claim)
    found = stored(hall)
    assert found.keys() == answered.keys()
    assert sum(map(len, found.values())) > sum(map(len, answered.values()))
