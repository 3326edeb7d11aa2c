"""The server's settings: every limit lives here, unit last. A TOML file first, then argv on top of it."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]


class ConfigError(Exception):
    """The settings cannot be used; the text says which and why."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bind: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 7700  # 0: any free one, named in the ready line
    unixsocket: str = ""
    dir: Annotated[str, Meta(min_length=1)] = "data"
    backup_dir: str = ""  # of KL.BACKUP; empty: there are no backups

    appendfsync: Literal["always", "everysec", "no"] = "always"
    default_table: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,127}\Z")] = "seats"
    lease_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 10_000
    # Requests and ended holds: for how long, and in how much memory; when it is full new ones are refused.
    remembered_hours: Annotated[float, Meta(ge=0.001)] = 24.0
    remembered_bytes_max: Annotated[int, Meta(ge=0)] = 512 << 20
    checkpoint_bytes: Positive = 64 << 20
    segment_bytes: Annotated[int, Meta(ge=1 << 16)] = 64 << 20  # of a file of the log
    ballast_bytes: Annotated[int, Meta(ge=0)] = 64 << 20  # kept back for a full disk; 0: nothing is
    history_keep_days: Annotated[float, Meta(ge=0, le=36_500)] = 7.0  # of segments that the log let go of
    history_bytes_max: Annotated[int, Meta(ge=0)] = 1 << 30  # of them all; 0: none is kept

    connections_max: Positive = 10_000
    listen_backlog_connections: Positive = 511
    output_bytes_max: Positive = 64 << 20  # replies that wait for one connection
    waiting_log_bytes_max: Positive = 64 << 20  # not yet on disk; above it who waits for that is not read

    arguments_max: Positive = 4096
    bulk_bytes_max: Positive = 1 << 20
    request_bytes_max: Positive = 4 << 20
    transaction_commands_max: Positive = 10_000
    transaction_bytes_max: Positive = 16 << 20

    # What one connection, and one turn of the loop, may take before the others have theirs.
    receive_bytes_max: Positive = 8 << 10
    turn_commands_max: Positive = 1024
    turn_us_max: Positive = 50  # looked at every few commands
    turn_reply_bytes_max: Positive = 256 << 10
    turn_events_max: Positive = 512
    busy_ms_max: Positive = 4

    drain_seconds_max: Annotated[float, Meta(ge=0)] = 10.0


OPTIONS = (
    "bind",
    "port",
    "unixsocket",
    "dir",
    "backup_dir",
    "appendfsync",
    "default_table",
    "lease_ms",
    "checkpoint_bytes",
    "ballast_bytes",
    "history_keep_days",
    "history_bytes_max",
)


def from_mapping(values: dict[str, object]) -> Config:
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error


def from_file(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        from_mapping(values)  # so that the text names the file
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return values


def from_argv(argv: Sequence[str]) -> Config:
    """Raises ConfigError, or SystemExit as argparse does for `--help` and unknown options."""
    options = vars(_argument_parser().parse_args(argv))
    path = options.pop("config")
    values = from_file(path) if path is not None else {}
    values |= {name: value for name, value in options.items() if value is not None}
    return from_mapping(values)


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="klani-resp",
        description="Inventory and reservation engine that speaks the Redis protocol.",
        epilog="`klani-resp check DIR` verifies a data directory offline. Limits are set in the TOML file.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with any of the settings")
    parser.add_argument("--bind", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port (7700); 0 takes a free one")
    parser.add_argument("--unixsocket", metavar="PATH", help="listen on a unix socket too")
    parser.add_argument("--dir", metavar="DATA", help="data directory (data)")
    parser.add_argument("--backup-dir", metavar="BACKUPS", help="where KL.BACKUP puts its copies (nowhere)")
    parser.add_argument(
        "--appendfsync",
        choices=("always", "everysec", "no"),
        help="sync before each reply (always), once a second (a power loss takes back up to about a second "
        "of acknowledged writes), or when the kernel likes (it takes back more)",
    )
    parser.add_argument("--default-table", metavar="TABLE", help="table of keys without one (seats)")
    parser.add_argument("--lease-ms", type=int, metavar="MS", help="lease of KL.TRYLOCK without PX (10000)")
    parser.add_argument("--checkpoint-bytes", type=int, metavar="N", help="log between two checkpoints")
    parser.add_argument(
        "--ballast-bytes",
        type=int,
        metavar="N",
        help="disk room kept back for when there is no other: for checkpoints, a stop, a start (67108864)",
    )
    parser.add_argument(
        "--history-keep-days", type=float, metavar="DAYS", help="how long old log is kept for KL.HISTORY (7)"
    )
    parser.add_argument(
        "--history-bytes-max",
        type=int,
        metavar="N",
        help="of old log, the oldest goes first (1073741824); 0 keeps none",
    )
    return parser
