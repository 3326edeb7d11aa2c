"""The selling verbs: one function for each, its arguments to words and a parser.

`claim`, `hold` and `give_back` send a fresh REQUEST id with each call unless told, so a resend is answered as
the first sending was. An id of the caller's own holds over its restarts, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from klani_resp.client import replies
from klani_resp.client.values import Fields, Hold, LiveHold, Word
from klani_resp.client.words import (
    FRESH,
    Command,
    Name,
    assigned,
    clause,
    counted,
    pairs,
    requesting,
    taken,
)

NOTHING: Mapping[str, Word] = MappingProxyType({})
Owner = str | bytes


def claim(
    table: str,
    match: Fields = NOTHING,
    set: Fields = NOTHING,
    *,
    count: int | None = None,
    ids: Iterable[int] | None = None,
    adjacent: str | None = None,
    within: str | None = None,
    take: int | None = None,
    from_: str | None = None,
    owner: Owner | None = None,
    max: int | None = None,
    request: Name = FRESH,
) -> Command[list[int]]:
    """KL.CLAIM: sells rows that match, all or none; their ids, empty when sold out. Raises Busy, Limit."""
    words: list[Word] = ["KL.CLAIM", table, *pairs(match), *assigned(set)]
    words += _chosen(count, ids, adjacent, within, take, from_)
    words += [*clause("FOR", owner), *clause("MAX", max)]
    return requesting(words, request, replies.ids)


def hold(
    table: str,
    match: Fields = NOTHING,
    *,
    ms: int,
    owner: Owner,
    count: int | None = None,
    ids: Iterable[int] | None = None,
    adjacent: str | None = None,
    within: str | None = None,
    take: int | None = None,
    from_: str | None = None,
    max: int | None = None,
    replacing: int | None = None,
    request: Name = FRESH,
) -> Command[Hold | None]:
    """KL.HOLD: keeps rows aside for `ms`, all or none; None when sold out. Raises Busy, Limit, NoHold."""
    words: list[Word] = ["KL.HOLD", table, *pairs(match), "PX", ms, "FOR", owner]
    words += _chosen(count, ids, adjacent, within, take, from_)
    words += [*clause("MAX", max), *clause("REPLACING", replacing)]
    return requesting(words, request, replies.hold)


def confirm(token: int, set: Fields = NOTHING) -> Command[list[int]]:
    """KL.CONFIRM: sells what is held, once however often it is sent. Raises Resold, NoHold, RequestReused."""
    return Command(["KL.CONFIRM", token, *assigned(set)], replies.ids)


def release(token: int) -> Command[int]:
    """KL.RELEASE: ends a hold; how many rows went back, 0 when it was over."""
    return Command(["KL.RELEASE", token], replies.integer)


def extend(token: int, *, ms: int) -> Command[int]:
    """KL.EXTEND: the hold's new deadline as unix ms, `ms` from now. Raises NoHold."""
    return Command(["KL.EXTEND", token, "PX", ms], replies.integer)


def holds(table: str, *, owner: Owner | None = None) -> Command[list[LiveHold]]:
    """KL.HOLDS: those that live, of all owners or of one."""
    return Command(["KL.HOLDS", table, *clause("FOR", owner)], replies.holds)


def give_back(
    table: str,
    ids: Iterable[int],
    set: Fields = NOTHING,
    *,
    owner: Owner,
    take: int | None = None,
    from_: str | None = None,
    request: Name = FRESH,
) -> Command[int]:
    """KL.RETURN: a refund; how many rows went back. One that was not sold to `owner` counts 0."""
    words: list[Word] = ["KL.RETURN", table, "FOR", owner, *ids, *taken(take, from_), *assigned(set)]
    return requesting(words, request, replies.integer)


def _chosen(
    count: int | None,
    ids: Iterable[int] | None,
    adjacent: str | None,
    within: str | None,
    take: int | None,
    from_: str | None,
) -> list[Word]:
    return [
        *clause("COUNT", count),
        *counted(ids),
        *clause("ADJACENT", adjacent),
        *clause("WITHIN", within),
        *taken(take, from_),
    ]
