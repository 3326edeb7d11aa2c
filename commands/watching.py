"""What SLOWLOG, LATENCY and MONITOR ask of whoever looks on."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class SlowEntry(NamedTuple):
    id: int
    unix_seconds: int
    us: int
    words: list[bytes]
    address: str
    client_name: bytes


class LatencyEvent(NamedTuple):
    name: str
    unix_seconds: int
    ms: int
    most_ms: int


class SlowLogFacts(Protocol):
    def entries(self, count: int) -> list[SlowEntry]:
        """The newest first; a negative count is all."""
        ...

    def __len__(self) -> int: ...
    def clear(self) -> None: ...


class LatencyFacts(Protocol):
    def latest(self) -> list[LatencyEvent]: ...
    def history(self, event: str) -> list[tuple[int, int]]:
        """Unix seconds and ms, the oldest first."""
        ...

    def reset(self, events: list[str]) -> int: ...
