"""When a command is sent again, and what is raised when it is not; no I/O, so that all front ends share it.

redis-py 5 sends nothing again unless told, redis-py 8 does. So the helper does it on top, but not for long:
where redis-py has tried for its own time, nothing is added.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, TimeoutError

from klani_resp.client.errors import ConnectionLost, TimedOut, Unanswered
from klani_resp.client.words import Command, Sent

RESENDS = 3
RESEND_SECONDS = 10.0  # none begins later than this behind the first sending
FIRST_PAUSE_SECONDS = 0.05
PAUSE_GROWS = 4

LOST = (ConnectionError, TimeoutError)


class Resending:
    """The sendings of one call. None in place of a command is one that is not the helper's own."""

    __slots__ = ("_began", "_commands", "_left", "_lost", "_sendings")

    def __init__(self, commands: Sequence[Command[Any] | None], resends: int) -> None:
        self._commands = commands
        self._left = resends
        self._began = time.monotonic()
        self._sendings = 0
        self._lost: Exception | None = None

    def pause(self, error: Exception) -> float:
        """Seconds until the next sending. Raises when there is none."""
        self._sendings += 1
        if type(error) in LOST:  # others name what has refused: LOADING, a wrong password, a pool's limit
            self._lost = error
        if not self._is_sent_again(error):
            self._give_up(error)
        self._left -= 1
        longest: float = FIRST_PAUSE_SECONDS * PAUSE_GROWS ** (self._sendings - 1)
        return longest * random.uniform(0.5, 1.0)  # apart from those whose answers were lost with ours

    def _is_sent_again(self, error: Exception) -> bool:
        return (
            self._left > 0
            and time.monotonic() < self._began + RESEND_SECONDS
            and not isinstance(error, AuthenticationError | AuthorizationError)
            and all(command is not None and command.sent is Sent.AGAIN for command in self._commands)
        )

    def _give_up(self, error: Exception) -> NoReturn:
        if self._lost is None:
            raise error
        raise self._unanswered(self._lost) from error

    def _unanswered(self, lost: Exception) -> Unanswered:
        names = [str(command.words[0]) if command else "a command" for command in self._commands]
        requests = [command.request if command else None for command in self._commands]
        attempts = [command.attempt if command else None for command in self._commands]
        ids = [f"REQUEST {one!r}" for one in requests if one] + [f"OWNER {one!r}" for one in attempts if one]
        about = ", ".join([*dict.fromkeys(names), *ids])
        kind = TimedOut if isinstance(lost, TimeoutError) else ConnectionLost
        return kind(f"{lost} (no answer to {about}; calls made: {self._sendings})", requests, attempts)
