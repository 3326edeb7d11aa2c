"""The one gate between a request and its handler: lookup, arity, loading, then the compiled command.

A table per protocol version maps names, as they come, to `run(context, argv) -> bytes`; while the store
loads, most of its entries answer LOADING. A second table serves between
MULTI and EXEC. No handler repeats a check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from commands.spec import Command, CommandError, Context, Flags
from klani_resp.compiler import Ending, Run, arity_fits, compile_command, compile_encoder, wrong_arity
from klani_resp.protocol.encoder import QUEUED
from klani_resp.protocol.errors import error_reply
from klani_resp.statistics import Statistics

if TYPE_CHECKING:
    from klani_resp.session import Session

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


class Dispatcher:
    def __init__(self, commands: Mapping[str, Command]) -> None:
        self.commands = commands
        self.tables = {protocol: CommandTable(self._unknown) for protocol in PROTOCOLS}
        self.queueing = {protocol: CommandTable(self._queue_unknown) for protocol in PROTOCOLS}
        self.statistics = Statistics()
        self.endings: dict[Run, Ending] = {}
        self._runs = {
            protocol: {name: self._compile(command, protocol) for name, command in commands.items()}
            for protocol in PROTOCOLS
        }
        for protocol in PROTOCOLS:
            self._fill(protocol, loading=True)

    def opened(self) -> None:
        """The store is there. Tables change in place: sessions hold on to them."""
        for protocol in PROTOCOLS:
            self._fill(protocol, loading=False)

    def _compile(self, command: Command, protocol: int) -> Run:
        statistics = self.statistics.of(command.name)
        run = compile_command(command, protocol, statistics)
        self.endings[run] = Ending(compile_encoder(command, protocol), statistics)
        return run

    def _fill(self, protocol: int, *, loading: bool) -> None:
        table, queueing = self.tables[protocol], self.queueing[protocol]
        table.clear()
        queueing.clear()
        for name, command in self.commands.items():
            run = self._runs[protocol][name]
            answers = run if not loading or command.flags & Flags.LOADING else self._loading
            queues = _immediate(command, answers) if name in IMMEDIATE else self._queueing(command)
            for spelling in (name.encode(), name.lower().encode()):
                table[spelling] = answers
                queueing[spelling] = queues
        for spelling in FOREIGN:
            table[spelling] = _foreign

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
        _session(context).transaction.is_spoiled = True
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
                session.transaction.is_spoiled = True
                return reject(refusal)
            text = session.transaction.enqueue(argv)
            return QUEUED if text is None else reject(error_reply(text))

        return queue


def _session(context: Context) -> Session:
    return cast("Session", context.client)


def _foreign(context: Context, argv: list[bytes]) -> bytes:
    """Another protocol's first line: closed at once, and no answer that could be taken for one."""
    context.client.close_after_reply()
    return b""


def _immediate(command: Command, run: Run) -> Run:
    """What acts between MULTI and EXEC. With a wrong arity it spoils the transaction; EXEC then ends it."""

    def act(context: Context, argv: list[bytes]) -> bytes:
        if not arity_fits(command, len(argv)):
            session = _session(context)
            if command.name == "EXEC":
                session.discard_transaction()
            else:
                session.transaction.is_spoiled = True
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
