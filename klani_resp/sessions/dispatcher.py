"""The one gate between a request and its handler: lookup, arity, permission, loading, the compiled command.

A table per protocol version maps names, as they come, to `run(context, argv) -> bytes`; while the store
loads, most of its entries answer LOADING. A second table serves between MULTI and EXEC. Both make a view:
there is one for whoever may do everything, one for whoever has not said who it is, and one for each user
whose rules forbid anything, where commands stand behind what is checked. No handler repeats a check.

What stands before a compiled command is made with functools.wraps: so a session that remembers what it ran
last, and no bytes of its client's, can be told which command that was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import unwrap
from typing import TYPE_CHECKING, cast
from weakref import WeakSet

from commands.spec import Command, CommandError, Context, Flags
from klani_resp.acl.guard import Check, Guard, Nobody
from klani_resp.insight.statistics import Statistics
from klani_resp.protocol.encoder import QUEUED
from klani_resp.protocol.errors import error_reply
from klani_resp.sessions.compiler import (
    Ending,
    Run,
    arity_fits,
    arity_of,
    compile_command,
    compile_encoder,
    wrong_arity,
)
from klani_resp.sometimes import Sometimes

if TYPE_CHECKING:
    from klani_resp.sessions.session import Session

log = logging.getLogger("klani_resp")
PROTOCOLS = (2, 3)
SPELLINGS_MAX = 4096  # of command names that are remembered, per table
UNKNOWN_SHOWN_BYTES = 128
LOADING = error_reply("LOADING Redis is loading the dataset in memory")
NOT_IN_MULTI = error_reply("ERR Command not allowed inside a transaction")
# These act between MULTI and EXEC instead of being queued.
IMMEDIATE = frozenset({"EXEC", "DISCARD", "MULTI", "WATCH", "QUIT", "RESET"})
# What browsers and scanners send first; Redis closes on the first two as well.
FOREIGN = (b"POST", b"HOST:", b"PRI")


class CommandTable(dict[bytes, Run]):
    """Names to what runs; another spelling of a name is remembered once it was used.

    `build` makes what is not there yet, from the name in upper case: a user's view has what the user calls.
    """

    def __init__(self, unknown: Run, build: Callable[[bytes], Run | None] = lambda name: None) -> None:
        super().__init__()
        self.unknown = unknown
        self._build = build

    def __missing__(self, name: bytes) -> Run:
        upper = name.upper()
        run = self.get(upper)
        if run is None:
            run = self._build(upper)
            if run is None:
                return self.unknown
            self[upper] = run
        if len(self) < SPELLINGS_MAX:
            self[name] = run
        return run


@dataclass(frozen=True, eq=False)
class View:
    """What one kind of client may call: a table for each protocol, and those between MULTI and EXEC."""

    tables: dict[int, CommandTable]
    queueing: dict[int, CommandTable]
    guard: Guard | None = None  # None where everything is allowed
    forbidden: frozenset[bytes] = frozenset()  # names of commands whose arguments do not matter


class Dispatcher:
    def __init__(self, commands: Mapping[str, Command]) -> None:
        self.commands = commands
        self.statistics = Statistics()
        self.writing = frozenset(n.encode() for n, one in commands.items() if one.flags & Flags.WRITE)
        self.wanting_room = frozenset(n.encode() for n, one in commands.items() if one.wants_room)
        self.endings: dict[Run, Ending] = {}
        self._runs = {
            protocol: {name: self._compile(command, protocol) for name, command in commands.items()}
            for protocol in PROTOCOLS
        }
        self._is_loading = True
        self.tables = {protocol: CommandTable(self._unknown) for protocol in PROTOCOLS}
        self.queueing = {protocol: CommandTable(self._queue_unknown) for protocol in PROTOCOLS}
        self.full = View(self.tables, self.queueing)
        self._views: WeakSet[View] = WeakSet()
        self.nobody = self.view(Nobody())
        self.speaks_otherwise = Sometimes()
        self.bugs = Sometimes()  # a client may know how to bring one about, and do so without end
        for protocol in PROTOCOLS:
            self._fill(protocol)

    def opened(self) -> None:
        """The store is there. Tables change in place: sessions hold on to them."""
        self._is_loading = False
        for protocol in PROTOCOLS:
            self._fill(protocol)
            for view in self._views:
                view.tables[protocol].clear()
                view.queueing[protocol].clear()

    def view(self, guard: Guard) -> View:
        """A new one; it is of use as long as somebody holds on to it."""
        forbidden = [name for name, command in self.commands.items() if guard.forbids(command)]
        tables, queueing = (
            {
                protocol: CommandTable(table.unknown, self._behind(guard, table, where))
                for protocol, table in source.items()
            }
            for source, where in ((self.tables, "toplevel"), (self.queueing, "multi"))
        )
        view = View(tables, queueing, guard, frozenset(name.encode() for name in forbidden))
        self._views.add(view)
        return view

    def name_of(self, run: Run | None, member: str) -> str:
        """Of the command that it carries out, or refuses; `member` when that has subcommands. Or ""."""
        ending = None if run is None else self.endings.get(unwrap(run))
        if ending is None:
            return ""
        command = self.commands[ending.statistics.command]
        return command.name.lower() if command.family is None else member

    def reject(self, argv: list[bytes], refusal: bytes) -> bytes:
        """A known command is refused before it begins."""
        return self._reject(self.commands[argv[0].decode().upper()], argv, refusal)

    def _reject(self, command: Command, argv: list[bytes], refusal: bytes) -> bytes:
        return self.statistics.of(command.called(argv)).reject(refusal)

    def foreign(self, what: str, session: Session) -> None:
        """A client that speaks another protocol is gone: said now and then."""
        self.speaks_otherwise.warn(
            log,
            "client %d at %s speaks %s: its connection is closed",
            session.id,
            session.transport.address,
            what,
        )

    def _compile(self, command: Command, protocol: int) -> Run:
        compiled = self._counted_as(command.name, command, protocol)
        return compiled if command.family is None else self._by_member(command, protocol, compiled)

    def _counted_as(self, name: str, command: Command, protocol: int) -> Run:
        statistics = self.statistics.of(name)
        run = compile_command(command, protocol, statistics)
        self.endings[run] = Ending(compile_encoder(command, protocol), statistics)
        return run

    def _by_member(self, command: Command, protocol: int, compiled: Run) -> Run:
        """Each subcommand counts itself, as a command does: compiled once more, when it is called first."""
        runs = {command.name: compiled}

        @wraps(compiled)
        def run(context: Context, argv: list[bytes]) -> bytes:
            name = command.called(argv)
            if name not in runs:
                runs[name] = self._counted_as(name, command, protocol)
            return runs[name](context, argv)

        return run

    def _fill(self, protocol: int) -> None:
        table, queueing = self.tables[protocol], self.queueing[protocol]
        table.clear()
        queueing.clear()
        for name, command in self.commands.items():
            compiled = self._runs[protocol][name]
            answers = compiled if self._is_ready(command) else self._loading(compiled)
            queues = _immediate(command, answers) if name in IMMEDIATE else self._queueing(command, compiled)
            for spelling in (name.encode(), name.lower().encode()):
                table[spelling] = _noted(command, answers)
                queueing[spelling] = _noted(command, queues)
        for word in FOREIGN:
            table[word] = queueing[word] = self._foreign

    def _is_ready(self, command: Command) -> bool:
        return not self._is_loading or bool(command.flags & Flags.LOADING)

    def _behind(self, guard: Guard, table: CommandTable, where: str) -> Callable[[bytes], Run | None]:
        """Makes what the table has stand behind the guard."""

        def build(name: bytes) -> Run | None:
            inner = table.get(name)
            command = self.commands.get(name.decode("utf-8", "surrogateescape"))
            if inner is None or command is None:
                return inner
            check = guard.check(command, with_keys=self._is_ready(command))
            return inner if check is None else self._checked(guard, check, command, inner, where)

        return build

    def _checked(self, guard: Guard, check: Check, command: Command, inner: Run, where: str) -> Run:
        """A wrong arity is told first, as in Redis."""
        least, most = arity_of(command)
        is_queued = where == "multi"

        @wraps(inner)
        def run(context: Context, argv: list[bytes]) -> bytes:
            if least <= len(argv) <= most:
                denial = check(context.engine, argv)
                if denial is not None:
                    session = _session(context)
                    session.last_run = run  # ACL LOG says so; several at once are noted behind the last
                    if is_queued:
                        session.transaction.is_spoiled = True
                    refusal = guard.refuse(denial, where, context.client)
                    if command.name == "EXEC":
                        refusal = _aborted(session, refusal)
                    return self._reject(command, argv, refusal)
            return inner(context, argv)

        return _noted(command, run)

    def _foreign(self, context: Context, argv: list[bytes]) -> bytes:
        """Another protocol's first line: closed at once, and no answer that could be taken for one."""
        self.foreign("HTTP", _session(context))
        context.client.close_after_reply()
        return b""

    def _loading(self, compiled: Run) -> Run:
        @wraps(compiled)
        def run(context: Context, argv: list[bytes]) -> bytes:
            self.statistics.count_error("LOADING")
            return LOADING

        return run

    def _unknown(self, context: Context, argv: list[bytes]) -> bytes:
        """Redis 7's text, which stock clients compare; arguments end at 128 bytes all told."""
        shown = b""
        for word in argv[1:]:
            if len(shown) >= UNKNOWN_SHOWN_BYTES:
                break
            shown += b"'%b' " % word.partition(b"\0")[0][: UNKNOWN_SHOWN_BYTES - len(shown)]
        name = argv[0].partition(b"\0")[0][:UNKNOWN_SHOWN_BYTES]
        text = b"ERR unknown command '%b', with args beginning with: %b" % (name, shown)
        self.statistics.count_error("ERR")
        return error_reply(text.decode("utf-8", "surrogateescape"))

    def _queue_unknown(self, context: Context, argv: list[bytes]) -> bytes:
        _session(context).transaction.is_spoiled = True
        return self._unknown(context, argv)

    def _queueing(self, command: Command, compiled: Run) -> Run:
        """What the command does between MULTI and EXEC: it is checked, and waits."""
        bad_arity = wrong_arity(command.name)

        @wraps(compiled)
        def queue(context: Context, argv: list[bytes]) -> bytes:
            session = _session(context)
            if not arity_fits(command, len(argv)):
                refusal: bytes | None = bad_arity
            else:
                refusal = _not_queued(command, context, argv)
            if refusal is not None:
                session.transaction.is_spoiled = True
                return self._reject(command, argv, refusal)
            text = session.transaction.add(argv)
            return QUEUED if text is None else self._reject(command, argv, error_reply(text))

        return queue


def _session(context: Context) -> Session:
    return cast("Session", context.client)


def _aborted(session: Session, refusal: bytes) -> bytes:
    """Whatever refuses EXEC ends the transaction, and Redis says so whether or not there is one."""
    if session.in_transaction:
        session.discard_transaction()
    return b"-EXECABORT Transaction discarded because of: " + refusal[1:]


def _immediate(command: Command, run: Run) -> Run:
    """What acts between MULTI and EXEC. With a wrong arity it spoils the transaction; EXEC then ends it."""

    @wraps(run)
    def act(context: Context, argv: list[bytes]) -> bytes:
        if not arity_fits(command, len(argv)):
            session = _session(context)
            if command.name == "EXEC":
                session.discard_transaction()
            else:
                session.transaction.is_spoiled = True
        return run(context, argv)

    return act


def _noted(command: Command, run: Run) -> Run:
    """Of a command with subcommands, which of them it was is noted: nothing but the request tells."""
    family, name = command.family, command.name.lower()
    if family is None:
        return run

    @wraps(run)
    def noted(context: Context, argv: list[bytes]) -> bytes:
        session = _session(context)
        session.last_run = noted
        if len(argv) == 1:
            session.last_member = name
        elif family.get(argv[1]) is None:
            session.last_member = ""
        else:
            session.last_member = f"{name}|{argv[1].decode().lower()}"
        return run(context, argv)

    return noted


def _not_queued(command: Command, context: Context, argv: list[bytes]) -> bytes | None:
    """Why the command cannot be one of a transaction's."""
    if command.flags & Flags.NO_MULTI:
        return NOT_IN_MULTI
    if command.family is not None and len(argv) > 1:
        try:
            command.family.find(argv[1:])
        except CommandError as error:
            return error_reply(error.text)
    reason = context.engine.readonly_reason
    if reason is not None and command.wants_room:
        return error_reply(reason)
    return None
