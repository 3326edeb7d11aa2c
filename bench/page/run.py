"""What a run was, by its raw log: the engine, what it promised its buyers, what the machine gave it."""

from __future__ import annotations

import html
import tomllib
from pathlib import Path
from typing import Any

from bench.horde.raw_log import Figure, HerdLog

ASSETS = Path(__file__).resolve().parent
TEXT: dict[str, Any] = tomllib.loads((ASSETS / "report.toml").read_text(encoding="utf-8"))
PROSE: dict[str, str] = TEXT["prose"]
POLICIES = ("appendfsync", "fsync", "synchronous_commit", "synchronous")


class Run:
    """`words` are those that the page's texts leave open, in HTML."""

    def __init__(self, log: HerdLog) -> None:
        self.log = log
        self.flow: str = log.figure("start", "options/flow").value
        self.engine: str = log.figure("start", "options/engine").value
        self.server = self._server()
        self.is_ours = self.engine == "klani"
        self.remembers = bool(log.figure("start", "options/seed_shortcut").value)
        self.problems = log.each("totals", "problems")
        self.is_read = log.figure("verification", "verified_sold").value is not None
        self.wall = log.figure("totals", "wall_seconds")
        self.seconds = max(self.wall.value, 0.001)  # 0 when nobody could begin
        self.sold_key = "booked" if log.has("final", "booked") else "sold"
        self.title: str = TEXT["titles"][self.flow]
        self.words = self._words()

    @property
    def engine_name(self) -> str:
        name: str = TEXT["engines"][self.engine]["name"]
        return name

    def _server(self) -> str:
        """Started by the herd, found by it (through a unix socket: on its machine), or none."""
        server: str = self.log.figure("start", "server").value
        is_near = self.log.figure("start", "options/transport").value == "unix"
        return "near" if server == "found" and is_near else server

    def _words(self) -> dict[str, str]:
        words: dict[str, str] = TEXT["words"]["seats"] | TEXT["words"].get(self.flow, {})
        words |= {"engine": self.engine_name, "settings": self._settings()}
        for name in self.log.figure("start", "options").value:
            words[f"told_{name}"] = self.log.figure("start", f"options/{name}").html()
        words["refused"] = self._refused()
        words["peak"] = TEXT["peak"][self.flow].format(**words)
        verbs = TEXT["verbs"][self.engine]
        words |= {name: html.escape(text.format(**words)) for name, text in verbs.items()}
        return words

    def _refused(self) -> str:
        """What of all answers refused something; an earlier version's log counted such nowhere."""
        log = self.log
        told = log.figure("totals", "refused").value if log.has("totals", "refused") else None
        if told is None:
            return str(PROSE["refused_uncounted"])
        names = [
            f"{log.figure('totals', f'refused/{name}').html()} {html.escape(name.replace('_', ' '))}"
            for name, count in told.items()
            if count
        ]
        return f", refusals among them ({', '.join(names)})" if names else ""

    def version(self) -> Figure:
        return self.log.figure("host", f"server/{TEXT['engines'][self.engine]['version']}")

    def say(self, text: str) -> str:
        """A text of report.toml with this run's words."""
        return text.format(**self.words)

    def final(self, key: str) -> Figure:
        """A value of the final line, where all are text."""
        figure = self.log.figure("final", key)
        is_whole = isinstance(figure.value, str) and figure.value.isdigit()
        return Figure(int(figure.value), figure.sources) if is_whole else figure

    def durability(self) -> str:
        """What a sale was when its buyer was told: a key of report.toml's table `durable`."""
        server = self.log.figure("host", "server").value
        told = {name: figure.value for name, figure in self._policies().items()}
        if not told:
            return "unknown"
        if self.engine == "redis" and server.get("config_appendonly") == "no":
            return "memory"
        if self.engine == "postgres":
            return "early" if "off" in told.values() else "always"
        if self.engine == "sqlite":
            return "always" if told["synchronous"] in ("2", "3") else "early"  # FULL, EXTRA
        return str(told["appendfsync"])

    def durable(self) -> str:
        return self.say(TEXT["durable"][self.durability()])

    def _policies(self) -> dict[str, Figure]:
        log = self.log
        return {name: log.figure("start", name) for name in POLICIES if log.has("start", name)}

    def _settings(self) -> str:
        shown = self._policies()
        if self.engine == "redis" and "config_appendonly" in self.log.figure("host", "server").value:
            shown = {"appendonly": self.log.figure("host", "server/config_appendonly")} | shown
        return ", ".join(f"<code>{html.escape(name)} {found.html()}</code>" for name, found in shown.items())

    def cpus(self) -> Figure:
        """The least of what bounds them: those that the process may use, and the container's quota."""
        usable, limits = self.log.figure("host", "cpus_usable"), self.log.figure("host", "cgroup")
        quota, _, period = limits.value.get("cpu.max", "").partition(" ")
        quota = quota or limits.value.get("cpu.cfs_quota_us", "max")
        period = period or limits.value.get("cpu.cfs_period_us", "1")
        if not quota.isdigit():  # cgroup v2 says `max`, v1 says -1
            return usable
        return min(usable, Figure(int(quota) / int(period), limits.sources), key=_value)

    def memory(self) -> Figure:
        """In bytes, the host's or the container's. Without a limit cgroup v1 says more than any host has."""
        limits = self.log.figure("host", "cgroup")
        most = limits.value.get("memory.max", limits.value.get("memory.limit_in_bytes", "max"))
        host = self.log.figure("host", "memory_bytes")
        return min(host, Figure(int(most), limits.sources), key=_value) if most.isdigit() else host


def _value(figure: Figure) -> float:
    return float(figure.value)


def gib(figure: Figure) -> str:
    return figure.html(f"{figure.value / 2**30:.1f} GiB")
