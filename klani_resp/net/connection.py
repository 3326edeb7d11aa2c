"""One socket of the reactor: its session, and bytes that the kernel did not take."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from klani_resp.net.listeners import transport_of
from klani_resp.sessions.access import DENIED
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport

if TYPE_CHECKING:
    from klani_resp.app import App

log = logging.getLogger("klani_resp")
MAX_CLIENTS = b"-ERR max number of clients reached\r\n"
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

    def waiting_bytes(self) -> int:
        """Of replies that did not go out yet."""
        return self.held_bytes + len(self.unsent)

    def unread_bytes(self) -> int:
        """Of them, what only its client keeps waiting."""
        return len(self.unsent)

    def is_held(self) -> bool:
        return self.held > 0

    def hold(self, reply: bytes) -> None:
        self.held += 1
        self.held_bytes += len(reply) + HELD_BYTES

    def let_go(self, reply: bytes) -> None:
        self.held -= 1
        self.held_bytes -= len(reply) + HELD_BYTES

    def reads_too_slowly(self) -> bool:
        """Judged by what waits already: one large reply says nothing of its reader."""
        waiting, session = len(self.unsent), self.session
        if waiting <= session.output_bytes_max:
            return False
        log.warning(
            "client %d at %s reads too slowly: %d bytes of replies wait, its connection is closed",
            session.id,
            session.transport.address,
            waiting,
        )
        return True

    @property
    def is_done(self) -> bool:
        """Nothing will come and nothing is left to go out."""
        session = self.session
        ended = session.closing or (self.input_ended and session.job is None and not session.more)
        return ended and not self.is_working and not self.held and not self.unsent


def admitted(sock: socket.socket, app: App) -> Transport | None:
    """Where a new client comes from; None for one that was told why it is not served. Raises OSError."""
    sock.setblocking(False)
    transport = transport_of(sock)
    refusal = MAX_CLIENTS if len(app.sessions) >= app.config.connections_max else b""
    if app.access.refuses(transport.host):
        refusal = DENIED
    if refusal:
        app.counters.rejected += 1
        sock.send(refusal)
        return None
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport
