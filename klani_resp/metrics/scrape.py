"""One scrape: the counters where they are kept, written down. It counts nothing itself, and owns nothing.

What it shows is in memory, and may be a sync ahead of the disk: a scrape does not wait for a disk that hangs,
which is when somebody looks.
"""

from __future__ import annotations

import platform
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from klani_resp import __version__
from klani_resp.metrics import tables
from klani_resp.metrics.process import process
from klani_resp.metrics.text import COUNTER, GAUGE, family, histogram, labels, one
from storage import locks
from storage.histogram import Histogram

if TYPE_CHECKING:
    from klani_resp.app import App
    from klani_resp.insight.statistics import Statistics
    from storage.engine import Engine

NS = 1_000_000_000
# Refusals of a sale that are shown before there is one: a rate needs the zero that it begins with.
SALE_ERRORS = ("BUSY", "LIMIT", "MISCONF", "NOHOLD", "NOLOCK", "OOM", "REQUEST", "RESOLD")


def scrape(
    app: App, lag: Histogram, started_at: float, not_ready: str | None
) -> Generator[None, None, bytes]:
    """The text, in steps: a long one should not stop the loop. `started_at` in unix time."""
    parts = [*process(started_at), *_server(app, not_ready)]
    parts.append(
        histogram(
            "klani_loop_lag_seconds",
            "How late a task wakes that sleeps 0.1 s at a time: what a client waits beside its command.",
            lag,
            NS,
        )
    )
    yield
    if app.is_loading:
        return "".join(parts).encode()
    parts += _log(app)
    parts += _remembered(app.engine)
    yield
    counted = yield from _counted(app.engine)
    for one_family in tables.FAMILIES:
        parts.append(one_family.show(counted))
        yield
    for part in _commands(app.dispatcher.statistics):
        parts.append(part)
        yield
    return "".join(parts).encode()


def _counted(engine: Engine) -> Generator[None, None, tables.Counted]:
    counted: tables.Counted = {}
    for name, table in list(engine.tables.items()):
        in_locks = yield from locks.count(table, engine.clock())
        counted[name.decode()] = table.statistics(), in_locks
        yield
    return counted


def _server(app: App, not_ready: str | None) -> Iterator[str]:
    counters = app.counters
    yield family(
        "klani_build_info",
        GAUGE,
        "Always 1; the versions are its labels.",
        ((labels(version=__version__, python=platform.python_version()), 1),),
    )
    yield one("klani_ready", GAUGE, "1 while /readyz answers 200.", int(not_ready is None))
    yield one(
        "klani_loading_ratio", GAUGE, "How much of a start is done; 1 when it is over.", app.loading_progress
    )
    yield one("klani_connections", GAUGE, "Clients connected.", len(app.sessions))
    yield one("klani_connections_max", GAUGE, "The most clients that are taken.", app.config.connections_max)
    yield one("klani_connections_accepted_total", COUNTER, "Clients that connected.", counters.connections)
    yield one(
        "klani_connections_rejected_total",
        COUNTER,
        "Clients that were turned away: one too many.",
        counters.rejected,
    )
    yield one("klani_received_bytes_total", COUNTER, "Bytes from clients.", counters.received_bytes)
    yield one("klani_sent_bytes_total", COUNTER, "Bytes to clients.", counters.sent_bytes)


def _log(app: App) -> Iterator[str]:
    engine, committer = app.engine, app.committer
    assert committer is not None, "the store is loaded"
    wal, archive = engine.wal, engine.archive.statistics()
    yield histogram(
        "klani_log_group_frames",
        "Group commit: how many frames (what one command wrote, or one MULTI) went to the log at once.",
        wal.group_frames,
    )
    yield histogram("klani_log_group_bytes", "Group commit: bytes of records at once.", wal.group_bytes)
    yield histogram(
        "klani_log_sync_seconds",
        "From the start of a log sync until the loop has seen its end: the disk's time, and the loop's.",
        committer.syncs,
        NS,
    )
    points = {
        "appended": wal.appended,
        "written": wal.written,
        "durable": wal.durable,
        "checkpoint": engine.checkpoint_position,
    }
    yield family(
        "klani_log_position_bytes",
        GAUGE,
        "How far the log has come, since the store was made.",
        [(labels(point=point), position) for point, position in points.items()],
    )
    yield one("klani_log_segments", GAUGE, "Files of the log.", len(wal.segments))
    yield one(
        "klani_archive_segments",
        GAUGE,
        "Files of old log that are kept for KL.HISTORY and audits.",
        archive.segments,
    )
    yield one("klani_archive_bytes", GAUGE, "Bytes of old log that are kept.", archive.bytes)
    yield one("klani_checkpoints_total", COUNTER, "Checkpoints made.", engine.checkpoints)
    is_full = engine.readonly_reason is not None
    yield family(
        "klani_disk_state",
        GAUGE,
        "1 for the state that the store is in: ok, or readonly_full (new writes are refused).",
        ((labels(state="ok"), int(not is_full)), (labels(state="readonly_full"), int(is_full))),
    )


def _remembered(engine: Engine) -> Iterator[str]:
    """Also ends the holds whose time is over, for what comes behind it."""
    remembered = engine.selling.statistics()
    yield one(
        "klani_remembered_requests",
        GAUGE,
        "Answers that are kept for resends.",
        remembered.requests_remembered,
    )
    yield one(
        "klani_remembered_holds", GAUGE, "Holds that are known, live and ended.", remembered.holds_remembered
    )
    yield one("klani_remembered_bytes", GAUGE, "Memory for remembered requests and holds.", remembered.bytes)
    yield one(
        "klani_remembered_max_bytes",
        GAUGE,
        "The most memory for them (remembered_bytes_max): then new ones are refused.",
        remembered.bytes_max,
    )


def _commands(statistics: Statistics) -> Iterator[str]:
    commands = [(labels(command=name), command) for name, command in statistics.commands.items()]
    yield family(
        "klani_commands_total", COUNTER, "Commands executed.", [(name, one.calls) for name, one in commands]
    )
    yield family(
        "klani_command_seconds_total",
        COUNTER,
        "Time that commands took, without their replies' wait for the disk.",
        [(name, one.ns / NS) for name, one in commands],
    )
    yield family(
        "klani_command_failures_total",
        COUNTER,
        "Commands that answered an error.",
        [(name, one.failed) for name, one in commands],
    )
    yield family(
        "klani_command_rejections_total",
        COUNTER,
        "Commands refused before they began: arity, permission, a full disk.",
        [(name, one.rejected) for name, one in commands],
    )
    errors = dict.fromkeys(SALE_ERRORS, 0) | statistics.errors
    yield family(
        "klani_errors_total",
        COUNTER,
        "Errors answered, by their first word.",
        [(labels(error=word), count) for word, count in sorted(errors.items())],
    )
