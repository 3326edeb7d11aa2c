"""Who looks on while commands are carried out: the slow log, the latency monitor, MONITOR.

All of them stand on Statistics.watch: they cost nothing but to the commands that they are to see.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from commands.spec import Command, Context, Flags
from commands.watching import LatencyEvent, SlowEntry
from klani_resp.insight.statistics import Statistics
from klani_resp.protocol.quoting import quoted

if TYPE_CHECKING:
    from klani_resp.sessions.session import Session

ENTRY_ARGUMENTS_MAX = 32  # of the slow log, as in Redis
ENTRY_ARGUMENT_BYTES_MAX = 128
LATENCY_SAMPLES = 160  # of an event; one a second at most
SYNC_EVENT = "aof-fsync-always"
CHECKPOINT_EVENT = "checkpoint"


class SlowLog:
    """SLOWLOG: the last commands that took long, the newest first."""

    def __init__(self, statistics: Statistics, commands: Mapping[str, Command]) -> None:
        self._statistics = statistics
        self._commands = commands
        self._entries: deque[SlowEntry] = deque()
        self._next_id = 0

    def configure(self, slower_than_us: int, max_len: int) -> None:
        """0 us sees every command, a negative number none."""
        self._entries = deque(self._entries, max_len)
        if slower_than_us < 0 or max_len == 0:
            self._statistics.unwatch("slowlog")
        else:
            self._statistics.watch("slowlog", slower_than_us * 1000, self._note)

    def _note(self, name: str, ns: int, context: Context, argv: list[bytes]) -> None:
        session = cast("Session", context.client)
        entry = SlowEntry(
            self._next_id,
            int(time.time()),
            ns // 1000,
            _shortened(self._commands[name].shown(argv)),
            session.transport.address,
            session.name,
        )
        self._next_id += 1
        self._entries.appendleft(entry)

    def entries(self, count: int) -> list[SlowEntry]:
        """A negative count is all."""
        entries = list(self._entries)
        return entries if count < 0 else entries[:count]

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        self._entries.clear()


def _shortened(argv: list[bytes]) -> list[bytes]:
    """As Redis does it."""
    shown = argv
    if len(argv) > ENTRY_ARGUMENTS_MAX:
        more = len(argv) - ENTRY_ARGUMENTS_MAX + 1
        shown = [*argv[: ENTRY_ARGUMENTS_MAX - 1], b"... (%d more arguments)" % more]
    most = ENTRY_ARGUMENT_BYTES_MAX
    return [
        word if len(word) <= most else word[:most] + b"... (%d more bytes)" % (len(word) - most)
        for word in shown
    ]


@dataclass(slots=True)
class _Event:
    samples: deque[tuple[int, int]]  # unix seconds, ms
    most_ms: int = 0


class LatencyMonitor:
    """LATENCY: by event, the seconds in which something took long, and how long at most."""

    def __init__(self, statistics: Statistics, commands: Mapping[str, Command]) -> None:
        self._statistics = statistics
        self._commands = commands
        self._events: dict[str, _Event] = {}
        self._threshold_ns = 0

    def configure(self, threshold_ms: int) -> None:
        """0 sees nothing."""
        self._threshold_ns = threshold_ms * 1_000_000
        if threshold_ms:
            self._statistics.watch("latency", self._threshold_ns, self._note)
        else:
            self._statistics.unwatch("latency")

    def _note(self, name: str, ns: int, context: Context, argv: list[bytes]) -> None:
        is_fast = self._commands[name].flags & Flags.FAST
        self._add("fast-command" if is_fast else "command", ns)

    def synced(self, ns: int) -> None:
        """A sync of the log took so long."""
        self._took(SYNC_EVENT, ns)

    def checkpointed(self, ns: int) -> None:
        """A checkpoint took so long, beside the loop."""
        self._took(CHECKPOINT_EVENT, ns)

    def _took(self, event: str, ns: int) -> None:
        if self._threshold_ns and ns >= self._threshold_ns:
            self._add(event, ns)

    def _add(self, name: str, ns: int) -> None:
        event = self._events.setdefault(name, _Event(deque(maxlen=LATENCY_SAMPLES)))
        now, ms = int(time.time()), ns // 1_000_000
        event.most_ms = max(event.most_ms, ms)
        if event.samples and event.samples[-1][0] == now:
            ms = max(ms, event.samples.pop()[1])
        event.samples.append((now, ms))

    def latest(self) -> list[LatencyEvent]:
        return [LatencyEvent(n, *e.samples[-1], e.most_ms) for n, e in self._events.items()]

    def history(self, event: str) -> list[tuple[int, int]]:
        found = self._events.get(event)
        return [] if found is None else list(found.samples)

    def reset(self, events: list[str]) -> int:
        """How many were there; no names are all."""
        chosen = [name for name in self._events if not events or name in events]
        for name in chosen:
            del self._events[name]
        return len(chosen)


class Monitors:
    """MONITOR: connections that are sent a line for each command of anybody."""

    def __init__(self, statistics: Statistics, commands: Mapping[str, Command]) -> None:
        self._statistics = statistics
        self._commands = commands
        self._sessions: dict[int, Session] = {}

    def add(self, session: Session) -> None:
        session.look_on(True)
        self._sessions[session.id] = session
        self._statistics.watch("monitor", 0, self._note)

    def remove(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            session.look_on(False)
            if not self._sessions:
                self._statistics.unwatch("monitor")

    def _note(self, name: str, ns: int, context: Context, argv: list[bytes]) -> None:
        command = self._commands[name]
        if command.flags_of(argv) & Flags.ADMIN:  # as in Redis: not MONITOR itself, nor what operators do
            return
        origin = cast("Session", context.client).transport.origin
        words = b" ".join(map(quoted, command.shown(argv)))
        line = b"+%.6f [0 %b] %b\r\n" % (time.time(), origin.encode(), words)
        for session in list(self._sessions.values()):
            if session is context.client:  # its own reply comes first, as in Redis
                session.line.aside += line
            else:
                session.line.deliver(line)
