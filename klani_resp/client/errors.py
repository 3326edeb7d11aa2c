"""What the server refuses, or leaves unanswered, as exceptions: the first word of an error is its class.

Refusals derive from redis.exceptions.ResponseError, so handlers that are there already go on working. What
redis-py has a class for (NOAUTH, NOPERM, LOADING, EXECABORT) and ERR, a command that is wrong in itself, stay
as redis-py raises them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redis.exceptions import ConnectionError, OutOfMemoryError, RedisError, ResponseError, TimeoutError

from klani_resp.client.values import Id


class KLError(ResponseError):
    """The server refused, and nothing has changed."""


class NoLock(KLError):
    """The lock has ended, or is another's. An earlier sending may have taken effect: `seek` tells."""


class NoHold(KLError):
    """There is no such hold: it was released or replaced, it is over, or it ended too long ago."""


class Exists(KLError):
    """The row is there with other contents, or the table with another schema."""


class NoRow(KLError):
    """There is no such row."""


class Busy(KLError):
    """Enough rows match, but others have locked or held them: worth another try, with the same request id."""


class Limit(KLError):
    """The owner would have more than `max`."""


class RequestReused(KLError):
    """The request id was used for something else, or a hold was confirmed with other values."""


class DiskFull(KLError):
    """The server has no room for writes now; reads, `confirm`, `release` and `unlock` go on."""


class RequestsFull(KLError, OutOfMemoryError):
    """The room for remembered requests and holds is full: the server's `remembered_bytes_max`."""


class Resold(KLError):
    """The payment came too late: rows of the hold are others' now, and nothing was sold."""

    @property
    def ids(self) -> list[int]:
        """Those that are gone."""
        return [int(word) for word in str(self).split()[1:]]


class Locked(KLError):
    """Raised by `lock`: one of the rows is locked or held by another."""


class Unanswered(RedisError):
    """No answer came, and whether it took effect is not known. The same call with `request=error.request`
    (`attempt=error.attempt`) is the same request still, and its answer tells."""

    def __init__(
        self, text: str = "", requests: Sequence[Id | None] = (), attempts: Sequence[Id | None] = ()
    ) -> None:
        super().__init__(text)
        self.requests = list(requests)
        """One for each command of a pipeline; None where it has none."""
        self.attempts = list(attempts)

    @property
    def request(self) -> Id | None:
        """The REQUEST that was sent; the first, of a pipeline's."""
        return next((one for one in self.requests if one is not None), None)

    @property
    def attempt(self) -> Id | None:
        """The OWNER that a TRYLOCK was sent with; the first, of a pipeline's."""
        return next((one for one in self.attempts if one is not None), None)


class ConnectionLost(Unanswered, ConnectionError):
    """Where redis-py alone would raise its ConnectionError."""


class TimedOut(Unanswered, TimeoutError):
    """Where redis-py alone would raise its TimeoutError."""


_BY_FIRST_WORD: dict[str, type[KLError]] = {
    "NOLOCK": NoLock,
    "NOHOLD": NoHold,
    "EXISTS": Exists,
    "NOROW": NoRow,
    "BUSY": Busy,
    "LIMIT": Limit,
    "REQUEST": RequestReused,
    "RESOLD": Resold,
    "MISCONF": DiskFull,
    "OOM": RequestsFull,  # where EXEC tells it; redis-py has a class for one that stands alone
}


# What stands before the server's words: redis-py's own pipelines write the command there, whose text may be
# anything, and EXEC that it was aborted.
_PREFIX = re.compile(
    r"(?:Command # \d+ \(.*\) of pipeline caused error: |Transaction discarded because of: )",
    re.DOTALL,
)


def of_kl(error: ResponseError) -> ResponseError:
    """The same refusal under its own class, with the server's words; what has none comes back as it is."""
    if isinstance(error, KLError):
        return error
    words = _PREFIX.sub("", str(error), count=1)
    own = RequestsFull if isinstance(error, OutOfMemoryError) else _BY_FIRST_WORD.get(words.partition(" ")[0])
    if own is None:
        return error
    named = own(words, *error.args[1:])
    for note in getattr(error, "__notes__", ()):
        named.add_note(note)
    return named
