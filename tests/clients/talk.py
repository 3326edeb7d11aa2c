"""Requests as another program would send them, and their replies as its reader would have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis

from tests.conftest import Wire


class Talk:
    """Requests out in one piece, and as many replies as a reader of RESP3 makes of what comes back."""

    def __init__(self, wire: Wire, request_bytes: Callable[..., bytes]) -> None:
        self._wire = wire
        self._request_bytes = request_bytes
        self._reader = hiredis.Reader()

    def __call__(self, *lines: str) -> list[Any]:
        self._wire.send_bytes(b"".join(self._request_bytes(*line.split()) for line in lines))
        replies: list[Any] = []
        while len(replies) < len(lines):
            reply = self._reader.gets()
            if reply is not False:
                replies.append(reply)
                continue
            data = self._wire.receive(65536)
            assert data, f"the connection ended behind {replies!r}"
            self._reader.feed(data)
        return replies


def is_refused(reply: Any, text: str) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply) == text
