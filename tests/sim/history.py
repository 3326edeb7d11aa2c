"""One client's sendings as operations with a beginning and an end, and groups of them that share rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

from tests.sim.commands import LOST, Command


@dataclass(slots=True, eq=False)
class Op:
    """One sending of a command. Moments are numbers that rise with each event, or ns of a real clock.

    Without a reply `returned` is the moment from which on it cannot take effect any more, as far as that is
    known: its connection had ended at the server too, or the server had died.
    """

    client: int
    command: Command
    called: float
    called_ns: int = 0
    returned: float = inf
    returned_ns: int = 1 << 62
    reply: Any = LOST

    @property
    def is_lost(self) -> bool:
        return self.reply is LOST

    def answered(self, moment: float, now_ns: int, reply: Any) -> None:
        self.returned, self.returned_ns, self.reply = moment, now_ns, reply

    def ended(self, moment: float, now_ns: int) -> None:
        """No reply will come, and no effect from here on."""
        if self.is_lost and self.returned == inf:
            self.returned, self.returned_ns = moment, now_ns

    def __str__(self) -> str:
        end = "" if self.returned == inf else f"{self.returned:g}"
        clock = f"{self.called_ns}..{self.returned_ns}" if end else f"{self.called_ns}.."
        return (
            f"[{self.called:g}..{end}] client {self.client}: {self.command} -> {self.reply!r} at {clock} ns"
        )


@dataclass(slots=True, eq=False)
class History:
    """What happened to the rows of one group, which no operation of another touches."""

    name: str
    room: int = 84  # for what clients send; what is read behind each crash comes on top
    ops: list[Op] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([self.name, *map(str, self.ops)])
