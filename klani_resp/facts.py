"""What INFO, CONFIG GET and CLIENT LIST show of the process (ServerFacts). Renders, owns nothing."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from commands.access import AccessControl
from commands.connection import REDIS_VERSION
from commands.spec import Client
from klani_resp import __version__

if TYPE_CHECKING:
    from klani_resp.app import App

HIDDEN = "********"
SECRET_SETTINGS = ("requirepass", "users")
Section = dict[str, str | int | float]


class Facts:
    def __init__(self, app: App) -> None:
        self._app = app
        self._run_id = os.urandom(20).hex()

    @property
    def access(self) -> AccessControl:
        return self._app.access

    def clients(self) -> list[Client]:
        return list(self._app.sessions.values())

    def config(self) -> dict[str, str]:
        """Redis's names where a client asks for them, beside our own."""
        config = self._app.config
        settings = {name: _told(value) for name, value in msgspec.structs.asdict(config).items()}
        settings |= {name: HIDDEN for name in SECRET_SETTINGS if getattr(config, name)}
        settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        return settings | {
            "save": "",
            "appendonly": "yes",
            "databases": "1",
            "maxclients": str(config.connections_max),
            "maxmemory": "0",
            "maxmemory-policy": "noeviction",
            "proto-max-bulk-len": str(config.bulk_bytes_max),
            "timeout": "0",
            "aclfile": config.acl_file,
        }

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
        if app.committer is not None:
            facts |= {
                "log_commits": engine.wal.groups,
                "log_sync_ms": app.committer.syncs.total // 1_000_000,
                "checkpoints": engine.checkpoints,
                "checkpoint_position": engine.checkpoint_position,
                "state": "serving" if engine.readonly_reason is None else "readonly_full",
            }
        return facts

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


def _told(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def resident_bytes() -> int:
    """The most it ever was, where the system does not say what it is now."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else _peak_bytes()


def _peak_bytes() -> int:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kib if sys.platform == "darwin" else peak_kib * 1024


def _memory() -> Section:
    used = resident_bytes()
    return {
        "used_memory": used,
        "used_memory_human": f"{used / (1 << 20):.2f}M",
        "used_memory_rss": used,
        "used_memory_peak": _peak_bytes(),
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    }


def _cpu() -> Section:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"used_cpu_sys": round(own.ru_stime, 6), "used_cpu_user": round(own.ru_utime, 6)}
