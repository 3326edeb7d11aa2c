"""The one gate between a request and its handler: lookup, arity, loading, then the compiled command.

A table per protocol version maps names, as they come, to `run(context, argv) -> bytes`; while the store
loads, most of its entries answer LOADING. A second table serves between
MULTI and EXEC. No handler repeats a check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from commands.spec import Command, CommandError, Context, Flags
from klani_resp.compiler import Encode, Run, arity_fits, compile_command, compile_encoder, wrong_arity
from klani_resp.protocol.encoder import QUEUED
from klani_resp.protocol.errors import error_reply

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
        self.tables = {protocol: CommandTable(_unknown) for protocol in PROTOCOLS}
        self.queueing = {protocol: CommandTable(_queue_unknown) for protocol in PROTOCOLS}
        self.encoders: dict[Run, Encode] = {}
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
        run = compile_command(command, protocol)
        self.encoders[run] = compile_encoder(command, protocol)
        return run

    def _fill(self, protocol: int, *, loading: bool) -> None:
        table, queueing = self.tables[protocol], self.queueing[protocol]
        table.clear()
        queueing.clear()
        for name, command in self.commands.items():
            run = self._runs[protocol][name]
            answers = run if not loading or command.flags & Flags.LOADING else _loading
            queues = _immediate(command, answers) if name in IMMEDIATE else _queueing(command)
            for spelling in (name.encode(), name.lower().encode()):
                table[spelling] = answers
                queueing[spelling] = queues
        for spelling in FOREIGN:
            table[spelling] = _foreign


def _session(context: Context) -> Session:
    return cast("Session", context.client)


def _loading(context: Context, argv: list[bytes]) -> bytes:
    return LOADING


def _foreign(context: Context, argv: list[bytes]) -> bytes:
    """Another protocol's first line: closed at once, and no answer that could be taken for one."""
    context.client.close_after_reply()
    return b""


def _unknown(context: Context, argv: list[bytes]) -> bytes:
    """Redis 7's text, which stock clients compare; arguments end at 128 bytes all told."""
    shown = b""
    for word in argv[1:]:
        if len(shown) >= UNKNOWN_SHOWN_BYTES:
            break
        shown += b"'%b' " % word.partition(b"\0")[0][: UNKNOWN_SHOWN_BYTES - len(shown)]
    name = argv[0].partition(b"\0")[0][:UNKNOWN_SHOWN_BYTES]
    text = b"ERR unknown command '%b', with args beginning with: %b" % (name, shown)
    return error_reply(text.decode("utf-8", "surrogateescape"))


def _queue_unknown(context: Context, argv: list[bytes]) -> bytes:
    _session(context).spoil_transaction()
    return _unknown(context, argv)


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


def _queueing(command: Command) -> Run:
    """What the command does between MULTI and EXEC: it is checked, and waits."""
    bad_arity, family = wrong_arity(command.name), command.family

    def queue(context: Context, argv: list[bytes]) -> bytes:
        session = _session(context)
        if not arity_fits(command, len(argv)):
            session.spoil_transaction()
            return bad_arity
        if command.flags & Flags.NO_MULTI:
            session.spoil_transaction()
            return NOT_IN_MULTI
        if family is not None and len(argv) > 1:
            try:
                family.find(argv[1:])
            except CommandError as error:
                session.spoil_transaction()
                return error_reply(error.text)
        reason = context.engine.readonly_reason
        if reason is not None and command.wants_room:
            session.spoil_transaction()
            return error_reply(reason)
        refusal = session.enqueue(argv)
        return QUEUED if refusal is None else error_reply(refusal)

    return queue
