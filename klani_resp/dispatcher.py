"""The one gate between a request and its handler: lookup, arity, permission, loading, the compiled command.

A table per protocol version maps names, as they come, to `run(context, argv) -> bytes`; while the store
loads, most of its entries answer LOADING. A second table serves between MULTI and EXEC. Both make a view:
there is one for whoever may do everything, one for whoever has not said who it is, and one for each user
whose rules forbid anything, where commands stand behind what is checked. No handler repeats a check.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast
from weakref import WeakSet

from commands.spec import Command, CommandError, Context, Flags
from klani_resp.acl.guard import Check, Guard, Nobody
from klani_resp.compiler import (
    Ending,
    Run,
    arity_fits,
    arity_of,
    compile_command,
    compile_encoder,
    wrong_arity,
)
from klani_resp.protocol.encoder import QUEUED
from klani_resp.protocol.errors import error_reply
from klani_resp.sometimes import Sometimes
from klani_resp.statistics import Statistics

if TYPE_CHECKING:
    from klani_resp.session import Session

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
    """Names to compiled commands; another spelling of a name is remembered once it was used."""

    def __init__(self, unknown: Run) -> None:
        super().__init__()
        self.unknown = unknown

    def __missing__(self, name: bytes) -> Run:
        run = self.get(name.upper())
        if run is None:
            return self.unknown
        if len(self) < SPELLINGS_MAX:
            self[name] = run
        return run


class View:
    """What one kind of client may call; `guard` is None where that is everything."""

    def __init__(
        self, unknown: Run, queue_unknown: Run, guard: Guard | None, forbidden: frozenset[bytes]
    ) -> None:
        self.tables = {protocol: CommandTable(unknown) for protocol in PROTOCOLS}
        self.queueing = {protocol: CommandTable(queue_unknown) for protocol in PROTOCOLS}
        self.guard = guard
        self.forbidden = forbidden  # names of commands whose arguments do not matter


class Dispatcher:
    def __init__(self, commands: Mapping[str, Command]) -> None:
        self.commands = commands
        self.statistics = Statistics()
        self.endings: dict[Run, Ending] = {}
        self._runs = {
            protocol: {name: self._compile(command, protocol) for name, command in commands.items()}
            for protocol in PROTOCOLS
        }
        self._is_loading = True
        self._views: WeakSet[View] = WeakSet()
        self.speaks_otherwise = Sometimes()
        self.full = self.view(None)
        self.tables = self.full.tables
        self.nobody = self.view(Nobody())

    def opened(self) -> None:
        """The store is there. Tables change in place: sessions hold on to them."""
        self._is_loading = False
        for view in self._views:
            for protocol in PROTOCOLS:
                self._fill(view, protocol)

    def view(self, guard: Guard | None) -> View:
        """A new one; it is of use as long as somebody holds on to it."""
        commands = self.commands.items()
        forbidden = [] if guard is None else [name for name, command in commands if guard.forbids(command)]
        view = View(self._unknown, self._queue_unknown, guard, frozenset(name.encode() for name in forbidden))
        for protocol in PROTOCOLS:
            self._fill(view, protocol)
        self._views.add(view)
        return view

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
        statistics = self.statistics.of(command.name)
        run = compile_command(command, protocol, statistics)
        self.endings[run] = Ending(compile_encoder(command, protocol), statistics)
        return run

    def _fill(self, view: View, protocol: int) -> None:
        table, queueing = view.tables[protocol], view.queueing[protocol]
        table.clear()
        queueing.clear()
        for name, command in self.commands.items():
            run = self._runs[protocol][name]
            is_ready = not self._is_loading or bool(command.flags & Flags.LOADING)
            answers = run if is_ready else self._loading
            queues = _immediate(command, answers) if name in IMMEDIATE else self._queueing(command)
            if view.guard is not None:
                check = view.guard.check(command, with_keys=is_ready)
                if check is not None:
                    answers = self._behind(view.guard, check, command, answers)
                    queues = self._behind(view.guard, check, command, queues, is_queued=True)
            for spelling in (name.encode(), name.lower().encode()):
                table[spelling] = answers
                queueing[spelling] = queues
        for word in FOREIGN:
            table[word] = self._foreign

    def _behind(
        self, guard: Guard, check: Check, command: Command, inner: Run, *, is_queued: bool = False
    ) -> Run:
        """`inner`, for whom the guard lets pass. A wrong arity is told first, as in Redis."""
        reject = self.statistics.of(command.name).reject
        least, most = arity_of(command)
        where = "multi" if is_queued else "toplevel"

        def run(context: Context, argv: list[bytes]) -> bytes:
            if least <= len(argv) <= most:
                denial = check(context.engine, argv)
                if denial is not None:
                    if is_queued:
                        _session(context).spoil_transaction()
                    return reject(guard.refuse(denial, where, context.client))
            return inner(context, argv)

        return run

    def _foreign(self, context: Context, argv: list[bytes]) -> bytes:
        """Another protocol's first line: closed at once, and no answer that could be taken for one."""
        self.foreign("HTTP", _session(context))
        context.client.close_after_reply()
        return b""

    def _loading(self, context: Context, argv: list[bytes]) -> bytes:
        self.statistics.count_error("LOADING")
        return LOADING

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
        _session(context).spoil_transaction()
        return self._unknown(context, argv)

    def _queueing(self, command: Command) -> Run:
        """What the command does between MULTI and EXEC: it is checked, and waits."""
        bad_arity, reject = wrong_arity(command.name), self.statistics.of(command.name).reject

        def queue(context: Context, argv: list[bytes]) -> bytes:
            session = _session(context)
            if not arity_fits(command, len(argv)):
                refusal: bytes | None = bad_arity
            else:
                refusal = _not_queued(command, context, argv)
            if refusal is not None:
                session.spoil_transaction()
                return reject(refusal)
            text = session.enqueue(argv)
            return QUEUED if text is None else reject(error_reply(text))

        return queue


def _session(context: Context) -> Session:
    return cast("Session", context.client)


def _immediate(command: Command, run: Run) -> Run:
    """What acts between MULTI and EXEC. With a wrong arity it spoils the transaction; EXEC then ends it."""

    def act(context: Context, argv: list[bytes]) -> bytes:
        if not arity_fits(command, len(argv)):
            session = _session(context)
            if command.name == "EXEC":
                session.discard_transaction()
            else:
                session.spoil_transaction()
        return run(context, argv)

    return act


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
