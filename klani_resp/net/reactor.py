"""The batch loop: all plain connections in one task, by an epoll of its own that trio waits on.

One turn: recv from all ready sockets -> parse all that came -> execute -> what was appended goes to the
committer -> what may go out is sent. Replies that show log positions not yet released wait, turn by turn.
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
from collections import deque
from functools import partial

import trio

from klani_resp.app import App
from klani_resp.committer import Doorbell
from klani_resp.config import Config
from klani_resp.net.connection import Connection, admitted
from klani_resp.net.listeners import Acceptor
from klani_resp.protocol.turn import TurnParser
from klani_resp.sessions.transport import Line

log = logging.getLogger("klani_resp")
# After a turn the loop sleeps in its own poll so long before it parks in trio: other tasks wait no longer
# than that, and a stream of requests does not pay for parking each time the clients are slower than it.
LINGER_SECONDS = 0.001  # parking costs 20-30 us
LINE_FEED = ord("\n")
# Connections with a chunk each that is likely to be whole requests; the others, with theirs.
Arrived = tuple[list[Connection], list[bytes], list[tuple[Connection, bytes]]]
Held = tuple[int, list[tuple[Connection, bytes]]]  # a turn's replies, and the position that they wait for


class Reactor:
    def __init__(self, app: App, doorbell: Doorbell) -> None:
        self._app = app
        self._config = app.config
        self._doorbell = doorbell
        self._epoll = select.epoll()
        self._epoll.register(doorbell.fd, select.EPOLLIN)
        self._sync_fd = -1
        self._parser: TurnParser
        self._retune(app.config)
        app.settings.tell(self._retune)
        self._connections: dict[int, Connection] = {}
        self._acceptors: dict[int, Acceptor] = {}
        self._held: deque[Held] = deque()
        self._more: dict[Connection, None] = {}  # those with commands left from their last turn
        self._unusual: list[Connection] = []  # to be looked at when the turn's replies are out
        self._sendable: list[tuple[Connection, bytes]] = []
        self._holding: list[tuple[Connection, bytes]] = []  # this turn's, until it is over
        self._holding_for = 0
        self._nursery: trio.Nursery
        self._is_stopping = False
        self.drained = trio.Event()

    def _retune(self, config: Config) -> None:
        self._parser = TurnParser(self._app.limits, config.receive_bytes_max)

    # --- life -----------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket) -> None:
        self._acceptors[sock.fileno()] = Acceptor(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def watch_syncs(self, fd: int) -> None:
        """`fd` is readable whenever a sync of the log has ended."""
        self._sync_fd = fd
        self._epoll.register(fd, select.EPOLLIN)

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
                linger = 0.0 if self._app.slicing else LINGER_SECONDS
            elif not self._more:
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
        had_more = bool(self._more)
        events = self._epoll.poll(0.0 if self._more else linger, self._config.turn_events_max)
        if events:
            self._execute(*self._receive(events, now))
            self._end_turn()
        if had_more:
            self._continue()
            self._end_turn()
        return had_more or bool(events)

    def _receive(self, events: list[tuple[int, int]], now: float) -> Arrived:
        """Takes what has come on all ready sockets."""
        connections, bytes_max, readable = self._connections, self._config.receive_bytes_max, select.EPOLLIN
        arrived: list[Connection] = []
        chunks: list[bytes] = []
        apart: list[tuple[Connection, bytes]] = []
        for fd, event in events:
            connection = connections.get(fd)
            if connection is None:
                self._other(fd)
                continue
            if event != readable and not self._is_readable(connection, event):
                continue
            try:
                data = connection.recv(bytes_max)
            except BlockingIOError:
                continue
            except OSError:
                self._drop(connection)
                continue
            if not data:
                connection.input_ended = True
                self._unusual.append(connection)
                continue
            session = connection.session
            session.used_at = now
            if session.is_between and data[-1] == LINE_FEED:
                arrived.append(connection)
                chunks.append(data)
            else:
                apart.append((connection, data))
        return arrived, chunks, apart

    def _execute(
        self, arrived: list[Connection], chunks: list[bytes], apart: list[tuple[Connection, bytes]]
    ) -> None:
        """Parses all in one go, and executes it."""
        app, sendable, unusual = self._app, self._sendable, self._unusual
        app.counters.received_bytes += sum(map(len, chunks)) + sum(len(data) for _, data in apart)
        released = app.engine.released
        batches = self._parser.parse(chunks)
        if batches is None:  # one of them is no ordinary request: each session finds out for itself
            apart += zip(arrived, chunks, strict=True)
        else:
            for connection, requests in zip(arrived, batches, strict=True):
                session = connection.session
                reply = session.execute(requests)
                # As `_take`, without its call.
                if session.hold > released or connection.held:
                    self._hold(connection, session.hold, reply)
                elif reply:
                    sendable.append((connection, reply))
                if not session.is_between:
                    unusual.append(connection)
        for connection, data in apart:
            self._take(connection, connection.session.receive(data))

    def _take(self, connection: Connection, reply: bytes) -> None:
        """What a session gave: to be sent at the end of the turn, or held until it may be shown."""
        session = connection.session
        if session.hold > self._app.engine.released or connection.held:
            self._hold(connection, session.hold, reply)
        elif reply:
            self._sendable.append((connection, reply))
        if not session.is_between:
            self._unusual.append(connection)

    def _hold(self, connection: Connection, position: int, reply: bytes) -> None:
        if not reply:
            return
        connection.hold(reply)
        self._holding.append((connection, reply))
        if connection.held_bytes > self._config.output_bytes_max:
            self._unusual.append(connection)
        if position > self._holding_for:
            self._holding_for = position

    def _end_turn(self) -> None:
        """The log's group is on its way before the replies that need not wait for it."""
        if self._holding:
            if self._is_log_long:
                self._unusual += [connection for connection, _ in self._holding]
            self._held.append((self._holding_for, self._holding))
            self._holding = []
        self._app.wake_committer()
        self._release()
        self._send_all()

    def _release(self) -> None:
        """Replies that waited for what is released now go out, turn by turn."""
        released, sendable = self._app.engine.released, self._sendable
        while self._held and self._held[0][0] <= released:
            for connection, reply in self._held.popleft()[1]:
                connection.let_go(reply)
                sendable.append((connection, reply))
                if not connection.mask & select.EPOLLIN:  # its input has ended, or it waited enough
                    self._unusual.append(connection)

    def _send_all(self) -> None:
        app = self._app
        app.check()
        sent_bytes = 0
        for connection, reply in self._sendable:
            if connection.unsent or connection.is_closed:
                self._keep_unsent(connection, reply, 0)
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
                self._keep_unsent(connection, reply, sent)
        self._sendable.clear()
        app.counters.sent_bytes += sent_bytes
        if self._unusual:
            unusual, self._unusual = self._unusual, []
            for connection in unusual:
                self._settle(connection)

    def _deliver(self, connection: Connection, data: bytes) -> None:
        """What is no reply, with the next replies that go out."""
        self._sendable.append((connection, data))
        self._doorbell.ring()  # it may come from outside of a turn

    def _continue(self) -> None:
        """The next portion of each session that had more than one turn may take, behind all that was ready.
        One that is alone goes on until anything else is: it need not pay for a turn each time."""
        connections, self._more = self._more, {}
        for connection in connections:
            if not connection.is_closed and connection.session.more:
                self._take_portions(connection, is_alone=len(connections) == 1)
                self._unusual.append(connection)  # it may be read again

    def _take_portions(self, connection: Connection, is_alone: bool) -> None:
        """Held and sent as one reply, whose position is the highest that any part of it shows."""
        session, room = connection.session, self._config.turn_reply_bytes_max
        deadline = time.monotonic() + self._config.busy_ms_max / 1000
        replies: list[bytes] = []
        hold = 0
        while True:
            replies.append(session.receive(b""))
            hold = max(hold, session.hold)
            room -= len(replies[-1])
            may_go_on = is_alone and session.more and room > 0 and time.monotonic() < deadline
            # The end of a sync can wait: what it lets go of is this client's, and its next group grows.
            if not may_go_on or any(fd != self._sync_fd for fd, _ in self._epoll.poll(0.0, 2)):
                break
        session.hold = hold
        self._take(connection, b"".join(replies))

    def _other(self, fd: int) -> None:
        """A descriptor that is no client's."""
        if fd == self._sync_fd:
            self._app.sync_ended()
        elif fd == self._doorbell.fd:
            self._doorbell.silence()
        elif fd in self._acceptors:
            for sock in self._acceptors[fd].accept():
                self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        try:
            transport = admitted(sock, self._app)
            if transport is not None:
                self._epoll.register(transport.fd, select.EPOLLIN)
        except OSError:  # it is gone already
            transport = None
        if transport is None:
            sock.close()
            return
        connection = Connection(sock, self._app.open_session(transport), select.EPOLLIN)
        end, deliver = partial(self._drop, connection), partial(self._deliver, connection)
        waiting, unread = connection.waiting_bytes, connection.unread_bytes
        connection.session.line = Line(end, deliver, waiting, unread, connection.is_held)
        self._connections[transport.fd] = connection

    # --- replies --------------------------------------------------------------------------------------

    def _keep_unsent(self, connection: Connection, reply: bytes, sent: int) -> None:
        if not connection.is_closed and connection.reads_too_slowly():
            self._drop(connection)
        if connection.is_closed:
            return
        connection.unsent += memoryview(reply)[sent:]
        self._unusual.append(connection)

    @property
    def _is_log_long(self) -> bool:
        engine = self._app.engine
        return engine.appended - engine.released > self._config.waiting_log_bytes_max

    def _waits_enough(self, connection: Connection) -> bool:
        """The disk is slow, not its client: until replies are let go it is not read."""
        if not connection.held:
            return False
        return self._is_log_long or connection.held_bytes > self._config.output_bytes_max

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
            if sent:  # who reads is not idle
                connection.session.used_at = time.monotonic()
            self._app.counters.sent_bytes += sent
            del connection.unsent[:sent]
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
        if session.more:
            self._more[connection] = None
        paused = connection.input_ended or session.closing or session.more or connection.is_working
        paused = paused or self._waits_enough(connection)
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
        self._take(connection, reply)
        self._unusual.append(connection)
        self._end_turn()
        self._doorbell.ring()  # the loop may be parked, and have a next portion to do

    def _drop(self, connection: Connection) -> None:
        if connection.is_closed:
            return
        connection.is_closed = True
        connection.unsent = bytearray()
        del self._connections[connection.fd]
        connection.sock.close()
        self._app.close_session(connection.session)
