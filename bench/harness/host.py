"""Facts about the machine, the interpreter and the server that a figure is worth nothing without."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = ("redis", "hiredis", "trio", "pyroaring", "msgspec", "rich", "psycopg")
FSYNC_PROBES = 64


def facts(directory: Path) -> dict[str, Any]:
    """`directory` is where the server writes: its file system and the cost of an fdatasync there count."""
    return {
        "cpu_model": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "cgroup": cgroup_limits(),
        "kernel": platform.release(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "python_build": sys.version,
        "packages": packages(),
        "load_average": os.getloadavg(),
        "file_system": _file_system(directory),
        "fdatasync_us": fdatasync_us(directory),
    }


def packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def cgroup_limits() -> dict[str, str]:
    """What a container may use, as cgroup v2 or v1 states it; empty without a limit to read."""
    root = Path("/sys/fs/cgroup")
    own = _read(Path("/proc/self/cgroup")).rpartition("::")[2].strip().lstrip("/")
    names = ("cpu.max", "memory.max", "cpuset.cpus.effective")
    found = {name: _read(root / own / name).strip() or _read(root / name).strip() for name in names}
    for name in ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "memory/memory.limit_in_bytes"):
        found[name.partition("/")[2]] = _read(root / name).strip()
    return {name: value for name, value in found.items() if value}


def commit() -> str:
    """Of this checkout, with a `+` behind it when files were changed since. Outside of git, as in a
    container, what KLANI_COMMIT says; else `unknown`."""
    told = os.environ.get("KLANI_COMMIT") or "unknown"
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return told
    return done.stdout.strip() or told


def fdatasync_us(directory: Path) -> dict[str, int]:
    """Median and worst of a few appends of 256 bytes, each made durable, in microseconds."""
    probe = directory / ".fdatasync-probe"
    took = []
    descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        for _ in range(FSYNC_PROBES):
            os.write(descriptor, bytes(256))
            start = time.perf_counter_ns()
            getattr(os, "fdatasync", os.fsync)(descriptor)
            took.append((time.perf_counter_ns() - start) // 1000)
    finally:
        os.close(descriptor)
        probe.unlink()
    took.sort()
    return {"count": len(took), "p50": took[len(took) // 2], "max": took[-1]}


def server_info(client: Any) -> dict[str, Any]:
    """The server's INFO and the settings that bear on durability; paths of its machine are left out."""
    found = {str(name): value for name, value in client.info().items() if not str(value).startswith("/")}
    for setting in ("appendfsync", "appendonly", "save"):
        with contextlib.suppress(Exception):  # a server that has no such setting
            found |= {
                f"config_{_text(name)}": _text(value) for name, value in client.config_get(setting).items()
            }
    return found


def _cpu_model() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`, by the longest mount point above it."""
    best, kind = "", "unknown"
    for line in _read(Path("/proc/mounts")).splitlines():
        fields = line.split()
        inside = directory.resolve().is_relative_to(fields[1])
        if inside and len(fields[1]) >= len(best):
            best, kind = fields[1], fields[2]
    return kind


def _read(path: Path) -> str:
    """Empty when there is no such file, as outside Linux."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
