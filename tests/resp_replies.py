"""Replies as they are on the wire, each with its type."""

from __future__ import annotations

from dataclasses import dataclass

CONTAINERS = {b"*": 1, b"%": 2, b"~": 1, b">": 1}


@dataclass(frozen=True)
class Reply:
    kind: bytes  # `_` is null in either protocol
    value: bytes = b""
    parts: tuple[Reply, ...] = ()

    @property
    def is_error(self) -> bool:
        return self.kind == b"-"


def read_replies(data: bytes) -> list[Reply]:
    """All of them; ValueError when the last one is cut short, or anything is none."""
    replies: list[Reply] = []
    at = 0
    while at < len(data):
        reply, at = _read(data, at)
        replies.append(reply)
    return replies


def _read(data: bytes, at: int) -> tuple[Reply, int]:
    end = data.index(b"\r\n", at)
    kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
    if kind in (b"+", b"-", b":", b",", b"#"):
        return Reply(kind, line), at
    if kind == b"_" or line == b"-1":
        return Reply(b"_"), at
    if kind in (b"$", b"="):
        end = at + int(line)
        if data[end : end + 2] != b"\r\n":
            raise ValueError(f"a bulk without its end: {data[at:][:80]!r}")
        return Reply(kind, data[at:end]), end + 2
    if kind not in CONTAINERS:
        raise ValueError(f"no reply: {data[at - len(line) - 3 :][:80]!r}")
    parts: list[Reply] = []
    for _ in range(int(line) * CONTAINERS[kind]):
        part, at = _read(data, at)
        parts.append(part)
    return Reply(kind, parts=tuple(parts)), at
