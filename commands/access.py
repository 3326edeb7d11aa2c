"""Who may do what, as commands see it: their categories, and what the server can be asked and told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from commands.spec import Client, Command, Flags, Job, Status, Unordered

# Redis's, so that rules written for it are understood; those that nothing here belongs to are empty.
CATEGORIES = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog"),
    *("geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection"),
    *("transaction", "scripting"),
    *("inventory", "selling"),  # our own: tables, rows and locks; and of these the verbs that sell
)
_OF_GROUP = {"connection": "connection", "transactions": "transaction", "inventory": "inventory"}


def categories(spec: Command, flags: Flags | None = None) -> list[str]:
    """ACL categories, from the same declaration as everything else; `flags` are a subcommand's."""
    flags = spec.flags if flags is None else flags
    names = ["fast" if flags & Flags.FAST else "slow"]
    if flags & Flags.WRITE:
        names.append("write")
    if flags & Flags.READONLY:
        names.append("read")
    if flags & Flags.ADMIN:
        names += ["admin", "dangerous"]
    if spec.group in _OF_GROUP:
        names.append(_OF_GROUP[spec.group])
    return names + [name for name in spec.categories if name not in names]


def shown_categories(spec: Command) -> Unordered:
    return Unordered(Status("@" + name) for name in categories(spec))


def permissions(commands: Iterable[Command]) -> dict[str, frozenset[str]]:
    """All that can be allowed or not, `kl.seek` or `config|get`, and the categories of each."""
    found: dict[str, frozenset[str]] = {}
    for spec in commands:
        name = spec.name.lower()
        if spec.family is None or abs(spec.arity) == 1:
            found[name] = frozenset(categories(spec))
        for word in spec.family.names if spec.family is not None else ():
            assert spec.family is not None
            member = spec.family.get(word.encode())
            assert member is not None
            found[f"{name}|{word.lower()}"] = frozenset(categories(spec, spec.flags | member.flags))
        if spec.family is not None:
            found[f"{name}|help"] = frozenset(categories(spec, spec.flags & ~Flags.ADMIN))
    return found


class AccessControl(Protocol):
    """Users, and what they may do. Whatever refuses raises CommandError."""

    @property
    def is_open(self) -> bool:
        """Whether the default user needs no password."""
        ...

    def authenticate(self, client: Client, name: bytes, password: bytes) -> None: ...
    def is_known(self, client: Client) -> bool:
        """Whether the client is somebody's already."""
        ...

    def reset(self, client: Client) -> None: ...
    def sees(self, client: Client, table: bytes) -> bool: ...
    def set_user(self, name: bytes, rules: list[bytes]) -> None: ...
    def delete_users(self, names: list[bytes], asked_by: Client) -> int: ...
    def describe(self, name: bytes) -> dict[str, Any] | None: ...
    def lines(self) -> Mapping[bytes, bytes]:
        """Of all users, by name: as in an ACL file."""
        ...

    def refusal_of(self, name: bytes, argv: list[bytes]) -> str | None:
        """Why a user may not call this; None when it may."""
        ...

    def log_entries(self, count: int) -> list[dict[str, Any]]: ...
    def reset_log(self) -> None: ...
    def load(self, asked_by: Client) -> Job: ...
    def save(self) -> Job: ...
