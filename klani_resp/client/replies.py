"""Raw replies to typed values: one function for each form, whatever the connection's protocol and decoding.

A map is a dict in RESP3 and a flat list in RESP2. Strings come as bytes (commands ask redis-py for that), but
as str in the replies to a MULTI that the caller's own decoding pipeline has sent: those are encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from klani_resp.client.values import (
    Column,
    Hold,
    LiveHold,
    LiveLock,
    Page,
    Row,
    TableInfo,
    Verdict,
    Write,
)

Raw = Any  # what a RESP parser may make: int, bytes, str, None, list, dict


def integer(reply: Raw) -> int:
    return int(reply)


def integer_or_none(reply: Raw) -> int | None:
    return None if reply is None else int(reply)


def truth(reply: Raw) -> bool:
    """Of a status or a count: False is 0."""
    return bool(reply != 0)


def text(reply: Raw) -> str:
    return reply if isinstance(reply, str) else reply.decode()


def ids(reply: Raw) -> list[int]:
    return list(reply)


def texts(reply: Raw) -> list[str]:
    return [text(one) for one in reply]


def row_of(row_id: int) -> Callable[[Raw], Row | None]:
    """Of a command that knows its row's id."""

    def parse(reply: Raw) -> Row | None:
        return None if reply is None else _row(row_id, reply)

    return parse


def hold(reply: Raw) -> Hold | None:
    if not reply:
        return None
    token, held, deadline_ms = reply
    return Hold(token, held, deadline_ms)


def holds(reply: Raw) -> list[LiveHold]:
    return [LiveHold(token, _bytes(owner), held, ms_left) for token, owner, held, ms_left in reply]


def locks(reply: Raw) -> list[LiveLock]:
    return [
        LiveLock(row_id, token, _bytes_or_none(attempt), ms_left) for row_id, token, attempt, ms_left in reply
    ]


def table_info(reply: Raw) -> TableInfo:
    facts = _named(reply)
    schema = [Column(text(name), text(type_), bool(indexed)) for name, type_, indexed in facts.pop("schema")]
    return TableInfo(schema=schema, **facts)


def verdict(reply: Raw) -> Verdict:
    counted = _named(reply)
    return Verdict(**{**counted, "ok": bool(counted["ok"])})


def page(reply: Raw) -> Page:
    cursor, rows = reply
    return Page(int(cursor), [_row(row_id, fields) for row_id, fields in rows])


def writes_of(row_id: int) -> Callable[[Raw], list[Write]]:
    def parse(reply: Raw) -> list[Write]:
        return [_write(row_id, _named(one)) for one in reply]

    return parse


def _write(row_id: int, facts: dict[str, Raw]) -> Write:
    return Write(
        position=facts["position"],
        unix_ms=facts["unix_ms"],
        verb=text(facts["verb"]),
        token=facts["token"],
        owner=_bytes_or_none(facts["owner"]),
        request=_bytes_or_none(facts["request"]),
        row=_row(row_id, facts["row"]),
    )


def _row(row_id: int, reply: Raw) -> Row:
    return Row(
        row_id,
        {  # in one pass and without calls: the helper's time is mostly here
            name if isinstance(name, str) else name.decode(): (
                value.encode() if isinstance(value, str) else value
            )
            for name, value in _items(reply)
        },
    )


def _bytes(value: Raw) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _bytes_or_none(value: Raw) -> bytes | None:
    return None if value is None else _bytes(value)


def _named(reply: Raw) -> dict[str, Raw]:
    return {text(name): value for name, value in _items(reply)}


def _items(reply: Raw) -> Iterable[tuple[Raw, Raw]]:
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
