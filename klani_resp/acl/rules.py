"""One user's rules, in Redis's language: `on >secret ~concert:* +@read -kl.scan +config|get`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest

READ, WRITE = 1, 2
BOTH = READ | WRITE
PATTERN_BYTES_MAX = 256  # a key has 139 at most
ALL_KEYS = b"*"
UNKNOWN_COMMAND = "Unknown command or category name in ACL"
SYNTAX = "Syntax error"
AFTER_ALL_KEYS = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
    "Try 'resetkeys' to start with an empty list of patterns"
)
AFTER_ALL_CHANNELS = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
    "effect. Try 'resetchannels' to start with an empty list of channels"
)
NO_SUCH_PASSWORD = "The password you are trying to remove from the user does not exist"
BAD_HASH = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
SUBCOMMAND_OF_A_SUBCOMMAND = "Allowing first-arg of a subcommand is not supported"
_is_hash = re.compile(rb"[0-9a-f]{64}").fullmatch
_key_rule = re.compile(rb"(?:~|%([Rr]|[Ww]|[Rr][Ww]|[Ww][Rr])~)(.*)", re.DOTALL).fullmatch
_is_spaced = re.compile(rb"[\s\0]").search

Permissions = Mapping[str, frozenset[str]]  # `kl.seek`, `config|get`: the categories of each


class RuleError(Exception):
    """A rule cannot be applied; the text is Redis's."""


def hashed(password: bytes) -> str:
    return sha256(password).hexdigest()


def is_spaced(name: bytes) -> bool:
    return _is_spaced(name) is not None


@dataclass(slots=True)
class Rules:
    """What a user is allowed. `copy` before `apply`: a rule that is refused may come behind others."""

    known: Permissions
    is_on: bool = False
    needs_no_password: bool = False
    hashes: dict[str, None] = field(default_factory=dict)
    patterns: dict[bytes, int] = field(default_factory=dict)  # READ, WRITE or BOTH
    channels: dict[bytes, None] = field(default_factory=dict)  # there are none; kept for who reads the rules
    has_all_commands: bool = False  # before `commands`
    commands: dict[str, bool] = field(default_factory=dict)  # allowed or not, the later one counts

    def copy(self) -> Rules:
        return Rules(
            self.known,
            self.is_on,
            self.needs_no_password,
            dict(self.hashes),
            dict(self.patterns),
            dict(self.channels),
            self.has_all_commands,
            dict(self.commands),
        )

    # --- what they say --------------------------------------------------------------------------------

    def accepts(self, password: bytes) -> bool:
        """Takes the same time whichever of the passwords it is, and for one that is none."""
        given = hashed(password)
        found = False
        for known in self.hashes:
            found |= compare_digest(known, given)
        return self.is_on and (found or self.needs_no_password)

    @property
    def has_all_keys(self) -> bool:
        return self.patterns.get(ALL_KEYS) == BOTH

    def allowed(self) -> frozenset[str]:
        """The permissions, all rules considered in their order."""
        state = dict.fromkeys(self.known, self.has_all_commands)
        for rule, is_allowed in self.commands.items():
            state |= dict.fromkeys(self._reach(rule), is_allowed)
        return frozenset(name for name, is_allowed in state.items() if is_allowed)

    def _reach(self, rule: str) -> list[str]:
        """The permissions that a rule speaks of: `@read`, `config`, or `config|get`."""
        if rule.startswith("@"):
            return [name for name, found in self.known.items() if rule[1:] in found]
        return [name for name in self.known if name == rule or name.startswith(rule + "|")]

    def flags(self) -> list[str]:
        return ["on" if self.is_on else "off", *(["nopass"] if self.needs_no_password else [])]

    def keys(self) -> list[bytes]:
        heads = {READ: b"%R~", WRITE: b"%W~", BOTH: b"~"}
        return [heads[access] + pattern for pattern, access in self.patterns.items()]

    def command_rules(self) -> str:
        base = "+@all" if self.has_all_commands else "-@all"
        return " ".join([base, *("-+"[allowed] + rule for rule, allowed in self.commands.items())])

    def line(self) -> bytes:
        """All of them, as they are set."""
        words = [flag.encode() for flag in self.flags()]
        words += [b"#" + one.encode() for one in self.hashes]
        words += self.keys()
        words += [] if ALL_KEYS in self.channels else [b"resetchannels"]
        words += [b"&" + one for one in self.channels]
        return b" ".join([*words, self.command_rules().encode()])

    # --- how they change ------------------------------------------------------------------------------

    def apply(self, rule: bytes, categories: frozenset[str]) -> None:
        """Raises RuleError."""
        word = rule.lower().decode("utf-8", "surrogateescape")
        if (simple := _SIMPLE.get(word)) is not None:
            simple(self)
        elif rule[:1] in (b">", b"<", b"#", b"!"):
            self._apply_password(rule)
        elif rule[:1] in (b"~", b"%"):
            self._apply_pattern(rule)
        elif rule[:1] == b"&":
            if is_spaced(rule) or len(rule) > PATTERN_BYTES_MAX:
                raise RuleError(SYNTAX)
            if ALL_KEYS in self.channels:
                raise RuleError(AFTER_ALL_CHANNELS)
            self.channels[rule[1:]] = None
        elif word[:1] in ("+", "-"):
            self._apply_command(word[1:], word[0] == "+", categories)
        else:
            raise RuleError(SYNTAX)

    def _apply_password(self, rule: bytes) -> None:
        sign, text = rule[:1], rule[1:]
        if sign in b"#!" and not _is_hash(text):
            raise RuleError(BAD_HASH)
        one = text.decode() if sign in b"#!" else hashed(text)
        if sign in b">#":
            self.hashes[one] = None
            self.needs_no_password = False
        elif self.hashes.pop(one, self) is self:
            raise RuleError(NO_SUCH_PASSWORD)

    def _apply_pattern(self, rule: bytes) -> None:
        if is_spaced(rule) or len(rule) > PATTERN_BYTES_MAX or not (parts := _key_rule(rule)):
            raise RuleError(SYNTAX)
        if self.has_all_keys:
            raise RuleError(AFTER_ALL_KEYS)
        letters, pattern = (parts[1] or b"RW").upper(), parts[2]
        access = READ * (b"R" in letters) | WRITE * (b"W" in letters)
        self.patterns[pattern] = self.patterns.get(pattern, 0) | access

    def _apply_command(self, rule: str, is_allowed: bool, categories: frozenset[str]) -> None:
        if rule.count("|") > 1:
            raise RuleError(SUBCOMMAND_OF_A_SUBCOMMAND)
        if not (rule[1:] in categories if rule.startswith("@") else self._reach(rule)):
            raise RuleError(UNKNOWN_COMMAND)
        for earlier in [name for name in self.commands if name == rule or name.startswith(rule + "|")]:
            del self.commands[earlier]
        self.commands[rule] = is_allowed

    def _all_commands(self, is_allowed: bool) -> None:
        self.has_all_commands = is_allowed
        self.commands.clear()

    def _reset(self) -> None:
        for word in ("off", "resetpass", "resetkeys", "resetchannels", "nocommands"):
            _SIMPLE[word](self)

    def _no_password(self) -> None:
        self.hashes.clear()
        self.needs_no_password = True

    def _reset_passwords(self) -> None:
        self.hashes.clear()
        self.needs_no_password = False

    def _set(self, is_on: bool) -> None:
        self.is_on = is_on

    def _all_keys(self) -> None:
        self.patterns = {ALL_KEYS: BOTH}

    def _all_channels(self) -> None:
        self.channels = {ALL_KEYS: None}


def _nothing(rules: Rules) -> None:
    """There are no payloads to be sanitized, and no selectors."""


_SIMPLE = {
    "on": lambda rules: rules._set(True),
    "off": lambda rules: rules._set(False),
    "nopass": Rules._no_password,
    "resetpass": Rules._reset_passwords,
    "allkeys": Rules._all_keys,
    "~*": Rules._all_keys,
    "resetkeys": lambda rules: rules.patterns.clear(),
    "allchannels": Rules._all_channels,
    "&*": Rules._all_channels,
    "resetchannels": lambda rules: rules.channels.clear(),
    "allcommands": lambda rules: rules._all_commands(True),
    "+@all": lambda rules: rules._all_commands(True),
    "nocommands": lambda rules: rules._all_commands(False),
    "-@all": lambda rules: rules._all_commands(False),
    "reset": Rules._reset,
    "clearselectors": _nothing,
    "sanitize-payload": _nothing,
    "skip-sanitize-payload": _nothing,
}
