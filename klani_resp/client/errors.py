"""What the server refuses, as exceptions: the first word of an error is its class.

All derive from redis.exceptions.ResponseError, so handlers that a service has already go on working. What
redis-py has a class for itself (NOAUTH, NOPERM, LOADING, EXECABORT) and ERR, a command that is wrong in
itself, stay as redis-py raises them.
"""

from __future__ import annotations

from redis.exceptions import OutOfMemoryError, ResponseError


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
}


def of_kl(error: ResponseError) -> ResponseError:
    """The same refusal under its own class, with the server's words; what has none comes back as it is."""
    if isinstance(error, KLError):
        return error
    if isinstance(error, OutOfMemoryError):
        return RequestsFull(*error.args)
    own = _BY_FIRST_WORD.get(str(error).partition(" ")[0])
    return error if own is None else own(*error.args)
