"""One client, without I/O: bytes in, reply bytes out, and the log position that these must wait for.

Invariants:
1. Replies come out in the order of their requests; while a job is under way nothing behind it is executed.
2. `hold` after a call is at or above every log position that the bytes of this call show.
3. After `closing` is set nothing is executed any more.
4. While `is_between`, nothing is left of what was received: no part of a request, no command, no job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from commands.spec import CommandError, Context, Job, RawReply
from klani_resp.compiler import Run, refused
from klani_resp.config import Config
from klani_resp.dispatcher import NOT_IN_MULTI, Dispatcher
from klani_resp.protocol.errors import INTERNAL_ERROR, ParserBug
from klani_resp.protocol.parser import ParserLimits, Request, RequestParser
from storage.errors import StoreError

log = logging.getLogger("klani_resp")
CLOCK_COMMANDS = 4  # of one turn, between two looks at the clock


class Suspended(Exception):
    """Raised through a turn: its command has become a job."""


def gone() -> None:
    """There is no transport, or none any more."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a job ended with, on the wire's form already. `data` may be a bytearray: it is only sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Suspension:
    """A command whose job is under way."""

    run: Run
    argv: Request
    began_ns: int


@dataclass(frozen=True, slots=True)
class Transport:
    """What CLIENT LIST says about where a client comes from."""

    address: str
    local_address: str
    fd: int = -1


class Session:
    __slots__ = (
        "_config",
        "_context",
        "_dispatcher",
        "_executing",
        "_parser",
        "_pending",
        "_queue",
        "_queue_bytes",
        "_spoiled",
        "_suspended",
        "_table",
        "closing",
        "commands_done",
        "created_at",
        "end",
        "hold",
        "id",
        "is_between",
        "job",
        "library_name",
        "library_version",
        "more",
        "name",
        "protocol",
        "transport",
        "used_at",
    )

    def __init__(self, number: int, dispatcher: Dispatcher, config: Config, limits: ParserLimits) -> None:
        self.id = number
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.protocol = 2
        self.transport = Transport("", "")
        self.end: Callable[[], None] = gone  # its transport's way to close it at once
        self.created_at = self.used_at = time.monotonic()
        self.hold = 0
        self.more = False
        self.closing = False
        self.is_between = True  # all bytes so far made whole requests, and these have been answered
        self.job: Job | None = None
        self.commands_done = 0
        self._config = config
        self._dispatcher = dispatcher
        self._table = dispatcher.tables[2]
        self._parser = RequestParser(limits)
        self._pending: list[Request] = []
        self._queue: list[Request] | None = None
        self._queue_bytes = 0
        self._spoiled = False
        self._executing = False
        self._suspended: Suspension | None = None
        self._context: Context

    def attach(self, context: Context) -> None:
        """What its commands work on: set once, and again when the store has been loaded."""
        self._context = context

    # --- bytes ----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """Executes what `data` completes. With `more` set, call it again with b"" after the others' turn."""
        if self.closing:
            return b""
        try:
            requests = self._parser.feed(data) if data else []
        except Exception:
            log.exception("bug in the parser of client %d: its connection is closed", self.id)
            self._parser.fail(ParserBug("internal error"))
            requests = []
        if not self._parser.is_between:
            self.is_between = False
        return self.execute(requests)

    def execute(self, requests: list[Request]) -> bytes:
        """As `receive`, with requests that were parsed elsewhere: only while `is_between`."""
        context = self._context
        engine = context.engine
        engine.seen = 0
        if len(requests) == 1 and self.is_between:
            # As `_turn` does it. Without pipelining this is every turn: no list, no loop.
            self.commands_done += 1
            argv = requests[0]
            try:
                reply = self._table[argv[0]](context, argv)
            except Suspended:
                reply = b""
            except Exception:
                reply = self._bug(argv)
            self.hold = engine.seen
            return reply
        if self.closing:
            return b""
        replies = self._turn(context, requests)
        self.more = bool(self._pending) and self.job is None and not self.closing
        if self._parser.error is not None:
            self._end_of_protocol(replies)
        self._note_between()
        self.hold = engine.seen
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def _note_between(self) -> None:
        self.is_between = (
            self._parser.is_between and not self._pending and self.job is None and not self.closing
        )

    def _bug(self, argv: Request) -> bytes:
        """To be called while the exception is handled."""
        log.exception("bug in %r of client %d: its connection is closed", argv[0][:64], self.id)
        self._context.engine.note(self._context.engine.appended)
        self.close_after_reply()
        return INTERNAL_ERROR

    def _turn(self, context: Context, requests: list[Request]) -> list[bytes]:
        """As many commands as one turn may do; the others wait in `_pending`."""
        if self._pending or self.job is not None or len(requests) > self._config.turn_commands_max:
            requests = self._next_turn(requests)
        room = self._config.turn_reply_bytes_max
        clock = context.engine.clock
        deadline = clock() + self._config.turn_us_max * 1_000
        replies: list[bytes] = []
        left = iter(requests)
        for argv in left:
            self.commands_done += 1
            try:
                reply = self._table[argv[0]](context, argv)
            except Suspended:
                reply = b""
            except Exception:
                reply = self._bug(argv)
            replies.append(reply)
            room -= len(reply)
            if self.closing or self.job is not None or room < 0:
                break
            if not len(replies) % CLOCK_COMMANDS and clock() > deadline:
                break
        if not self.closing and (waiting := list(left)):
            self._pending = waiting + self._pending
        return replies

    def _next_turn(self, requests: list[Request]) -> list[Request]:
        """Puts new requests behind those that wait, and takes what one turn may do; nothing during a job."""
        waiting = self._pending + requests
        count = 0 if self.job is not None else self._config.turn_commands_max
        self._pending = waiting[count:]
        return waiting[:count]

    def _end_of_protocol(self, replies: list[bytes]) -> None:
        """The violation is answered behind all that came before it, then the connection ends."""
        if self._pending or self.job is not None or self.closing:
            return
        assert self._parser.error is not None
        replies.append(self._parser.error.reply())
        self.close_after_reply()

    # --- jobs -----------------------------------------------------------------------------------------

    def suspend(self, job: Job, run: Run, argv: Request) -> bytes:
        """A command's long work: the transport runs `job`, then calls `finish_job`."""
        if self._executing:
            if job.slices is None:
                return NOT_IN_MULTI
            return self._dispatcher.endings[run].encode(list(chain.from_iterable(job.slices)), self._context)
        self.job = job
        self._suspended = Suspension(run, argv, time.perf_counter_ns())
        self.is_between = False
        raise Suspended

    def finish_job(self, outcome: object) -> bytes:
        """Answers the suspended command with what its work gave or raised; sets what `receive` sets."""
        job, suspended = self.job, self._suspended
        assert job is not None and suspended is not None, "no job is under way"
        self.job = self._suspended = None
        context = self._context
        ending = self._dispatcher.endings[suspended.run]
        engine = context.engine
        engine.seen = 0
        engine.note(engine.appended)
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            value = job.finish(outcome)
            reply = value.data if type(value) is Encoded else ending.encode(value, context)
        except (CommandError, StoreError) as error:
            reply = refused(engine, error, ending.statistics)
        except Exception:
            log.exception("bug in a job of client %d: its connection is closed", self.id)
            reply = INTERNAL_ERROR
            self.close_after_reply()
        ending.statistics.took(time.perf_counter_ns() - suspended.began_ns, context, suspended.argv)
        replies = [reply]
        self.more = bool(self._pending) and not self.closing
        if self._parser.error is not None:
            self._end_of_protocol(replies)
        self._note_between()
        self.hold = engine.seen
        return replies[0] if len(replies) == 1 else b"".join(replies)

    # --- what commands do to their connection (commands.spec.Client) ----------------------------------

    def set_protocol(self, version: int) -> None:
        self.protocol = version
        self._choose_table()

    def close_after_reply(self) -> None:
        self.closing = True
        self.is_between = False

    def reset(self) -> None:
        self.name = b""
        self._queue = None
        self.set_protocol(2)

    def begin_transaction(self) -> None:
        if self._queue is not None:
            raise CommandError("ERR MULTI calls can not be nested")
        self._queue = []
        self._queue_bytes = 0
        self._spoiled = False
        self._choose_table()

    def discard_transaction(self) -> None:
        self._take_queue("DISCARD")

    def execute_transaction(self) -> RawReply:
        """All queued commands as one frame of the log; a refusal of one does not stop the others."""
        queue = self._take_queue("EXEC")
        if self._spoiled:
            raise CommandError("EXECABORT Transaction discarded because of previous errors.")
        context = self._context
        reason = context.engine.readonly_reason
        if reason is not None and self._wants_room(queue):
            raise CommandError(f"EXECABORT Transaction discarded because of: {reason}")
        replies = [b"*%d\r\n" % len(queue)]
        self._executing = True
        context.engine.begin()
        try:
            replies += [self._execute_queued(context, argv) for argv in queue]
        finally:
            context.engine.commit()
            self._executing = False
        context.engine.note(context.engine.appended)
        return RawReply(b"".join(replies))

    def _wants_room(self, queue: list[Request]) -> bool:
        """Whether a full disk, which came after they were queued, refuses any: then all, as in Redis."""
        commands = self._dispatcher.commands
        return any(commands[argv[0].decode().upper()].wants_room for argv in queue)

    def _execute_queued(self, context: Context, argv: Request) -> bytes:
        try:
            return self._table[argv[0]](context, argv)
        except Exception:
            return self._bug(argv)

    # --- MULTI's queue --------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return self._queue is not None

    def enqueue(self, argv: Request) -> str | None:
        """Queues a command; answers why not when there is no room, and then EXEC will refuse."""
        assert self._queue is not None
        self._queue_bytes += sum(map(len, argv))
        limits = self._config
        if (
            len(self._queue) >= limits.transaction_commands_max
            or self._queue_bytes > limits.transaction_bytes_max
        ):
            self._spoiled = True
            self._queue.clear()
            return "ERR transaction is too long"
        if not self._spoiled:
            self._queue.append(argv)
        return None

    def spoil_transaction(self) -> None:
        self._spoiled = True

    def _take_queue(self, asked_by: str) -> list[Request]:
        queue, self._queue = self._queue, None
        if queue is None:
            raise CommandError(f"ERR {asked_by} without MULTI")
        self._choose_table()
        return queue

    def _choose_table(self) -> None:
        tables = self._dispatcher.tables if self._queue is None else self._dispatcher.queueing
        self._table = tables[self.protocol]

    # --- CLIENT LIST ----------------------------------------------------------------------------------

    def describe(self) -> str:
        now = time.monotonic()
        facts: dict[str, Any] = {
            "id": self.id,
            "addr": self.transport.address,
            "laddr": self.transport.local_address,
            "fd": self.transport.fd,
            "name": self.name.decode("utf-8", "surrogateescape"),
            "age": int(now - self.created_at),
            "idle": int(now - self.used_at),
            "flags": "x" if self._queue is not None else "N",
            "db": 0,
            "multi": -1 if self._queue is None else len(self._queue),
            "events": "r",
            "user": "default",
            "resp": self.protocol,
            "lib-name": self.library_name.decode("utf-8", "surrogateescape"),
            "lib-ver": self.library_version.decode("utf-8", "surrogateescape"),
            "tot-cmds": self.commands_done,
        }
        return " ".join(f"{name}={value}" for name, value in facts.items())
