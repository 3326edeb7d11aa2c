"""Clients that need a JVM or Go, and memtier_benchmark, which no registry has: what each sends is sent.

go-redis 9, Lettuce 7 and Jedis 7 say HELLO 3 and judge an error by its text: with one that they do not know
they give up, in place of going on in RESP2 or without the extras. What follows is a shop's work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.talk import Talk, is_refused
from tests.conftest import Wire

HELLO_FIELDS = {
    b"server": b"redis",
    b"version": b"7.4.0",
    b"proto": 3,
    b"mode": b"standalone",
    b"role": b"master",
    b"modules": [],
}


def sells_a_seat(talk: Talk, *, in_resp3: bool) -> None:
    (token,) = talk("KL.TRYLOCK seats:42")
    row = [b"rank", 3, b"is_booked", 1, b"note", b"a"]
    as_map = dict(zip(row[::2], row[1::2], strict=True))
    assert talk(
        f"KL.REPLACE seats:42 {token} is_booked 1 UNLOCK", "KL.SEEK seats:42", "KL.SEEK seats:43"
    ) == [
        b"OK",
        as_map if in_resp3 else row,
        None,
    ]


def test_go_redis(talk: Talk) -> None:
    """MAINT_NOTIFICATIONS is tried in its mode `auto`: any error reply, and it goes on without them."""
    (hello,) = talk("HELLO 3")
    assert hello.items() >= HELLO_FIELDS.items()
    refused, *named = talk(
        "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip",
        "CLIENT SETINFO LIB-NAME go-redis(,go1.24.1)",
        "CLIENT SETINFO LIB-VER 9.17.0",
    )
    assert is_refused(refused, "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.")
    assert named == [b"OK", b"OK"]
    (about,) = talk("CLIENT INFO")
    assert b" lib-name=go-redis(,go1.24.1) lib-ver=9.17.0 " in about
    sells_a_seat(talk, in_resp3=True)
    # its TxPipeline
    assert talk("MULTI", "KL.COUNT seats rank 3", "KL.UNLOCK 42 1", "EXEC") == [
        b"OK",
        b"QUEUED",
        b"QUEUED",
        [1, 0],
    ]


def test_go_redis_with_a_password_of_a_server_that_has_none(talk: Talk) -> None:
    """HELLO with AUTH is taken for the user `default`, as Redis does; another one ends it by name."""
    hello, refused = talk("HELLO 3 AUTH default any SETNAME shop", "HELLO 3 AUTH shop any")
    assert hello[b"proto"] == 3
    assert talk("CLIENT GETNAME") == [b"shop"]
    assert is_refused(refused, "WRONGPASS invalid username-password pair or user is disabled.")


def test_lettuce(talk: Talk) -> None:
    """It reads `id`, `mode`, `version` and `role`. The names are sent without waiting for their replies."""
    (hello,) = talk("HELLO 3")
    assert hello.items() >= HELLO_FIELDS.items()
    assert type(hello[b"id"]) is int
    assert talk(
        "CLIENT SETINFO lib-name Lettuce",
        "CLIENT SETINFO lib-ver 7.0.0.RELEASE/1a2b3c4",
        "PING",
    ) == [b"OK", b"OK", b"PONG"]
    sells_a_seat(talk, in_resp3=True)


def test_lettuce_falls_back_by_the_words_err_and_unknown_or_noproto(talk: Talk) -> None:
    noproto, unknown = talk("HELLO 4", "HELLOO 3")
    assert is_refused(noproto, "NOPROTO unsupported protocol version")
    assert is_refused(unknown, "ERR unknown command 'HELLOO', with args beginning with: '3' ")
    assert talk("PING") == [b"PONG"]  # its handshake in RESP2
    sells_a_seat(talk, in_resp3=False)


@pytest.mark.parametrize("version", [2, 3])
def test_jedis(talk: Talk, version: int) -> None:
    """It says HELLO with the protocol that is asked for, and knows `unknown command`, NOPROTO and NOAUTH."""
    (hello,) = talk(f"HELLO {version}")
    pairs = hello if version == 3 else dict(zip(hello[::2], hello[1::2], strict=True))
    assert pairs.items() >= (HELLO_FIELDS | {b"proto": version}).items()
    assert talk("CLIENT SETINFO LIB-NAME jedis", "CLIENT SETINFO LIB-VER 7.1.0", "SELECT 0") == [b"OK"] * 3
    sells_a_seat(talk, in_resp3=version == 3)
    (beyond,) = talk("SELECT 1")
    assert is_refused(beyond, "ERR DB index is out of range")


@pytest.mark.parametrize("hello", [(), ("HELLO 3",)], ids=["RESP2", "RESP3"])
def test_memtier_benchmark(
    wire: Callable[..., Wire], seats: Any, request_bytes: Callable[..., bytes], hello: Any
) -> None:
    """`--command="KL.SEEK __key__" --key-prefix=seats: --pipeline=16`, two connections; it counts replies."""
    talks = [Talk(wire(), request_bytes) for _ in range(2)]
    row = [b"rank", 3, b"is_booked", 0, b"note", b"a"]
    found = dict(zip(row[::2], row[1::2], strict=True)) if hello else row
    for talk in talks:
        assert len(talk(*hello)) == len(hello)
    for first in range(0, 96, 16):
        for talk in talks:
            keys = range(first, first + 16)
            assert talk(*[f"KL.SEEK seats:{key}" for key in keys]) == [
                found if key == 42 else None for key in keys
            ]
