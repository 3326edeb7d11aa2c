"""ACL LOG: who was refused what, lately; and how often in all."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from commands.spec import Client

ENTRIES_MAX = 128
OBJECT_BYTES_MAX = 128
SAME_SECONDS = 60.0  # what is refused again within them is counted, not listed anew
REASONS = ("auth", "cmd", "key", "channel")  # as INFO names them


@dataclass(slots=True)
class Entry:
    number: int
    what: tuple[str, str, bytes, bytes]  # reason, context, object, user
    made_ms: int
    client_info: str
    updated_ms: int = 0
    updated_at: float = 0.0
    count: int = 0


class AccessLog:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)  # newest first
        self._made = 0

    def add(self, reason: str, where: str, what: bytes, user: bytes, client: Client) -> None:
        """`reason` is `auth`, `command` or `key`; `where` is `toplevel` or `multi`."""
        self.refused["cmd" if reason == "command" else reason] += 1
        now, now_ms = self._clock(), time.time_ns() // 1_000_000
        same = reason, where, what[:OBJECT_BYTES_MAX], user
        entry = next((one for one in self._entries if one.what == same), None)
        if entry is None or now - entry.updated_at > SAME_SECONDS:
            entry = Entry(self._made, same, now_ms, "")
            self._made += 1
        else:
            self._entries.remove(entry)
        entry.count += 1
        entry.updated_at, entry.updated_ms, entry.client_info = now, now_ms, client.describe()
        self._entries.appendleft(entry)

    def entries(self, count: int) -> list[dict[str, Any]]:
        now = self._clock()
        return [
            {
                "count": entry.count,
                **dict(zip(("reason", "context", "object", "username"), entry.what, strict=True)),
                "age-seconds": round(now - entry.updated_at, 3),
                "client-info": entry.client_info,
                "entry-id": entry.number,
                "timestamp-created": entry.made_ms,
                "timestamp-last-updated": entry.updated_ms,
            }
            for entry in list(self._entries)[:count]
        ]

    def clear(self) -> None:
        self._entries.clear()
