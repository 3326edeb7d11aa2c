"""What a session knows of the stream that it is at the end of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nobody(data: bytes = b"") -> None:
    """There is no stream, or none any more."""


@dataclass(frozen=True, slots=True)
class Transport:
    """Where a client comes from; CLIENT LIST says all but the host."""

    address: str
    local_address: str
    fd: int = -1
    host: str = ""  # of the address; "" is a unix socket's
    is_unix: bool = False  # then both addresses are the socket's path and a port of 0, as in Redis

    @property
    def origin(self) -> str:
        """As MONITOR has it."""
        return f"unix:{self.address.removesuffix(':0')}" if self.is_unix else self.address


@dataclass(slots=True)
class Line:
    """What can be done to a session's stream from elsewhere; set by the road that serves it."""

    end: Callable[[], None] = _nobody  # closes it at once
    deliver: Callable[[bytes], None] = _nobody  # sends what is no reply
    waiting_bytes: Callable[[], int] = lambda: 0  # of replies that did not go out yet
    unread_bytes: Callable[[], int] = lambda: 0  # of these, what waits for nothing but that the client reads
    is_held: Callable[[], bool] = lambda: False  # replies wait for the disk
    aside: bytes = b""  # what is no reply either, and goes behind that of the command under way
