"""Every command there is. A new one is its own file, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from commands.spec import REGISTERED, Command

MODULES = (
    "acl",
    "backup",
    "claim",
    "client",
    "confirm",
    "connection",
    "count",
    "create",
    "drop",
    "giveback",
    "hashes",
    "history",
    "hold",
    "insert",
    "intersect",
    "introspection",
    "keyspace",
    "latency",
    "locks",
    "memory",
    "monitor",
    "object",
    "replace",
    "save",
    "scan",
    "seek",
    "server",
    "shutdown",
    "slowlog",
    "tables",
    "transaction",
    "trylock",
    "unlock",
    "verify",
)


def load() -> Mapping[str, Command]:
    """Imports the modules; answers all that they declare, by name."""
    for module in MODULES:
        import_module(f"commands.{module}")
    return REGISTERED
