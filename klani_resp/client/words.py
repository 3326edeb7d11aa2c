"""The words of a command, and what its reply becomes: no I/O, so that all front ends share it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from klani_resp.client.values import Fields, Id, Key, Word

T = TypeVar("T")

NAME_BYTES_MAX = 64  # of a request id, as of an attempt
FRESH_BYTES = 16  # random ones, as many as a UUID has, made in a third of its time


class Sent(Enum):
    """What is done about an answer that does not come."""

    AGAIN = "it is sent again by the helper: what a second sending does is what the first has done"
    AS_SET_UP = "redis-py's own retries send it again, if there are any"
    ONCE = "nobody sends it again; it has a connection of its own, without a read time-out"


class Command(NamedTuple, Generic[T]):
    words: list[Word]
    parse: Callable[[Any], T]
    sent: Sent = Sent.AGAIN
    request: Id | None = None
    attempt: Id | None = None


class _Fresh(Enum):
    FRESH = "a fresh id for each call"

    def __repr__(self) -> str:
        return self.name


FRESH: Final = _Fresh.FRESH
"""The id is made by the helper: what is sent again is known for a resend."""

Name = Id | int | _Fresh | None
"""An id of the caller's own, FRESH, or None to send none."""


def requesting(words: list[Word], request: Name, parse: Callable[[Any], T]) -> Command[T]:
    """A command that the server knows by its REQUEST when it comes again."""
    own = _id("REQUEST", request)
    if own is None:
        return Command(words, parse, Sent.AS_SET_UP)
    return Command([*words, "REQUEST", own], parse, request=own)


def attempting(words: list[Word], attempt: Name, parse: Callable[[Any], T]) -> Command[T]:
    """A command that the server knows by its OWNER when it comes again."""
    own = _id("OWNER", attempt)
    if own is None:
        return Command(words, parse, Sent.AS_SET_UP)
    return Command([*words, "OWNER", own], parse, attempt=own)


def _id(word: str, name: Name) -> Id | None:
    """The length is checked here: the server's refusal would begin with REQUEST, too."""
    if name is None:
        return None
    if name is FRESH:
        return secrets.token_hex(FRESH_BYTES)
    own = str(name) if isinstance(name, int) else name
    if not isinstance(own, str | bytes):
        raise TypeError(f"{word} is str, bytes or int, not {type(own).__name__}")
    size = len(own.encode() if isinstance(own, str) else own)
    if not 1 <= size <= NAME_BYTES_MAX:
        raise ValueError(f"{word} takes 1 to {NAME_BYTES_MAX} bytes, not {size}")
    return own


def clause(word: str, value: Word | None) -> list[Word]:
    return [] if value is None else [word, value]


def flag(word: str, is_on: bool) -> list[Word]:
    return [word] if is_on else []


def pairs(fields: Fields) -> list[Word]:
    words: list[Word] = []
    for name, value in fields.items():
        words += (name, int(value) if isinstance(value, bool) else value)  # redis-py sends no bool
    return words


def assigned(fields: Fields) -> list[Word]:
    return ["SET", *pairs(fields)] if fields else []


def counted(ids: Iterable[int] | None) -> list[Word]:
    if ids is None:
        return []
    chosen = list(ids)
    return ["IDS", len(chosen), *chosen]


def taken(take: int | None, from_: str | None) -> list[Word]:
    if (take is None) != (from_ is None):
        raise ValueError("take and from_ belong together: how many, from which counter")
    return [] if take is None or from_ is None else ["TAKE", take, "FROM", from_]


def schema(columns: Mapping[str, str]) -> list[Word]:
    return [word for name, kind in columns.items() for word in (name, *kind.split())]


def row_id(key: Key) -> int:
    """The id in a row's key."""
    if isinstance(key, int):
        return key
    if not isinstance(key, str | bytes):
        raise TypeError(f"a row key is int, str or bytes, not {type(key).__name__}")
    number = (key if isinstance(key, str) else key.decode()).rpartition(":")[2]
    if not number.isdecimal():
        raise ValueError(f"no row key: {key!r} is neither an id nor <table>:<id>")
    return int(number)
