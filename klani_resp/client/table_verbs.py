"""Tables, rows and locks: one function for each verb, its arguments to words and a parser."""

from __future__ import annotations

from collections.abc import Mapping

from klani_resp.client import replies
from klani_resp.client.values import (
    Fields,
    Key,
    LiveLock,
    Page,
    Row,
    TableInfo,
    Verdict,
    Word,
    Write,
)
from klani_resp.client.words import (
    FRESH,
    Command,
    Name,
    Sent,
    attempting,
    clause,
    flag,
    pairs,
    row_id,
    schema,
)


def create(table: str, columns: Mapping[str, str], *, if_not_exists: bool = False) -> Command[bool]:
    """KL.CREATE. Columns by name, in the words of the wire: `{"rank": "U32 INDEX", "note": "BYTES 16"}`."""
    words = ["KL.CREATE", table, *flag("IFNOTEXISTS", if_not_exists), "SCHEMA", *schema(columns)]
    return Command(words, replies.truth, Sent.AGAIN if if_not_exists else Sent.ONCE)


def drop(table: str) -> Command[bool]:
    """KL.DROP: whether there was such a table."""
    return Command(["KL.DROP", table], replies.truth, Sent.ONCE)


def tables() -> Command[list[str]]:
    """KL.TABLES: their names, sorted."""
    return Command(["KL.TABLES"], replies.texts)


def info(table: str) -> Command[TableInfo]:
    """KL.INFO: schema, sizes, locks and holds."""
    return Command(["KL.INFO", table], replies.table_info)


def insert(key: Key, fields: Fields) -> Command[bool]:
    """KL.INSERT. True also when the row is there with these contents; Exists when it has others."""
    return Command(["KL.INSERT", key, *pairs(fields)], replies.truth)


def seek(key: Key, *fields: str) -> Command[Row | None]:
    """KL.SEEK: the row, with all its fields or those named; None where there is none."""
    return Command(["KL.SEEK", key, *fields], replies.row_of(row_id(key)))


def intersect(
    table: str, match: Fields, *, free: bool = False, after: int | None = None, limit: int | None = None
) -> Command[list[int]]:
    """KL.INTERSECT: ids of the rows that match, ascending; 64 of them unless told, `limit=0` is all."""
    words = ["KL.INTERSECT", table, *pairs(match), *flag("FREE", free)]
    return Command([*words, *clause("AFTER", after), *clause("LIMIT", limit)], replies.ids)


def count(table: str, match: Fields, *, free: bool = False) -> Command[int]:
    """KL.COUNT: how many rows match."""
    return Command(["KL.COUNT", table, *pairs(match), *flag("FREE", free)], replies.integer)


def scan_page(table: str, cursor: int = 0, *, count: int | None = None) -> Command[Page]:
    """KL.SCAN, one step of it; `scan` takes them all."""
    return Command(["KL.SCAN", table, cursor, *clause("COUNT", count)], replies.page)


def trylock(key: Key, *more: Key, ms: int | None = None, attempt: Name = FRESH) -> Command[int | None]:
    """KL.TRYLOCK: a token, or None when one of the rows is locked or held by another."""
    return attempting(["KL.TRYLOCK", key, *more, *clause("PX", ms)], attempt, replies.integer_or_none)


def replace(key: Key, token: int, fields: Fields, *, unlock: bool = False) -> Command[bool]:
    """KL.REPLACE: writes fields of a locked row, durably; NoLock when the lock is gone."""
    return Command(["KL.REPLACE", key, token, *pairs(fields), *flag("UNLOCK", unlock)], replies.truth)


def unlock(key: Key, *more: Key, token: int) -> Command[int]:
    """KL.UNLOCK: how many of the rows were released."""
    return Command(["KL.UNLOCK", key, *more, token], replies.integer)


def locks(table: str, *, limit: int | None = None) -> Command[list[LiveLock]]:
    """KL.LOCKS: those that live, by row id."""
    return Command(["KL.LOCKS", table, *clause("LIMIT", limit)], replies.locks)


def verify(table: str, field: str, value: Word) -> Command[Verdict]:
    """KL.VERIFY: the rows with this value, counted three times from what is on disk."""
    return Command(["KL.VERIFY", table, *pairs({field: value})], replies.verdict, Sent.ONCE)


def history(key: Key, *, limit: int | None = None) -> Command[list[Write]]:
    """KL.HISTORY: the row's writes, newest first; 64 of them unless told."""
    return Command(["KL.HISTORY", key, *clause("LIMIT", limit)], replies.writes_of(row_id(key)))


def backup(name: str) -> Command[str]:
    """KL.BACKUP: the path of a consistent copy on the server's machine."""
    return Command(["KL.BACKUP", name], replies.text, Sent.ONCE)
