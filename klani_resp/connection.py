"""One socket of the reactor: its session, and bytes that the kernel did not take."""

from __future__ import annotations

import socket

from klani_resp.session import Session

HELD_BYTES = 300  # that a reply takes beside its own while it is held: two tuples, its object, a list's place


class Connection:
    """Replies go out in their order: one that waits for the log keeps those behind it waiting."""

    __slots__ = (
        "fd",
        "held",
        "held_bytes",
        "input_ended",
        "is_closed",
        "is_working",
        "mask",
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
        self.held = 0  # replies that the reactor holds back
        self.held_bytes = 0
        self.unsent = bytearray()  # cheap at both ends, however much it is
        self.mask = mask  # what epoll watches
        self.input_ended = False
        self.is_working = False  # a job of its session is under way
        self.is_closed = False

    def hold(self, reply: bytes) -> None:
        self.held += 1
        self.held_bytes += len(reply) + HELD_BYTES

    def let_go(self, reply: bytes) -> None:
        self.held -= 1
        self.held_bytes -= len(reply) + HELD_BYTES

    @property
    def is_done(self) -> bool:
        """Nothing will come and nothing is left to go out."""
        session = self.session
        ended = session.closing or (self.input_ended and session.job is None and not session.more)
        return ended and not self.is_working and not self.held and not self.unsent
