"""One simulated client: bare bytes over a connection, at-least-once as client libraries have it.

It resends a command when its connection broke or no reply came in time, on a new connection, some times;
then it gives up. It may also vanish in the middle: then another one takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hiredis

from tests.conftest import frame
from tests.sim.commands import LOST, Command, plain, replies_of, request, resent_as, token_of
from tests.sim.history import History, Op
from tests.sim.process import Link
from tests.sim.scripts import Desk, Script

if TYPE_CHECKING:
    from tests.sim.world import World

RETRIES = (0, 1, 3, 10)  # redis-py 8 has 10


class Client:
    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self._world = world
        self._desk = Desk(number, world.random, world.book)
        self._retries = world.random.choice(RETRIES)
        self._script: Script | None = None
        self._history: History
        self._command: Command | None = None
        self._result: Any = None
        self._tries = 0
        self._above = 0  # the highest token that anyone had been told when the command was sent
        self.link: Link | None = None
        self.op: Op | None = None  # sent, and not answered
        self._reader = hiredis.Reader()
        self._awaited = 0
        self.is_done = False

    # --- what it does when it has its turn ------------------------------------------------------------

    def act(self) -> None:
        if self.op is None and self._has_command():
            self._send()

    def _has_command(self) -> bool:
        while self._command is None:
            if self._script is None and not self._begin_visit():
                return False
            assert self._script is not None
            result, self._result = self._result, None
            try:
                self._command = self._script.send(result)
            except StopIteration:
                self._script = None
            self._tries = 0
        return True

    def _begin_visit(self) -> bool:
        group = self._world.busy_group()
        if group is None:
            self.is_done = True
            return False
        self._history = group.history
        self._script = group.visit(self._desk)
        return True

    def _send(self) -> None:
        assert self._command is not None
        world = self._world
        if world.is_full(self._history):
            self._end_command(LOST)
            return
        if self.link is None:
            self._connect()
        assert self.link is not None
        self._tries += 1
        self._above = world.book.token
        self.op = world.called(self.number, self._command, self._history)
        self.link.waiting.append(self.op)
        self.link.inbox += request(self._command)
        self._awaited += replies_of(self._command)

    def _connect(self) -> None:
        self.link = self._world.process.connect()
        self._reader = hiredis.Reader()
        self._awaited = 0
        if self._world.random.random() < 0.5:
            self.link.inbox += frame(b"HELLO", b"3")
            self._awaited = 1

    def ask(self, command: Command, history: History) -> None:
        """One command, alone in the world: its reply needs no turn of anybody else's."""
        self._command, self._history = command, history
        op = self._world.called(self.number, command, history)
        self.op = op
        if self.link is None:
            self._connect()
        assert self.link is not None
        self.link.waiting.append(op)
        self.link.inbox += request(command)
        self._awaited += replies_of(command)
        self._world.process.receive(self.link, len(self.link.inbox))
        self._world.process.release()
        self.receive(len(self.link.outbox))
        assert not op.is_lost, "a reply is held though nothing was written since the start"

    # --- what happens to it ---------------------------------------------------------------------------

    def receive(self, count: int) -> None:
        """The next bytes of the way back come to it."""
        assert self.link is not None
        self._reader.feed(bytes(self.link.outbox[:count]))
        del self.link.outbox[:count]
        while (reply := self._reader.gets()) is not False:
            self._awaited -= 1
            assert self._awaited >= 0, f"a reply that nobody asked for: {reply!r}"
            if not self._awaited and self.op is not None:
                self._answered(reply)

    def _answered(self, reply: Any) -> None:
        op, self.op = self.op, None
        assert op is not None and self.link is not None
        result = self._world.book.with_plain_deadlines(op.command, plain(op.command, reply))
        op.answered(self._world.next_moment(), self._world.clock.now, result)
        self.link.waiting.remove(op)
        told = token_of(op.command, result)
        if told is not None:
            self._world.book.told(told, resent_as(op.command) or op, self._above)
        self._end_command(result)

    def _end_command(self, result: Any) -> None:
        self._command = None
        self._result = result

    def lose_link(self) -> None:
        """It broke, or the client gave up waiting: what was sent may take effect or not."""
        self.link = None
        if self.op is not None:
            self.op = None
            if self._tries > self._retries:
                self._end_command(LOST)

    def vanish(self) -> None:
        self.link = self.op = self._command = self._script = None
        self._result = None
        self._retries = self._world.random.choice(RETRIES)
