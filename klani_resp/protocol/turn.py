"""All that one turn of the loop received, parsed in one go: hiredis takes a chunk of each connection at once.

Invariants:
1. A connection's bytes never become part of another's requests. A secret number stands behind each chunk;
   when as many of them come out, at top level, as went in, each chunk was consumed by itself and whole.
2. Nothing comes out before that is certain. If it is not, the answer is None, and nothing was consumed.
"""

from __future__ import annotations

from typing import Any

import hiredis

from klani_resp.protocol.parser import (
    LOOKALIKES,
    SENTINEL,
    SENTINEL_NUMBER,
    ParserLimits,
    Request,
    announces_much,
    on_the_wire,
)


class TurnParser:
    """One per loop. It remembers nothing between two calls."""

    def __init__(self, limits: ParserLimits, chunk_bytes_max: int) -> None:
        # A chunk so small cannot hold a request above the limits; else each connection's parser judges them.
        self._is_within_limits = chunk_bytes_max <= limits.fast_bytes_max
        self._reader = hiredis.Reader()

    def parse(self, chunks: list[bytes]) -> list[list[Request]] | None:
        """The requests of each chunk, none of them empty; None when one is no series of whole requests.

        The chunks begin between two requests. 170 ns for KL.SEEK, where `RequestParser.feed` takes 400.
        """
        whole = SENTINEL.join((*chunks, b""))
        if not self._is_within_limits or announces_much(whole) is not None:
            return None
        reader = self._reader
        reader.feed(whole)
        gets, join = reader.gets, b"".join
        batches: list[list[Request]] = []
        try:
            for _ in chunks:
                requests: list[Request] = []
                request: Any = gets()
                while type(request) is list and request:
                    join(request)  # TypeError unless all of them are bytes
                    requests.append(request)
                    request = gets()
                if request != SENTINEL_NUMBER:
                    break
                batches.append(requests)
            is_whole = len(batches) == len(chunks) and gets() is False
        except Exception:  # whichever it is, each connection's own parser finds out whose fault it is
            is_whole = False
        if not is_whole:
            self._reader = hiredis.Reader()
            return None
        if len(whole.translate(None, LOOKALIKES)) < len(whole) and not _as_sent(batches, chunks):
            return None
        return batches


def _as_sent(batches: list[list[Request]], chunks: list[bytes]) -> bool:
    """Whether the requests are those on the wire: hiredis reads some types that are none of a request's."""
    return all(
        len(chunk.translate(None, LOOKALIKES)) == len(chunk) or on_the_wire(requests) == chunk
        for requests, chunk in zip(batches, chunks, strict=True)
    )
