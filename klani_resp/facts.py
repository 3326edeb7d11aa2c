"""What INFO, CONFIG GET and CLIENT LIST show of the process (ServerFacts). Renders, owns nothing."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from commands.connection import REDIS_VERSION
from commands.spec import Client
from klani_resp import __version__
from klani_resp.control import Control
from klani_resp.settings import Settings

if TYPE_CHECKING:
    from klani_resp.app import App

Section = dict[str, str | int | float]


class Facts:
    def __init__(self, app: App) -> None:
        self._app = app
        self._run_id = os.urandom(20).hex()

    def clients(self) -> list[Client]:
        return list(self._app.sessions.values())

    @property
    def settings(self) -> Settings:
        return self._app.settings

    @property
    def control(self) -> Control:
        return self._app.control

    def reset_counters(self) -> None:
        self._app.reset_counters()

    def sections(self) -> dict[str, Section]:
        return {
            "Server": self._server(),
            "Clients": self._clients(),
            "Memory": _memory(),
            "Persistence": self._persistence(),
            "Audit": self._audit(),
            "Stats": self._stats(),
            "Selling": self._selling(),
            "Replication": {"role": "master", "connected_slaves": 0},
            "CPU": _cpu(),
            "Keyspace": self._keyspace(),
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
            "run_id": self._run_id,
            "tcp_port": self._app.config.port,
            "uptime_in_seconds": uptime,
            "uptime_in_days": uptime // 86_400,
        }

    def _clients(self) -> Section:
        sessions = self._app.sessions.values()
        return {
            "connected_clients": len(sessions),
            "maxclients": self._app.config.connections_max,
            "blocked_clients": sum(session.job is not None for session in sessions),
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
        if not app.is_loading:
            facts |= {
                "log_commits": engine.wal.groups,
                "log_sync_ms": getattr(app.committer, "sync_ns", 0) // 1_000_000,
                "checkpoints": engine.checkpoints,
                "checkpoint_position": engine.checkpoint_position,
                "state": "serving" if engine.readonly_reason is None else "readonly_full",
            }
            facts |= self._as_redis_has_it()
        return facts

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
        commands = counters.commands + sum(s.commands_done for s in self._app.sessions.values())
        return {
            "total_connections_received": counters.connections,
            "rejected_connections": counters.rejected,
            "total_commands_processed": commands,
            "total_net_input_bytes": counters.received_bytes,
            "total_net_output_bytes": counters.sent_bytes,
        }

    def _selling(self) -> Section:
        if self._app.is_loading:
            return {}
        tables, selling = self._app.engine.tables.values(), self._app.engine.selling
        return {
            "holds_live": sum(len(holds) for table in tables for holds in table.sales.holds.values()),
            "holds_remembered": len(selling.holds),
            "requests_remembered": sum(len(table.sales.requests) for table in tables),
            "remembered_bytes": selling.memory.bytes,
            "remembered_bytes_max": selling.memory.bytes_max,
            "remembered_seconds": selling.memory.keep_ns // 1_000_000_000,
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


def _memory() -> Section:
    pages = Path("/proc/self/statm")
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_bytes = peak_kib if sys.platform == "darwin" else peak_kib * 1024
    used = int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else peak_bytes
    return {
        "used_memory": used,
        "used_memory_human": f"{used / (1 << 20):.2f}M",
        "used_memory_rss": used,
        "used_memory_peak": peak_bytes,
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    }


def _cpu() -> Section:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"used_cpu_sys": round(own.ru_stime, 6), "used_cpu_user": round(own.ru_utime, 6)}
