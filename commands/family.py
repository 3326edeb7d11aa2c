"""Commands with subcommands (CLIENT, CONFIG, COMMAND): one look-up, Redis's texts for what is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from commands.glob import Glob
from commands.spec import CommandError, Context, Flags, Secrets, Status

Handler = Callable[[Context, list[bytes]], Any]
PATTERN_BYTES_MAX = 128  # longer than any name; a megabyte of `*a` took seconds, and nobody was served


def name_matcher(pattern: bytes) -> Callable[[str], bool]:
    """Whether a lower-case name fits a glob pattern, whatever its case."""
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(f"ERR a pattern has at most {PATTERN_BYTES_MAX} bytes, not {len(pattern)}")
    glob = Glob(pattern.lower())
    return lambda name: glob.matches(name.encode())


@dataclass(frozen=True, slots=True)
class Subcommand:
    handler: Handler
    least: int  # arguments behind the subcommand's name
    most: int | None
    summary: str
    syntax: str = ""  # of what follows its name
    flags: Flags = Flags.NONE  # beside the command's
    secrets: Secrets | None = None  # with SECRET; None is all arguments

    @property
    def arity(self) -> int:
        """As Redis counts: both names included."""
        return self.least + 2 if self.most == self.least else -(self.least + 2)


class Family:
    def __init__(self, name: str) -> None:
        self.name = name
        self._members: dict[bytes, Subcommand] = {}

    def member(
        self,
        name: str,
        *,
        summary: str,
        syntax: str = "",
        least: int = 0,
        most: int | None = 0,
        flags: Flags = Flags.NONE,
        secrets: Secrets | None = None,
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self._members[name.encode()] = Subcommand(handler, least, most, summary, syntax, flags, secrets)
            return handler

        return register

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in self._members)

    def members(self) -> list[tuple[str, Subcommand]]:
        return [(name.decode(), member) for name, member in self._members.items()]

    def get(self, word: bytes) -> Subcommand | None:
        name = word.upper()
        return self._help if name == b"HELP" else self._members.get(name)

    def run(self, context: Context, words: list[bytes]) -> Any:
        """Runs the subcommand that `words` begins with."""
        return self.find(words).handler(context, words[1:])

    def find(self, words: list[bytes]) -> Subcommand:
        """The subcommand that `words` begins with; CommandError when there is none, or not with so many."""
        name, arguments = words[0].upper(), words[1:]
        found = self.get(name)
        if found is None:
            shown = words[0].partition(b"\0")[0][:128].decode("utf-8", "surrogateescape")
            raise CommandError(f"ERR unknown subcommand '{shown}'. Try {self.name} HELP.")
        if len(arguments) < found.least or (found.most is not None and len(arguments) > found.most):
            full = f"{self.name}|{name.decode()}".lower()
            raise CommandError(f"ERR wrong number of arguments for '{full}' command")
        return found

    @property
    def _help(self) -> Subcommand:
        return Subcommand(lambda context, arguments: self._help_lines(), 0, 0, "")

    def _help_lines(self) -> list[Status]:
        lines = [f"{self.name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
        for name, member in self._members.items():
            lines += [f"{name.decode()} {member.syntax}".rstrip(), "    " + member.summary]
        return [Status(line) for line in (*lines, "HELP", "    Prints this help.")]
