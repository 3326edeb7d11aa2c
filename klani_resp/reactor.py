"""The batch loop: all plain connections in one task, by an epoll of its own that trio waits on.

One turn: ready sockets -> recv -> parse -> execute -> the committer is woken -> what may go out is sent. A
reply that shows log positions not yet released waits in its connection until the committer rings.
(Decision: one trio task per connection costs 24 us of CPU per command, this loop 10; redis-server 8.5.)

Invariants:
1. A reply is sent only when `released` has come to the position that its session named.
2. A connection's replies are sent in the order of its requests, whatever each of them waits for.
3. Whatever happens on one connection ends that connection at most.
"""

from __future__ import annotations

import logging
import select
import socket
import time

import trio

from klani_resp.app import App
from klani_resp.committer import Doorbell
from klani_resp.connection import Connection
from klani_resp.listeners import Acceptor, describe_address
from klani_resp.session import Transport

log = logging.getLogger("klani_resp")
# After a turn the loop sleeps in its own poll so long before it parks in trio: other tasks wait no longer
# than that, and a stream of requests does not pay for parking each time the clients are slower than it.
LINGER_SECONDS = 0.001
MAX_CLIENTS = b"-ERR max number of clients reached\r\n"


class Reactor:
    def __init__(self, app: App, doorbell: Doorbell) -> None:
        self._app = app
        self._config = app.config
        self._doorbell = doorbell
        self._epoll = select.epoll()
        self._epoll.register(doorbell.fd, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._acceptors: dict[int, Acceptor] = {}
        self._held: list[Connection] = []  # each connection that holds replies, once
        self._more: list[Connection] = []  # whose sessions have commands left from the last turn
        self._unusual: list[Connection] = []  # to be looked at when the turn's replies are out
        self._sendable: list[tuple[Connection, bytes]] = []
        self._nursery: trio.Nursery
        self._is_stopping = False
        self.drained = trio.Event()

    # --- life -----------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket) -> None:
        self._acceptors[sock.fileno()] = Acceptor(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    async def run(self) -> None:
        """Until `stop` was called and the last connection is gone. Raises StorageFailed."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._loop()
                self.drained.set()
                self._nursery.cancel_scope.cancel()
        finally:
            self._close()

    async def _loop(self) -> None:
        busy_seconds = self._config.busy_ms_max / 1000
        yielded_at = time.monotonic()
        linger = 0.0
        while self._connections or not self._is_stopping:
            now = time.monotonic()
            if self._turn(now, linger):
                linger = LINGER_SECONDS
            elif not self._more:
                # Nothing came for a while: only now is it worth what parking costs (20-30 us).
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                linger = 0.0
                yielded_at = time.monotonic()
            if now - yielded_at > busy_seconds:
                await trio.lowlevel.checkpoint()
                yielded_at = time.monotonic()

    def stop(self) -> None:
        """No new connections, no new requests; those that were read are answered, then connections close."""
        self._is_stopping = True
        for acceptor in self._acceptors.values():
            self._epoll.unregister(acceptor.fd)
            acceptor.close()
        self._acceptors.clear()
        for connection in list(self._connections.values()):
            connection.input_ended = True
            self._settle(connection)
        self._doorbell.ring()

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        for acceptor in self._acceptors.values():
            acceptor.close()
        self._acceptors.clear()
        self._epoll.close()

    # --- a turn ---------------------------------------------------------------------------------------

    def _turn(self, now: float, linger: float) -> bool:
        """Serves what is ready, or becomes so within `linger` seconds; False when nothing did."""
        config = self._config
        events = self._epoll.poll(0.0 if self._more else linger, config.turn_events_max)
        if self._more:
            self._continue()
        elif not events:
            return False
        app = self._app
        released = app.engine.released
        connections, sendable, unusual = self._connections, self._sendable, self._unusual
        receive_bytes_max, usual = config.receive_bytes_max, select.EPOLLIN
        received = 0
        for fd, event in events:
            connection = connections.get(fd)
            if connection is None:
                self._other(fd)
                released = app.engine.released
                continue
            if event != usual and not self._is_readable(connection, event):
                continue
            try:
                data = connection.recv(receive_bytes_max)
            except BlockingIOError:
                continue
            except OSError:
                self._drop(connection)
                continue
            session = connection.session
            if not data:
                connection.input_ended = True
                unusual.append(connection)
                continue
            received += len(data)
            session.used_at = now
            reply = connection.receive(data)
            if session.hold > released or connection.held is not None:
                self._hold(connection, session.hold, reply)
            elif reply:
                sendable.append((connection, reply))
            if session.closing or session.more or session.job is not None:
                unusual.append(connection)
        app.counters.received_bytes += received
        app.wake_committer()
        self._send_all()
        return True

    def _send_all(self) -> None:
        app = self._app
        app.check()
        sent_bytes = 0
        for connection, reply in self._sendable:
            if connection.unsent or connection.is_closed:
                self._keep_unsent(connection, reply)
                continue
            try:
                sent = connection.send(reply)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(connection)
                continue
            sent_bytes += sent
            if sent != len(reply):
                self._keep_unsent(connection, reply[sent:])
        self._sendable.clear()
        app.counters.sent_bytes += sent_bytes
        if self._unusual:
            unusual, self._unusual = self._unusual, []
            for connection in unusual:
                self._settle(connection)

    def _continue(self) -> None:
        """Sessions that had more commands than one turn may take: the next portion of each."""
        connections, self._more = self._more, []
        for connection in connections:
            if not connection.is_closed and connection.session.more:
                self._deliver(connection, connection.session.receive(b""))

    def _other(self, fd: int) -> None:
        """A descriptor that is no client's."""
        if fd == self._doorbell.fd:
            self._released()
        elif fd in self._acceptors:
            for sock in self._acceptors[fd].accept():
                self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        app = self._app
        try:
            sock.setblocking(False)
            if len(self._connections) >= self._config.connections_max:
                app.counters.rejected += 1
                sock.send(MAX_CLIENTS)
                sock.close()
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = sock.fileno()
            transport = Transport(
                describe_address(sock.family, sock.getpeername()),
                describe_address(sock.family, sock.getsockname()),
                fd,
            )
            self._epoll.register(fd, select.EPOLLIN)
        except OSError:  # it is gone already
            sock.close()
            return
        self._connections[fd] = Connection(sock, app.open_session(transport), select.EPOLLIN)

    # --- replies --------------------------------------------------------------------------------------

    def _released(self) -> None:
        """The committer rang: replies that waited for this go out, each connection's in one piece."""
        self._doorbell.silence()
        app = self._app
        app.take_released()
        released = app.engine.released
        held, self._held = self._held, []
        for connection in held:
            reply = connection.take(released)
            if reply:
                self._sendable.append((connection, reply))
            if connection.held is not None:
                self._held.append(connection)
            if connection.input_ended or connection.session.closing:
                self._unusual.append(connection)

    def _deliver(self, connection: Connection, reply: bytes) -> None:
        """What a session gave outside of an event of its own."""
        session = connection.session
        if session.hold > self._app.engine.released or connection.held is not None:
            self._hold(connection, session.hold, reply)
        elif reply:
            self._sendable.append((connection, reply))
        self._unusual.append(connection)

    def _hold(self, connection: Connection, position: int, reply: bytes) -> None:
        if not reply:
            return
        if connection.hold(position, reply):
            self._held.append(connection)
        self._check_waiting(connection)

    def _keep_unsent(self, connection: Connection, data: bytes) -> None:
        if connection.is_closed:
            return
        connection.unsent += data
        self._check_waiting(connection)
        self._unusual.append(connection)

    def _check_waiting(self, connection: Connection) -> None:
        if connection.waiting_bytes > self._config.output_bytes_max:
            log.warning(
                "client %d at %s reads too slowly: %d bytes of replies wait, its connection is closed",
                connection.session.id,
                connection.session.transport.address,
                connection.waiting_bytes,
            )
            self._drop(connection)

    # --- one connection -------------------------------------------------------------------------------

    def _is_readable(self, connection: Connection, event: int) -> bool:
        """Deals with all of the event but its readability; False when there is nothing to be read."""
        if event & select.EPOLLOUT and connection.unsent:
            try:
                sent = connection.send(connection.unsent)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(connection)
                return False
            self._app.counters.sent_bytes += sent
            connection.unsent = connection.unsent[sent:]
            self._unusual.append(connection)
        if event & (select.EPOLLHUP | select.EPOLLERR) and not connection.mask & select.EPOLLIN:
            self._drop(connection)  # nobody is left to answer to
            return False
        return bool(event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR))

    def _settle(self, connection: Connection) -> None:
        """After anything unusual: starts its job, closes it, or sets what epoll watches."""
        if connection.is_closed:
            return
        session = connection.session
        if session.job is not None and not connection.is_working:
            connection.is_working = True
            self._nursery.start_soon(self._work, connection)
        if connection.is_done:
            self._drop(connection)
            return
        if session.more and connection not in self._more:
            self._more.append(connection)
        paused = connection.input_ended or session.closing or session.more or connection.is_working
        mask = (0 if paused else select.EPOLLIN) | (select.EPOLLOUT if connection.unsent else 0)
        if mask != connection.mask:
            connection.mask = mask
            self._epoll.modify(connection.fd, mask)

    async def _work(self, connection: Connection) -> None:
        """A session's job: beside the loop; its connection is not read meanwhile."""
        reply = await self._app.run_job(connection.session)
        connection.is_working = False
        if connection.is_closed:
            return
        self._deliver(connection, reply)
        self._app.wake_committer()
        self._send_all()
        self._doorbell.ring()  # the loop may be parked, and have a next portion to do

    def _drop(self, connection: Connection) -> None:
        if connection.is_closed:
            return
        connection.is_closed = True
        connection.held = None
        connection.unsent = b""
        del self._connections[connection.fd]
        connection.sock.close()
        self._app.close_session(connection.session)
