"""What INFO, CONFIG GET and CLIENT LIST show of the process (ServerFacts). Renders, owns nothing."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from commands.access import AccessControl
from commands.connection import REDIS_VERSION
from commands.spec import Client
from commands.watching import LatencyFacts, SlowLogFacts
from klani_resp import __version__
from klani_resp.control import Control
from klani_resp.insight.command_facts import Section, commandstats, errorstats, latencystats
from klani_resp.settings import Settings

if TYPE_CHECKING:
    from klani_resp.app import App
    from klani_resp.sessions.session import Session


# What Redis tells, and what never happens here: nobody copies, nobody subscribes, no checkpoint forks.
NEVER = (
    *("sync_full", "sync_partial_ok", "sync_partial_err"),
    *("pubsub_channels", "pubsub_patterns", "latest_fork_usec"),
)


class Facts:
    def __init__(self, app: App) -> None:
        self._app = app
        self._run_id = os.urandom(20).hex()

    @property
    def access(self) -> AccessControl:
        return self._app.access

    @property
    def slowlog(self) -> SlowLogFacts:
        return self._app.slowlog

    @property
    def latency(self) -> LatencyFacts:
        return self._app.latency

    def histograms(self, names: Collection[str]) -> dict[str, tuple[int, dict[int, int]]]:
        return {
            one.name: (one.calls, one.histogram())
            for one in self._app.dispatcher.statistics.commands.values()
            if (not names or one.name in names or one.command in names) and one.calls
        }

    def monitor(self, client: Client, *, is_on: bool) -> None:
        session = cast("Session", client)
        if is_on:
            self._app.monitors.add(session)
        else:
            self._app.monitors.remove(session)

    def clients(self) -> list[Client]:
        return list(self._app.sessions.values())

    @property
    def settings(self) -> Settings:
        return self._app.settings

    @property
    def control(self) -> Control:
        return self._app.control

    def reset_statistics(self) -> None:
        self._app.dispatcher.statistics.reset()
        self._app.reset_counters()

    def sections(self) -> dict[str, Callable[[], Section]]:
        statistics = self._app.dispatcher.statistics
        return {
            "Server": self._server,
            "Clients": self._clients,
            "Memory": _memory,
            "Persistence": self._persistence,
            "Audit": self._audit,
            "Stats": self._stats,
            "Selling": self._selling,
            "Replication": self._replication,
            "CPU": _cpu,
            "Modules": dict,
            "Commandstats": partial(commandstats, statistics),
            "Errorstats": partial(errorstats, statistics),
            "Latencystats": partial(latencystats, statistics),
            "Cluster": lambda: {"cluster_enabled": 0},
            "Keyspace": self._keyspace,
        }

    def _server(self) -> Section:
        uptime = int(time.monotonic() - self._app.started_at)
        return {
            "redis_version": REDIS_VERSION,
            "redis_mode": "standalone",
            "klani_version": __version__,
            "os": f"{platform.system()} {platform.release()} {platform.machine()}",
            "arch_bits": 64 if sys.maxsize > 2**32 else 32,
            "python_version": platform.python_version(),
            "process_id": os.getpid(),
            "process_supervised": "no",  # it tells nobody that it is ready: clients and /readyz are asked
            "run_id": self._run_id,
            "tcp_port": self._app.config.port,
            "uptime_in_seconds": uptime,
            "uptime_in_days": uptime // 86_400,
            "executable": str(Path(sys.argv[0]).resolve()),
            "config_file": self._app.config.config_file and str(Path(self._app.config.config_file).resolve()),
        }

    def _clients(self) -> Section:
        sessions = self._app.sessions.values()
        return {
            "connected_clients": len(sessions),
            "maxclients": self._app.config.connections_max,
            "blocked_clients": sum(session.job is not None for session in sessions),
            "watching_clients": sum(session.transaction.watched > 0 for session in sessions),
            "total_watched_keys": sum(session.transaction.watched for session in sessions),
            "tracking_clients": 0,
            "pubsub_clients": 0,
        }

    def _persistence(self) -> Section:
        app, engine = self._app, self._app.engine
        facts: Section = {
            "loading": int(app.is_loading),
            "loading_loaded_perc": f"{100 * app.loading_progress:.2f}",
            "aof_enabled": 1,
            "appendfsync": app.config.appendfsync,
            "log_appended": engine.appended,
            "log_released": engine.released,
            "log_durable": engine.durable,
        }
        if app.committer is not None:
            facts |= {
                "log_commits": engine.wal.groups,
                "log_frames": engine.wal.group_frames.total,
                "log_syncs": app.committer.syncs.count,
                "log_sync_ms": round(app.committer.syncs.total / 1_000_000, 3),
                "checkpoints": engine.checkpoints,
                "checkpoint_position": engine.checkpoint_position,
                "state": "serving" if engine.readonly_reason is None else "readonly_full",
            }
            facts |= self._as_redis_has_it()
        return facts

    def _replication(self) -> Section:
        """There is one server; what its log has is what a copy would have to have."""
        return {
            "role": "master",
            "connected_slaves": 0,
            "master_failover_state": "no-failover",
            "master_replid": self._run_id,
            "master_repl_offset": self._app.engine.durable,
            "repl_backlog_active": 0,
        }

    def _as_redis_has_it(self) -> Section:
        """What its tools read: a checkpoint stands for a dump, and for a rewrite of the append-only file."""
        engine = self._app.engine
        running = engine.is_checkpoint_running
        current = int(time.monotonic() - engine.checkpoint_began) if running else -1
        last = int(engine.checkpoint_seconds) if engine.checkpoints else -1
        status = "ok" if not engine.is_checkpoint_missed else "err"
        return {
            # In bytes of log: changes are not counted. 0 exactly when there are none.
            "rdb_changes_since_last_save": engine.appended - engine.checkpoint_position,
            "rdb_bgsave_in_progress": int(running),
            "rdb_last_save_time": int(engine.checkpoint_made),
            "rdb_last_bgsave_status": status,
            "rdb_last_bgsave_time_sec": last,
            "rdb_current_bgsave_time_sec": current,
            "rdb_saves": engine.checkpoints,
            "aof_rewrite_in_progress": int(running),
            "aof_rewrite_scheduled": int(self._app.control.is_save_wanted),
            "aof_last_rewrite_time_sec": last,
            "aof_current_rewrite_time_sec": current,
            "aof_last_bgrewrite_status": status,
            "aof_last_write_status": "ok" if engine.readonly_reason is None else "err",
            "aof_current_size": len(engine.wal.segments) * engine.options.segment_bytes,
        }

    def _audit(self) -> Section:
        """What to keep elsewhere: `klani-resp check DIR --audit --anchor POSITION:HEX` proves a log by it."""
        if self._app.is_loading:
            return {}
        engine = self._app.engine
        anchor, archive = engine.wal.anchor, engine.archive.statistics()
        return {
            "chain_position": anchor.position,
            "chain_head": anchor.head.hex(),
            "history_position": engine.wal.segments[0][0] if archive.first is None else archive.first,
            "archive_segments": archive.segments,
            "archive_bytes": archive.bytes,
        }

    def _stats(self) -> Section:
        counters = self._app.counters
        rates = self._app.rates.per_second()
        return {
            "total_connections_received": counters.connections,
            "total_commands_processed": self._app.commands_done - counters.commands_forgotten,
            "instantaneous_ops_per_sec": rates.commands,
            "total_net_input_bytes": counters.received_bytes,
            "total_net_output_bytes": counters.sent_bytes,
            "instantaneous_input_kbps": round(rates.received_bytes / 1024, 2),
            "instantaneous_output_kbps": round(rates.sent_bytes / 1024, 2),
            "rejected_connections": counters.rejected,
            "expired_keys": 0,
            "evicted_keys": 0,
            **dict.fromkeys(NEVER, 0),
            "total_error_replies": self._app.dispatcher.statistics.errors.total(),
            "slowlog_entries": len(self._app.slowlog),
            **{f"acl_access_denied_{reason}": n for reason, n in self._app.access.log.refused.items()},
        }

    def _selling(self) -> Section:
        if self._app.is_loading:
            return {}
        found = self._app.engine.selling.statistics()
        return {
            "holds_live": found.holds_live,
            "holds_remembered": found.holds_remembered,
            "requests_remembered": found.requests_remembered,
            "remembered_bytes": found.bytes,
            "remembered_bytes_max": found.bytes_max,
            "remembered_seconds": found.keep_seconds,
        }

    def _keyspace(self) -> Section:
        tables = self._app.engine.tables.values()
        facts: Section = {}
        if rows := sum(len(table.rows.present) for table in tables):
            facts["db0"] = f"keys={rows},expires=0,avg_ttl=0"
        for table in tables:
            facts[f"table_{table.name.decode()}"] = (
                f"rows={len(table.rows.present)},bytes={table.bytes_used()}"
            )
        return facts


def resident_bytes() -> int:
    """The most it ever was, where the system does not say what it is now."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else _peak_bytes()


def _peak_bytes() -> int:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kib if sys.platform == "darwin" else peak_kib * 1024


def _memory() -> Section:
    used = resident_bytes()
    facts: Section = {}
    for name, count in (
        ("used_memory", used),
        ("used_memory_rss", used),
        ("used_memory_peak", max(used, _peak_bytes())),  # the kernel tells the two apart by some pages
        ("total_system_memory", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        ("maxmemory", 0),
    ):
        facts |= {name: count, f"{name}_human": _human(count)}
    # What the allocator has and does not use is not known: the two are one number here.
    return facts | {"maxmemory_policy": "noeviction", "mem_fragmentation_ratio": "1.00"}


def _human(count: int) -> str:
    """As Redis writes it."""
    for shift, letter in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.2f}{letter}"
    return f"{count}B"


def _cpu() -> Section:
    facts: Section = {}
    for suffix, who in (("", resource.RUSAGE_SELF), ("_children", resource.RUSAGE_CHILDREN)):
        used = resource.getrusage(who)
        facts |= {
            f"used_cpu_sys{suffix}": round(used.ru_stime, 6),
            f"used_cpu_user{suffix}": round(used.ru_utime, 6),
        }
    return facts
