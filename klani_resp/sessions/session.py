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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from commands.spec import CommandError, Context, Job, Mute, RawReply
from klani_resp.acl.users import DEFAULT, User
from klani_resp.config import Config
from klani_resp.protocol.encoder import NULL_ARRAYS, Encoded, array_of
from klani_resp.protocol.errors import INTERNAL_ERROR, OtherProtocol, ParserBug
from klani_resp.protocol.parser import ParserLimits, Request, RequestParser
from klani_resp.sessions.altered import AlteredTable, shown
from klani_resp.sessions.client_list import client_line
from klani_resp.sessions.compiler import Run, refused
from klani_resp.sessions.dispatcher import NOT_IN_MULTI, Dispatcher, View
from klani_resp.sessions.execution import Execution
from klani_resp.sessions.transaction import Transaction
from klani_resp.sessions.transport import Line, Transport
from storage.errors import StoreError

log = logging.getLogger("klani_resp")
CLOCK_COMMANDS = 4  # of one turn, between two looks at the clock
# Before the first look, unless one takes long: to cut a short pipeline short costs a third more, for nobody.
UNTIMED_COMMANDS = 16


class Suspended(Exception):
    """Raised through a turn: its command has become a job."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A command whose job is under way."""

    run: Run
    argv: Request
    began_ns: int


class Session:
    __slots__ = (
        *("_config", "_context", "_dispatcher", "_execution", "_parser", "_pending", "_suspended"),
        *("_table", "_view", "closing", "commands_done", "created_at", "hold", "id", "is_between"),
        *("is_disturbed", "is_monitor", "job", "last_member", "last_run", "library_name"),
        *("library_version", "line", "more", "muted", "name", "protocol", "transaction", "transport"),
        *("used_at", "user"),
    )

    def __init__(self, number: int, dispatcher: Dispatcher, config: Config, limits: ParserLimits) -> None:
        self.id = number
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.protocol = 2
        self.transport = Transport("", "")
        self.line = Line()
        self.is_monitor = False
        self.created_at = self.used_at = time.monotonic()
        self.hold = 0
        self.more = self.closing = False
        self.is_disturbed = False  # by what may end a turn: a job, the connection's end, a long command
        self.is_between = True  # all bytes so far made whole requests, and these have been answered
        self.job: Job | None = None
        self.commands_done = 0
        self.last_run: Run | None = None  # nothing is kept of what a client sent
        self.last_member = ""  # of the last command with subcommands: `client|list`, or "" for none there is
        self._config = config
        self._dispatcher = dispatcher
        self.user: User | None = None
        self._view = dispatcher.nobody
        self._table: Mapping[bytes, Run] = self._view.tables[2]
        self._parser = RequestParser(limits)
        self._pending: list[Request] = []
        self.transaction = Transaction(config)
        self._execution: Execution | None = None
        self.muted: Mute | None = None
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
            requests = self._parser.feed(data) if data or self._parser.has_more else []
        except Exception:
            self._log_bug("the parser")
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
                run = self.last_run = self._table[argv[0]]
                reply = run(context, argv)
            except Suspended:
                reply = b""
            except Exception:
                reply = self._bug(argv)
            self.hold = engine.seen
            return reply
        if self.closing:
            return b""
        replies = self._turn(context, requests)
        self.more = bool(self._pending or self._parser.has_more) and self.job is None and not self.closing
        return self._end_turn(replies)

    def _end_turn(self, replies: list[bytes]) -> bytes:
        if self._parser.error is not None:
            self._end_of_protocol(replies)
        self._note_between()
        self.hold = self._context.engine.seen
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def _note_between(self) -> None:
        """Before AUTH never: what comes then is for the session's own parser."""
        self.is_between = (
            self._parser.is_between
            and not self._pending
            and self.job is None
            and not self.closing
            and self.user is not None
        )

    def _bug(self, argv: Request) -> bytes:
        """To be called while the exception is handled."""
        self._log_bug(repr(argv[0][:64]))
        self._context.engine.note(self._context.engine.appended)
        self.close_after_reply()
        return INTERNAL_ERROR

    def _log_bug(self, where: str) -> None:
        """Above all the traceback, once a minute."""
        self._dispatcher.bugs.bug(log, "bug in %s of client %d: its connection is closed", where, self.id)

    def _turn(self, context: Context, requests: list[Request]) -> list[bytes]:
        """As many commands as one turn may do; the others wait in `_pending`."""
        if self._pending or self.job is not None or len(requests) > self._config.turn_commands_max:
            requests = self._next_turn(requests)
        room = self._config.turn_reply_bytes_max
        clock = context.engine.clock
        deadline = clock() + self._config.turn_us_max * 1_000
        look_at = UNTIMED_COMMANDS
        replies: list[bytes] = []
        left = iter(requests)
        run = self.last_run
        for argv in left:
            self.commands_done += 1
            try:
                run = self._table[argv[0]]
                reply = run(context, argv)
            except Suspended:
                reply = b""
            except Exception:
                reply = self._bug(argv)
            replies.append(reply)
            room -= len(reply)
            if room < 0:
                break
            if self.is_disturbed:
                self.is_disturbed = False
                if self.closing or self.job is not None or clock() > deadline:
                    break
            elif len(replies) >= look_at:
                look_at += CLOCK_COMMANDS
                if clock() > deadline:
                    break
        self.last_run = run
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
        error = self._parser.error
        assert error is not None
        if isinstance(error, OtherProtocol):
            self._dispatcher.foreign(error.text, self)
        replies.append(error.reply())
        self.close_after_reply()

    # --- jobs -----------------------------------------------------------------------------------------

    def suspend(self, job: Job, run: Run, argv: Request) -> bytes:
        """A command's long work: the transport runs `job`, then calls `finish_job`."""
        if self._execution is not None:
            return NOT_IN_MULTI if job.slices is None else self._execution.at_once(job)
        if job.items is not None:
            job.run = partial(array_of, job.items, self.protocol)
        self.job = job
        self.is_disturbed = True
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
            self._log_bug("a job")
            reply = INTERNAL_ERROR
            self.close_after_reply()
        ending.statistics.took(time.perf_counter_ns() - suspended.began_ns, context, suspended.argv)
        replies = [shown(self, reply)]
        self.more = bool(self._pending) and not self.closing
        return self._end_turn(replies)

    @property
    def begun_request(self) -> object:
        """What stands for the request that has begun and is not whole, the same until it is; or None."""
        return self._parser.begun

    # --- what commands do to their connection (commands.spec.Client) ----------------------------------

    def log_in(self, user: User | None, view: View, limits: ParserLimits) -> None:
        """Whose commands these are from here on, and what may be called; nobody's before AUTH."""
        self.user = user
        self._view = view
        self._parser.restrict(limits, view.forbidden, one_by_one=user is None)
        self._choose_table()
        self._note_between()

    @property
    def output_bytes_max(self) -> int:
        """Of replies that may wait for it; little before AUTH."""
        config = self._config
        return config.before_auth_output_bytes_max if self.user is None else config.output_bytes_max

    @property
    def user_name(self) -> bytes:
        return DEFAULT if self.user is None else self.user.name

    def took_long(self) -> None:
        """A command did: it may be the last of this turn."""
        self.is_disturbed = True

    def set_protocol(self, version: int) -> None:
        self.protocol = version
        self._choose_table()

    def close_after_reply(self) -> None:
        self.closing = self.is_disturbed = True
        self.is_between = False

    def reset(self) -> None:
        self.name = b""
        self.transaction.queue = None
        self.transaction.unwatch()
        self.muted = None
        self.set_protocol(2)

    def mute(self, mode: Mute | None) -> None:
        """CLIENT REPLY; None ends it. To skip one of those that are not answered changes nothing."""
        if mode is not Mute.SKIP or self.muted is not Mute.OFF:
            self.muted = mode
            self._choose_table()

    def look_on(self, is_monitor: bool) -> None:
        self.is_monitor = is_monitor
        self._choose_table()

    # --- MULTI, WATCH ---------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return self.transaction.queue is not None

    def begin_transaction(self) -> None:
        self.transaction.begin()
        self._choose_table()

    def discard_transaction(self) -> None:
        self.transaction.take("DISCARD")
        self.transaction.unwatch()
        self._choose_table()

    def watch(self, keys: list[bytes]) -> None:
        self.transaction.watch(self._context.engine, keys)

    def unwatch(self) -> None:
        self.transaction.unwatch()

    def execute_transaction(self) -> RawReply:
        """All queued commands as one frame of the log; a refusal of one does not stop the others. Null, and
        nothing is done, when a watched row has changed."""
        context = self._context
        try:
            queue = self.transaction.take_to_execute(context.engine, self._dispatcher.wanting_room)
        finally:
            self._choose_table()
        if queue is None:
            context.engine.note(context.engine.appended)
            return RawReply(NULL_ARRAYS[self.protocol])
        self._execution = Execution(self._config, self._dispatcher, context.engine)
        context.engine.begin()
        try:
            reply = self._execution.run(queue, self._execute_queued)
        finally:
            context.engine.commit()
            self._execution = None
        context.engine.note(context.engine.appended)
        return RawReply(reply)

    def _execute_queued(self, argv: Request) -> bytes:
        try:
            return self._view.tables[self.protocol][argv[0]](self._context, argv)
        except Exception:
            return self._bug(argv)

    def _choose_table(self) -> None:
        tables = self._view.queueing if self.in_transaction else self._view.tables
        self._table = tables[self.protocol]
        if self.muted is not None or self.is_monitor:
            self._table = AlteredTable(self._table, self)

    # --- CLIENT LIST ----------------------------------------------------------------------------------

    @property
    def input_bytes(self) -> int:
        """That came and were not executed yet, as far as they are kept."""
        return self._parser.kept_bytes + sum(sum(map(len, argv)) for argv in self._pending)

    @property
    def address(self) -> str:
        return self.transport.address

    @property
    def local_address(self) -> str:
        return self.transport.local_address

    @property
    def age_seconds(self) -> int:
        return int(time.monotonic() - self.created_at)

    def end(self) -> None:
        """Closes its connection at once, whatever waits; of what was received nothing more is executed."""
        self.close_after_reply()
        self.line.end()

    def describe(self) -> str:
        return client_line(self, self._dispatcher.name_of(self.last_run, self.last_member))
