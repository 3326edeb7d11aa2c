"""What is checked before a command of a user runs: its name, then the keys, tables and holds it names.

A key is judged as `<table>:<id>`, whatever it was written like. A command on a table needs a pattern that
covers `<table>:*` whole, and so does one on a hold for the table of that. Which argument is which is the
declaration's word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from commands.arguments import split_key
from commands.glob import Glob
from commands.spec import Arg, Client, Command, Flags
from klani_resp.acl.log import AccessLog
from klani_resp.acl.rules import BOTH, READ, WRITE, Rules
from klani_resp.protocol.errors import error_reply
from storage.schema import DIGITS_MAX

NOAUTH = error_reply("NOAUTH Authentication required.")
NO_KEY = error_reply("NOPERM No permissions to access a key")
REMEMBERED_MAX = 1024  # tables and heads of keys that were judged, per user and kind of access
TABLE_BYTES_MAX = 130  # with braces


class Denial(NamedTuple):
    reason: str  # as ACL LOG has it
    what: bytes  # the command, or the key


Check = Callable[[Any, list[bytes]], Denial | None]  # of an engine and a request whose arity fits


class Guard(Protocol):
    """What stands before the commands of one kind of client."""

    def forbids(self, command: Command) -> bool:
        """Whatever its arguments are."""
        ...

    def check(self, command: Command, *, with_keys: bool) -> Check | None:
        """None where there is nothing to be checked."""
        ...

    def refuse(self, denial: Denial, where: str, client: Client) -> bytes: ...


class Nobody:
    """Before AUTH."""

    def forbids(self, command: Command) -> bool:
        return not command.flags & Flags.NO_AUTH

    def check(self, command: Command, *, with_keys: bool) -> Check | None:
        return (lambda engine, argv: Denial("", b"")) if self.forbids(command) else None

    def refuse(self, denial: Denial, where: str, client: Client) -> bytes:
        return NOAUTH


class UserGuard:
    """Of one user and its rules; a change of the rules makes another."""

    def __init__(self, name: bytes, rules: Rules, default_table: bytes, log: AccessLog) -> None:
        self._name = name
        self._log = log
        self._allowed = rules.allowed()
        self.is_idle = rules.has_all_keys and len(self._allowed) == len(rules.known)
        globs = [(Glob(pattern), access) for pattern, access in rules.patterns.items()]
        self._rings = {
            need: Keyring([glob for glob, access in globs if access & need == need], default_table)
            for need in (READ, WRITE, BOTH)
        }

    def forbids(self, command: Command) -> bool:
        name = command.name.lower()
        if command.flags & Flags.NO_AUTH or name in self._allowed:
            return False
        return command.family is None or not any(one.startswith(name + "|") for one in self._allowed)

    def check(self, command: Command, *, with_keys: bool) -> Check | None:
        if command.flags & Flags.NO_AUTH:
            return None
        if command.family is not None:
            return self._check_member(command, with_keys=with_keys)
        if command.name.lower() not in self._allowed:
            denial = Denial("command", command.name.lower().encode())
            return lambda engine, argv: denial
        return _key_check(command, self._rings[_need(command)]) if with_keys else None

    def _check_member(self, command: Command, *, with_keys: bool) -> Check:
        family, name = command.family, command.name.lower().encode()
        assert family is not None
        allowed = {one.encode() for one in self._allowed}
        key_check = _key_check(command, self._rings[_need(command)]) if with_keys else None

        def check(engine: Any, argv: list[bytes]) -> Denial | None:
            if len(argv) > 1 and family.get(argv[1]) is None:
                return None  # it will be told so
            full = b"%b|%b" % (name, argv[1].lower()) if len(argv) > 1 else name
            if full not in allowed:
                return Denial("command", full)
            return None if key_check is None else key_check(engine, argv)

        return check

    def refuse(self, denial: Denial, where: str, client: Client) -> bytes:
        self._log.add(denial.reason, where, denial.what, self._name, client)
        if denial.reason == "key":
            return NO_KEY
        return error_reply("NOPERM " + self.told(denial))

    def told(self, denial: Denial) -> str:
        """As ACL DRYRUN has it."""
        name = self._name.decode("utf-8", "surrogateescape")
        what = denial.what[:128].decode("utf-8", "surrogateescape")
        if denial.reason == "key":
            return f"User {name} has no permissions to access the '{what}' key"
        return f"User {name} has no permissions to run the '{what}' command"

    def sees(self, table: bytes) -> bool:
        return self._rings[READ].has_table(table)


class Keyring:
    """The patterns of a user that give one kind of access."""

    def __init__(self, globs: list[Glob], default_table: bytes) -> None:
        self._globs = globs
        self._default_table = default_table
        # Whether tables are covered whole, and what stands before the `:` in keys of those that are.
        self.tables: dict[bytes, bool] = {}
        self.heads: set[bytes] = set()
        self.has_everything = any(glob.covers(b"") for glob in globs)

    def has_table(self, name: bytes) -> bool:
        is_covered = self.tables.get(name)
        if is_covered is None:
            if len(name) > TABLE_BYTES_MAX:  # it is none, and to look at it would take long
                return self.has_everything
            is_covered = any(glob.covers(name + b":") for glob in self._globs)
            if len(self.tables) < REMEMBERED_MAX:
                self.tables[name] = is_covered
        return is_covered

    def has_key(self, raw: bytes) -> bool:
        """What is no key is refused, too, unless its table is covered: then the command says what it is."""
        head = raw.rpartition(b":")[0]
        if head in self.heads:
            return True
        table, row = split_key(self._default_table, raw)
        if self.has_table(table):
            # An empty head stands for the default table. `:42` has one too, but names a table without a name.
            is_told = bool(head) or b":" not in raw
            if is_told and len(self.heads) < REMEMBERED_MAX and len(head) <= TABLE_BYTES_MAX:
                self.heads.add(head)
            return True
        if row is None or len(table) > TABLE_BYTES_MAX:
            return False
        key = b"%b:%d" % (table, row)
        return any(glob.fits(key) is not None for glob in self._globs)


def _need(command: Command) -> int:
    """A write that chooses its rows in a table tells what is in them."""
    if not command.flags & Flags.WRITE:
        return READ
    return BOTH if command.places_of(Arg.TABLE) else WRITE


def _key_check(command: Command, ring: Keyring) -> Check | None:
    if command.keys == (1, 1, 1) and not command.keys_end:
        return _one_key_check(ring)
    tables, holds = command.places_of(Arg.TABLE, Arg.TABLE_NAME), command.places_of(Arg.HOLD)
    assert bool(command.keys[0]) + len(tables) + len(holds) <= 1, f"{command.name}: which of them is judged?"
    if command.keys[0]:
        return lambda engine, argv: next(
            (Denial("key", key) for key in command.keys_of(argv) if not ring.has_key(key)), None
        )
    if tables:
        (place,) = tables
        return lambda engine, argv: _table_denial(ring, argv[place])
    if holds:
        (place,) = holds
        return lambda engine, argv: _hold_denial(engine, ring, argv[place])
    return None


def _one_key_check(ring: Keyring) -> Check:
    heads, has_key = ring.heads, ring.has_key

    def check(engine: Any, argv: list[bytes]) -> Denial | None:
        key = argv[1]
        if key.rpartition(b":")[0] in heads or has_key(key):
            return None
        return Denial("key", key)

    return check


def _table_denial(ring: Keyring, table: bytes) -> Denial | None:
    return None if ring.has_table(table) else Denial("key", table + b":*")


def _hold_denial(engine: Any, ring: Keyring, token: bytes) -> Denial | None:
    """A hold that is not known is nobody's: the command will say so."""
    hold = engine.selling.holds.get(int(token)) if token.isdigit() and len(token) <= DIGITS_MAX else None
    return None if hold is None else _table_denial(ring, hold.table.name)
