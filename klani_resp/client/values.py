"""What goes in and what comes out: keys, rows, and the answers that are more than a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

Key = int | str | bytes
"""A row: an id in the default table, or `"<table>:<id>"`, as the client's own `scan_iter` has them."""

Word = int | str | bytes
"""A field's value on its way to the server; True is 1, False is 0."""

Id = str | bytes
"""What names a request, or an attempt."""

Fields = Mapping[str, Word]

T = TypeVar("T")


class Row(Mapping[str, Any]):
    """The fields of a row by name, as they were when it was read: BYTES as bytes, all other types as int.

    Immutable; `id` is the row's id.
    """

    __slots__ = ("_fields", "id")

    def __init__(self, row_id: int, fields: dict[str, Any]) -> None:
        self.id: Final = row_id
        self._fields = fields

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        """Rows are equal when id and fields are; a row and a plain mapping, when the fields are."""
        if isinstance(other, Row):
            return self.id == other.id and self._fields == other._fields
        return self._fields == other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}, {self._fields})"

    def into(self, make: Callable[..., T]) -> T:
        """The fields as the caller's own type: `row.into(Seat)` is `Seat(rank=..., is_booked=...)`."""
        return make(**self._fields)


@dataclass(frozen=True, slots=True)
class Hold:
    """Rows that `hold` has kept aside. The token is what to store with the order."""

    token: int
    ids: list[int]
    deadline_ms: int
    """Unix time."""


@dataclass(frozen=True, slots=True)
class LiveHold:
    token: int
    owner: bytes
    ids: list[int]
    ms_left: int


@dataclass(frozen=True, slots=True)
class LiveLock:
    id: int
    token: int
    attempt: bytes | None
    ms_left: int


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    indexed: bool


@dataclass(frozen=True, slots=True)
class TableInfo:
    schema: list[Column]
    rows: int
    bytes: int
    locks: int
    holds: int
    appended: int
    durable: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What KL.VERIFY counted: from the row file, from checkpoint and log, from the index."""

    rows: int
    matched: int
    log_matched: int
    index_matched: int
    corrupt: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a row, as KL.HISTORY has it."""

    position: int
    unix_ms: int
    verb: str
    token: int
    owner: bytes | None
    request: bytes | None
    row: Row


@dataclass(frozen=True, slots=True)
class Page:
    """One step of KL.SCAN; `cursor` 0 is the last."""

    cursor: int
    rows: list[Row]
