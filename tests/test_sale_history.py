"""KL.HISTORY of rows that were sold: by whose claim, in which request, also inside MULTI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.harness.launch import Server


def test_who_bought_it(connect: Callable[..., Any], as_map: Callable[[Any], dict[Any, Any]]) -> None:
    client = connect(protocol=3)
    ask = client.execute_command
    ask("KL.CREATE", "halls", "SCHEMA", "is_booked", "U8", "INDEX", "buyer", "U32")
    for seat in (1, 2, 3):
        ask("KL.INSERT", f"halls:{seat}", "buyer", 0)
    free, book = ("halls", "is_booked", 0), ("SET", "is_booked", 1, "buyer", 7)
    assert ask("KL.CLAIM", *free, *book, "COUNT", 2, "FOR", "ann", "REQUEST", "r1") == [1, 2]
    assert ask("KL.RETURN", "halls", "FOR", "ann", 1, "SET", "is_booked", 0, "REQUEST", "r2") == 1
    token = ask("KL.HOLD", *free, "PX", 60_000, "FOR", "bob")[0]
    assert ask("KL.CONFIRM", token, *book) == [1]
    with client.pipeline(transaction=True) as both:
        both.execute_command("KL.CLAIM", *free, *book)
        both.execute_command("KL.RETURN", "halls", "FOR", "bob", 1, "SET", "is_booked", 0)
        both.execute_command("KL.CLAIM", *free, *book, "FOR", "cyd")
        assert both.execute() == [[3], 1, [1]]

    def shown(seat: int) -> list[tuple[bytes, bytes | None, bytes | None]]:
        entries = map(as_map, ask("KL.HISTORY", f"halls:{seat}"))
        return [(entry[b"verb"], entry[b"owner"], entry[b"request"]) for entry in entries]

    assert shown(1) == [
        (b"claim", b"cyd", None),
        (b"return", b"bob", None),
        (b"confirm", b"bob", None),
        (b"return", b"ann", b"r2"),
        (b"claim", b"ann", b"r1"),
        (b"insert", None, None),
    ]
    assert shown(2) == [(b"claim", b"ann", b"r1"), (b"insert", None, None)]
    assert shown(3) == [(b"claim", None, None), (b"insert", None, None)]
    ask("KL.DROP", "halls")


def test_each_of_many_sales_in_one_exec_has_its_own(
    connect: Callable[..., Any], as_map: Callable[[Any], dict[Any, Any]]
) -> None:
    client = connect(protocol=3)
    ask = client.execute_command
    for table in ("halls", "boxes"):
        ask("KL.CREATE", table, "SCHEMA", "state", "U8", "INDEX", "left", "COUNTER")
        for seat in (1, 2, 3):
            ask("KL.INSERT", f"{table}:{seat}", "state", 0, "left", 9)

    def sale(table: str, before: int, *more: Any) -> tuple[Any, ...]:
        return ("KL.CLAIM", table, "state", before, "SET", "state", before + 1, *more)

    with client.pipeline(transaction=True) as both:
        both.execute_command(*sale("halls", 0, "COUNT", 2))  # nobody's
        both.execute_command(*sale("boxes", 0, "COUNT", 2, "FOR", "far", "REQUEST", "f"))
        both.execute_command(*sale("halls", 1))  # and again
        both.execute_command(*sale("halls", 2, "FOR", "ann", "REQUEST", "a"))
        both.execute_command("KL.RETURN", "halls", "FOR", "ann", 1, "SET", "state", 2)
        both.execute_command(*sale("halls", 2, "FOR", "bob", "REQUEST", "b"))
        both.execute_command("KL.CLAIM", "halls", "IDS", 1, 2, "TAKE", 2, "FROM", "left")
        both.execute_command("KL.CLAIM", "halls", "IDS", 1, 2, "TAKE", 1, "FROM", "left", "FOR", "cyd")
        assert both.execute() == [[1, 2], [1, 2], [1], [1], 1, [1], [2], [2]]

    def shown(key: str) -> list[tuple[bytes, bytes | None, bytes | None]]:
        entries = map(as_map, ask("KL.HISTORY", key))
        return [(entry[b"verb"], entry[b"owner"], entry[b"request"]) for entry in entries][:-1]

    nobodys = (b"claim", None, None)
    assert shown("halls:1") == [
        (b"claim", b"bob", b"b"),
        (b"return", b"ann", None),
        (b"claim", b"ann", b"a"),
        nobodys,
        nobodys,
    ]
    assert shown("halls:2") == [(b"claim", b"cyd", None), nobodys, nobodys]
    assert shown("boxes:2") == [(b"claim", b"far", b"f")]
    for table in ("halls", "boxes"):
        ask("KL.DROP", table)


def test_it_is_there_behind_a_restart(start: Callable[..., Server], connect: Callable[..., Any]) -> None:
    server = start()
    ask = connect(port=server.port, protocol=3).execute_command
    ask("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
    ask("KL.INSERT", 1, "is_booked", 0)
    ask("KL.CLAIM", "seats", "is_booked", 0, "SET", "is_booked", 1, "FOR", "ann", "REQUEST", "r1")
    before = ask("KL.HISTORY", 1)
    server.process.kill()
    server.process.wait()
    again = connect(port=start().port, protocol=3).execute_command
    assert again("KL.HISTORY", 1) == before
    assert [entry[b"owner"] for entry in before] == [b"ann", None]
