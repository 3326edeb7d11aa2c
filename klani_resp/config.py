"""The server's settings: every limit lives here, unit last. A TOML file first, then argv on top of it."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from klani_resp import __version__


@dataclass(frozen=True, slots=True)
class Redis:
    """The name that a setting has in Redis, where ours is another."""

    name: str


class Live(Enum):
    """Marks what CONFIG SET may change while the server runs; who keeps a copy asks `Settings` to be told."""

    LIVE = "live"


LIVE = Live.LIVE
# The most that C takes for an int, as the system's calls do.
COUNT_MAX = (1 << 31) - 1
FILE_BYTES_MAX = 1 << 40
BYTES_MAX = 1 << 50
YEAR_SECONDS = 31_536_000
# Whoever set less could not be told to set more: no CONFIG SET would fit.
LEAST_ARGUMENTS = 64
LEAST_BYTES = 64 << 10
TABLE = "[A-Za-z_][A-Za-z0-9_-]{0,127}"
WORD = r"[^\s\ud800-\udfff]+"  # what argv has of bytes that are no UTF-8 is no text
Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Natural = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Bytes = Annotated[int, Meta(ge=1, le=BYTES_MAX)]
BytesOrNone = Annotated[int, Meta(ge=0, le=BYTES_MAX)]
ClientBytes = Annotated[int, Meta(ge=LEAST_BYTES, le=BYTES_MAX)]
FileBytes = Annotated[int, Meta(ge=0, le=FILE_BYTES_MAX)]
BufferBytes = Annotated[int, Meta(ge=1, le=16 << 20)]  # reserved whole, at each call
Seconds = Annotated[float, Meta(ge=0, le=YEAR_SECONDS)]
SomeSeconds = Annotated[float, Meta(gt=0, le=YEAR_SECONDS)]


class ConfigError(Exception):
    """The settings cannot be used; the text says which and why."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line per setting: type, limits, whether it may change live, Redis's name. There is no other list.

    Byte counts (`.._bytes`, `.._bytes_max`) are taken with a unit by CONFIG SET, as in `64mb`.
    """

    bind: str = "127.0.0.1"
    # 0: none beside `tls_port` or `unixsocket`; where neither is, any free one, named in the ready line.
    port: Port = 7700
    tls_bind: str = ""  # as `bind` unless told
    tls_port: Port = 0  # 0: there is no TLS
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_ca_cert_file: str = ""  # whose signature a client's certificate bears
    tls_auth_clients: Literal["no", "optional", "yes"] = "yes"
    tls_handshake_seconds_max: SomeSeconds = 10.0
    unixsocket: str = ""
    dir: Annotated[str, Meta(min_length=1)] = "data"
    metrics_bind: str = "127.0.0.1"
    metrics_port: Port = 0  # of /metrics, /healthz, /readyz; 0: there is none
    backup_dir: str = ""  # of KL.BACKUP; empty: there are no backups
    config_file: str = ""  # the TOML file that `--config` named: CONFIG REWRITE's
    loglevel: Annotated[Literal["debug", "verbose", "notice", "warning"], LIVE] = "notice"

    appendfsync: Literal["always", "everysec", "no"] = "always"
    default_table: Annotated[str, Meta(pattern=rf"^{TABLE}\Z")] = "seats"
    lease_ms: Annotated[int, Meta(ge=1, le=86_400_000), LIVE] = 10_000
    # Requests and ended holds: for how long, and in how much memory; when it is full new ones are refused.
    remembered_hours: Annotated[float, Meta(ge=0.001, le=876_000), LIVE] = 24.0
    remembered_bytes_max: Annotated[BytesOrNone, LIVE] = 512 << 20
    checkpoint_bytes: Annotated[Bytes, LIVE] = 64 << 20
    segment_bytes: Annotated[int, Meta(ge=1 << 16, le=FILE_BYTES_MAX)] = 64 << 20  # of a file of the log
    ballast_bytes: FileBytes = 64 << 20  # kept back for a full disk; 0: nothing is
    history_keep_days: Annotated[float, Meta(ge=0, le=36_500), LIVE] = (
        7.0  # of segments that the log let go of
    )
    history_bytes_max: Annotated[BytesOrNone, LIVE] = 1 << 30  # of them all; 0: none is kept

    # docs/security.md. There is no option for a password: all users of the machine see command lines.
    requirepass: Annotated[str, LIVE] = ""  # of the default user
    users: tuple[str, ...] = ()  # `<name> <rule> ...`, each as a line of an ACL file without its first word
    acl_file: Annotated[str, Redis("aclfile")] = ""
    protected_mode: Annotated[bool, LIVE] = True  # without a password of the default user: loopback alone
    before_auth_arguments_max: Positive = 10
    before_auth_bulk_bytes_max: Bytes = 16 << 10
    before_auth_output_bytes_max: Bytes = 64 << 10

    # 0: every command is noted, -1: none.
    slowlog_slower_than_us: Annotated[
        int, Meta(ge=-1, le=(1 << 63) - 1), LIVE, Redis("slowlog-log-slower-than")
    ] = 10_000
    slowlog_entries_max: Annotated[Natural, LIVE, Redis("slowlog-max-len")] = 128
    # From here on LATENCY notes something; 0: never.
    latency_threshold_ms: Annotated[Natural, LIVE, Redis("latency-monitor-threshold")] = 0

    connections_max: Annotated[int, Meta(ge=1, le=(1 << 32) - 1), LIVE, Redis("maxclients")] = 10_000
    listen_backlog_connections: Annotated[Positive, Redis("tcp-backlog")] = 511
    # Of silence, before the kernel asks whether a client's machine is there still; 0: never.
    tcp_keepalive_seconds: Annotated[int, Meta(ge=0, le=32_767), Redis("tcp-keepalive")] = 300
    output_bytes_max: Annotated[ClientBytes, LIVE] = 64 << 20  # replies that wait for one connection
    # Not yet on disk; above it who waits for that is not read.
    waiting_log_bytes_max: Annotated[Bytes, LIVE] = 64 << 20
    idle_seconds_max: Annotated[Seconds, LIVE, Redis("timeout")] = 0.0  # without a byte; 0: any time
    # With more than `output_bytes_max` of replies waiting, and reading next to nothing of them; 0: any time.
    unread_seconds_max: Annotated[Seconds, LIVE] = 10.0
    request_seconds_max: Annotated[Seconds, LIVE] = 60.0  # from first byte to last; 0: any time

    board_bind: str = "127.0.0.1"
    board_port: Port = 0  # of the live board; 0: there is none
    board_table: Annotated[str, Meta(pattern=rf"^({TABLE})?\Z")] = (
        ""  # that it shows; empty: the default table
    )
    board_sold: Annotated[str, Meta(pattern=rf"^{WORD} {WORD}\Z")] = (
        "is_booked 1"  # an indexed field, its value
    )
    # Of the metrics port and of the board, each.
    onlooker_connections_max: Annotated[int, Meta(ge=1, le=65_536)] = 16
    onlooker_request_bytes_max: BufferBytes = 8 << 10
    onlooker_request_seconds_max: SomeSeconds = 10.0  # its answer included

    # The longest command of the contract has some 1,300 words: KL.CLAIM with 64 fields, SET and 1,000 ids.
    # A word is 6 bytes or more: below a sixth of `receive_bytes_max` no turn could be parsed in one go.
    arguments_max: Annotated[int, Meta(ge=LEAST_ARGUMENTS, le=COUNT_MAX), LIVE] = 4096
    bulk_bytes_max: Annotated[ClientBytes, LIVE, Redis("proto-max-bulk-len")] = 1 << 20
    request_bytes_max: Annotated[ClientBytes, LIVE, Redis("client-query-buffer-limit")] = 4 << 20
    transaction_commands_max: Annotated[Positive, LIVE] = 10_000
    transaction_bytes_max: Annotated[Bytes, LIVE] = 16 << 20  # of its requests, of EXEC's replies, of its log
    transaction_read_ms_max: Annotated[Positive, LIVE] = 50  # in one EXEC: nobody else is served meanwhile
    watched_keys_max: Annotated[Positive, LIVE] = 10_000

    # What one connection, and one turn of the loop, may take before the others have theirs.
    receive_bytes_max: BufferBytes = 8 << 10
    turn_commands_max: Annotated[Positive, LIVE] = 1024
    turn_us_max: Annotated[Positive, LIVE] = 50  # looked at every few commands
    turn_reply_bytes_max: Annotated[Bytes, LIVE] = 256 << 10
    turn_events_max: Annotated[int, Meta(ge=1, le=65_536), LIVE] = 512
    busy_ms_max: Annotated[int, Meta(ge=1, le=1000)] = 4

    drain_seconds_max: Annotated[Seconds, LIVE] = 10.0


def from_mapping(values: dict[str, object]) -> Config:
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error


def from_file(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
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
    values["config_file"] = str(path or "")
    return from_mapping(values)


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="klani-resp",
        description="Inventory and reservation engine that speaks the Redis protocol.",
        epilog="`klani-resp check DIR` verifies a data directory offline. Limits are set in the TOML file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"klani-resp {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with any of the settings")
    parser.add_argument("--bind", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port",
        type=int,
        metavar="PORT",
        help="TCP port (7700); 0: none beside --tls-port or --unixsocket, else a free one",
    )
    parser.add_argument("--unixsocket", metavar="PATH", help="listen on a unix socket too")
    _add_access_options(parser)
    _add_onlookers_options(parser)
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
    parser.add_argument(
        "--checkpoint-bytes", type=int, metavar="N", help="log between checkpoints (67108864)"
    )
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


def _add_access_options(parser: argparse.ArgumentParser) -> None:
    """Passwords are in files alone."""
    parser.add_argument(
        "--protected-mode",
        type=_yes_or_no,
        metavar="yes|no",
        help="serve loopback only, while the default user has no password (yes)",
    )
    parser.add_argument("--acl-file", metavar="FILE", help="users, as ACL LIST shows them")
    parser.add_argument("--tls-bind", metavar="ADDRESS", help="address of the TLS port (as --bind)")
    parser.add_argument("--tls-port", type=int, metavar="PORT", help="TCP port for TLS (none)")
    parser.add_argument("--tls-cert-file", metavar="PEM", help="the server's certificate, and its chain")
    parser.add_argument("--tls-key-file", metavar="PEM", help="the key of it")
    parser.add_argument("--tls-ca-cert-file", metavar="PEM", help="who signs clients' certificates")
    parser.add_argument(
        "--tls-auth-clients",
        choices=("no", "optional", "yes"),
        help="whether a client needs a certificate (yes)",
    )


def _add_onlookers_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics-bind", metavar="ADDRESS", help="address of the metrics port (127.0.0.1)")
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="TCP port of /metrics, /healthz and /readyz (0: there is none)",
    )
    parser.add_argument("--board-bind", metavar="ADDRESS", help="address of the live board (127.0.0.1)")
    parser.add_argument(
        "--board-port", type=int, metavar="PORT", help="TCP port of the live board (0: there is none)"
    )
    parser.add_argument("--board-table", metavar="TABLE", help="the table that it shows (the default table)")
    parser.add_argument(
        "--board-sold", metavar="'FIELD VALUE'", help="what marks a row as sold (is_booked 1)"
    )


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"yes or no, not {text!r}")
    return text == "yes"
