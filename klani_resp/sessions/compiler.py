"""A command's declaration to one function `run(context, argv) -> bytes`, as source that is executed once.

Arity check, conversions, the handler's call and the reply's form stand in a straight line there: 0.5 us per
command against 1.4 us for a loop over converters and an encoder chosen at run time (measured, KL.SEEK).
For `KL.SEEK <key> [<field> ...]` and RESP3 the source is

    def run(context, argv):
        if len(argv) < 2: return reject(wrong_arity)
        engine = context.engine
        began = clock()
        try:
            raw = digits = argv[1]
            if raw.isdigit(): table = engine.default
            else:
                head, _, digits = raw.rpartition(b':')
                table = engine.keyed.get(head)
            if table is not None and len(digits) < 10 and digits.isdigit(): row = int(digits)
            else: table, row = key_of(engine, raw)
            value = handler(context, table, row, argv[2:])
            reply = NULL if value is None else value[0].template3 % value[1]
        except Refusal as error:
            reply = refused(engine, error, statistics)
        took = clock() - began
        statistics.ns += took
        try: fine[took >> 7] += 1
        except IndexError: statistics.slow(took, context, argv)
        return reply

The last lines are what INFO commandstats costs (docs/decisions/0016).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from commands.arguments import integer, key_of
from commands.spec import Arg, Command, CommandError, Context, Flags, Job, Reply
from klani_resp.insight.statistics import FINE_SHIFT, CommandStatistics
from klani_resp.protocol import encoder
from klani_resp.protocol.errors import error_reply
from storage.errors import StoreError

Run = Callable[[Context, list[bytes]], bytes]
Encode = Callable[[Any, Context], bytes]

# What is common is written out here; `commands.arguments` has the general case, and the refusals.
_CONVERSIONS = {
    Arg.KEY: (
        "raw = digits = argv[{i}]",
        "if raw.isdigit(): table = engine.default",
        "else:",
        "    head, _, digits = raw.rpartition(b':')",
        "    table = engine.keyed.get(head)",
        "if table is not None and len(digits) < 10 and digits.isdigit(): row = int(digits)",
        "else: table, row = key_of(engine, raw)",
    ),
    Arg.TABLE: (
        "table = engine.tables.get(argv[{i}])",
        "if table is None: table = engine.table(argv[{i}])",
    ),
    Arg.INTEGER: (
        "raw = argv[{i}]",
        "v{i} = int(raw) if len(raw) < 19 and raw.isdigit() else integer(raw)",
    ),
    Arg.TABLE_NAME: (),
    Arg.HOLD: (),
    Arg.BYTES: (),
    Arg.REST: (),
}
_VALUES = {
    Arg.KEY: "table, row",
    Arg.TABLE: "table",
    Arg.INTEGER: "v{i}",
    Arg.TABLE_NAME: "argv[{i}]",
    Arg.HOLD: "argv[{i}]",
    Arg.BYTES: "argv[{i}]",
    Arg.REST: "argv[{i}:]",
}

_REPLIES = {
    Reply.STATUS: "OK if value == 'OK' else status(value)",
    Reply.INTEGER: "b':%d\\r\\n' % value",
    Reply.INTEGER_OR_NULL: "NULL if value is None else b':%d\\r\\n' % value",
    Reply.IDS: "ids(value)",
    Reply.ROW: "NULL if value is None else value[0].template{p} % value[1]",
    Reply.ANY: "encode(value, {p})",
    Reply.RAW_TEXT: "verbatim(value, {p})",
}
# HELLO and RESET change the version that their own reply is encoded in.
_CONNECTION_ANY = "encode(value, context.client.protocol)"


def wrong_arity(name: str) -> bytes:
    text = f"wrong number of arguments for '{name.lower()}' command"
    # Whatever refuses EXEC ends the transaction, and Redis says so whether or not there is one.
    return error_reply(
        f"EXECABORT Transaction discarded because of: {text}" if name == "EXEC" else f"ERR {text}"
    )


def arity_fits(command: Command, count: int) -> bool:
    """Whether `count` arguments, the name included, are neither too few nor too many."""
    least, most = arity_of(command)
    return least <= count <= most


def arity_of(command: Command) -> tuple[int, int]:
    """The least and the most arguments, the name included."""
    most = _most(command)
    return abs(command.arity), sys.maxsize if most is None else most


@dataclass(frozen=True, slots=True)
class Ending:
    """What remains to be done for a command whose work was a job."""

    encode: Encode
    statistics: CommandStatistics


def refused(engine: Any, error: CommandError | StoreError, statistics: CommandStatistics) -> bytes:
    """A refusal shows state as any other reply does."""
    engine.note(engine.appended)
    statistics.fail(error.text)
    return error_reply(error.text)


def compile_command(command: Command, protocol: int, statistics: CommandStatistics) -> Run:
    source = _source(command, protocol)
    namespace: dict[str, Any] = {
        "handler": command.handler,
        "wrong_arity": wrong_arity(command.name),
        "refused": refused,
        "statistics": statistics,
        "reject": statistics.reject,
        "fine": statistics.fine,
        "clock": perf_counter_ns,
        "Refusal": (CommandError, StoreError),
        "Job": Job,
        "NULL": encoder.NULLS[protocol],
        "OK": encoder.OK,
        "status": encoder.status,
        "ids": encoder.ids,
        "encode": encoder.encode,
        "verbatim": encoder.verbatim,
        "key_of": key_of,
        "integer": integer,
        "error_reply": error_reply,
    }
    exec(compile(source, f"<{command.name} in RESP{protocol}>", "exec"), namespace)
    run: Run = namespace["run"]
    return run


def _most(command: Command) -> int | None:
    has_rest = bool(command.args) and command.args[-1][1] is Arg.REST
    return None if has_rest else len(command.args) + 1


def _source(command: Command, protocol: int) -> str:
    body = [f"if {_arity_violated(command)}: return reject(wrong_arity)", "engine = context.engine"]
    if command.wants_room:
        body.append(
            "if engine.readonly_reason is not None: return reject(error_reply(engine.readonly_reason))"
        )
    body += ["began = clock()", "try:"]
    body += ["    " + line for line in (*_call(command), *_answer(command, protocol))]
    body += ["except Refusal as error:", "    reply = refused(engine, error, statistics)"]
    body += ["took = clock() - began", "statistics.ns += took"]
    body += [f"try: fine[took >> {FINE_SHIFT}] += 1"]
    body += ["except IndexError: statistics.slow(took, context, argv)", "return reply"]
    return "\n".join(["def run(context, argv):", *("    " + line for line in body)]) + "\n"


def _arity_violated(command: Command) -> str:
    least, most = abs(command.arity), _most(command)
    if most is None:
        return f"len(argv) < {least}"
    if least == most:
        return f"len(argv) != {least}"
    return f"not {least} <= len(argv) <= {most}"


def _call(command: Command) -> list[str]:
    """Conversions and the handler's call. Arguments that may be absent end up in a list."""
    least = abs(command.arity) - 1
    lines: list[str] = []
    passed = ["context"]
    absent = [i for i, (_, kind) in enumerate(command.args, 1) if i > least and kind is not Arg.REST]
    for i, (_, kind) in enumerate(command.args, 1):
        conversion = [line.format(i=i) for line in _CONVERSIONS[kind]]
        value = _VALUES[kind].format(i=i)
        if i in absent:
            assert kind is not Arg.KEY, f"{command.name}: a key is two values, and cannot be absent"
            lines += ["more = []"] if i == absent[0] else []
            lines.append(f"if len(argv) > {i}:")
            lines += ["    " + line for line in (*conversion, f"more.append({value})")]
        else:
            assert not absent or i < absent[0], f"{command.name}: nothing can follow an optional argument"
            lines += conversion
            passed.append(value)
    if absent:
        passed.append("*more")
    return [*lines, f"value = handler({', '.join(passed)})"]


def _answer(command: Command, protocol: int) -> list[str]:
    lines: list[str] = []
    if not command.flags & (Flags.NOTES_OWN_POSITION | Flags.CONNECTION):
        lines.append("engine.note(engine.appended)")
    lines.append(f"reply = {_form(command, protocol)}")
    if command.reply in (Reply.ROW, Reply.STATUS) and not command.flags & Flags.NO_MULTI:
        return lines
    suspended = "if type(value) is Job: reply = context.client.suspend(value, run, argv)"
    return [suspended, "else:", *("    " + line for line in lines)]


def _form(command: Command, protocol: int) -> str:
    if command.reply is Reply.ANY and command.flags & Flags.CONNECTION:
        return _CONNECTION_ANY
    return _REPLIES[command.reply].format(p=protocol)


def compile_encoder(command: Command, protocol: int) -> Encode:
    """The reply's form alone: for the value that a job ends with."""
    source = f"lambda value, context: {_form(command, protocol)}"
    names = {"NULL": encoder.NULLS[protocol], "OK": encoder.OK, "status": encoder.status}
    names |= {"ids": encoder.ids, "encode": encoder.encode, "verbatim": encoder.verbatim}
    encode: Encode = eval(source, names)
    return encode
