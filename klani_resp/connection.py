"""One socket of the reactor: its session, replies that wait for a position, bytes the kernel did not take."""

from __future__ import annotations

import socket

from klani_resp.session import Session


class Connection:
    """Replies go `held` -> `unsent` -> socket, each first in, first out."""

    __slots__ = (
        "fd",
        "held",
        "held_bytes",
        "input_ended",
        "is_closed",
        "is_working",
        "mask",
        "receive",
        "recv",
        "send",
        "session",
        "sock",
        "unsent",
    )

    def __init__(self, sock: socket.socket, session: Session, mask: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send
        self.session = session
        self.receive = session.receive
        self.held: list[tuple[int, bytes]] | None = None  # (position, replies), positions never fall
        self.held_bytes = 0
        self.unsent = b""
        self.mask = mask  # what epoll watches
        self.input_ended = False
        self.is_working = False  # a job of its session is under way
        self.is_closed = False

    def hold(self, position: int, reply: bytes) -> bool:
        """Keeps a reply until `position`; True when the connection held nothing before."""
        self.held_bytes += len(reply)
        held = self.held
        if held is None:
            self.held = [(position, reply)]
            return True
        held.append((max(position, held[-1][0]), reply))
        return False

    def take(self, released: int) -> bytes:
        """The replies that may go out now that the log is released up to here."""
        held = self.held
        if held is None:
            return b""
        if len(held) == 1 and held[0][0] <= released:
            self.held = None
            self.held_bytes = 0
            return held[0][1]
        count = next((i for i, (position, _) in enumerate(held) if position > released), len(held))
        reply = b"".join([part for _, part in held[:count]])
        self.held = held[count:] or None
        self.held_bytes -= len(reply)
        return reply

    @property
    def waiting_bytes(self) -> int:
        return self.held_bytes + len(self.unsent)

    @property
    def is_done(self) -> bool:
        """Nothing will come and nothing is left to go out."""
        session = self.session
        ended = session.closing or (self.input_ended and session.job is None and not session.more)
        return ended and not self.is_working and self.held is None and not self.unsent
