"""A PostgreSQL server for a benchmark, on a fresh directory, set up as its documentation advises."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness import host, launch

USER = "postgres"  # whom a server that root starts runs as, for it refuses to be root
DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
SHARED_BUFFERS_MAX_MIB = 1024
PLACES = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


def program(name: str) -> str | None:
    """One of PostgreSQL's programs: on the PATH, or where Debian has them, which is not there."""
    versions = sorted(DEBIAN_PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, versions)])
    return shutil.which(name, path=places)


@contextlib.contextmanager
def postgres(wanted: Path, *options: str, connections: int = 128) -> Iterator[launch.Server]:
    """A server on `wanted`, ready to serve, ended behind the block; options are its own, `-c name=value`.

    For root, whom it refuses to run as, it is a directory near `wanted` that is gone afterwards.
    """
    initdb, server, ready = (_required(name) for name in ("initdb", "postgres", "pg_isready"))
    with _directory(wanted) as (directory, as_user):
        flags = ["--auth=trust", f"--username={USER}", "--locale=C", "--encoding=UTF8", "-D", str(directory)]
        initialised = subprocess.run(
            [initdb, *flags], capture_output=True, text=True, check=False, cwd="/", **as_user
        )
        if initialised.returncode:
            raise launch.LaunchError(f"initdb: {initialised.stderr[-2000:]}")
        port = launch.free_port()
        made = settings(connections)
        told = [part for name, value in (PLACES | made).items() for part in ("-c", f"{name}={value}")]
        check = [ready, "-q", "-h", "127.0.0.1", "-p", str(port)]
        running = launch.start(
            "postgres",
            [server, "-D", str(directory), "-p", str(port), *told, *options],
            directory,
            port,
            ready=lambda: subprocess.run(check, check=False).returncode == 0,
            stop_signal=signal.SIGINT,  # "fast": it does not wait for clients to leave
            as_user=as_user,
            settings=made,
        )
        try:
            yield running
        finally:
            running.stop()


def settings(connections: int) -> dict[str, str]:
    """Durable as it comes; memory and checkpoints as the documentation advises for a server of its own."""
    memory_mib = host.memory_bytes() >> 20
    return {
        "max_connections": f"{connections + 16}",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "shared_buffers": f"{min(memory_mib // 4, SHARED_BUFFERS_MAX_MIB)}MB",
        "effective_cache_size": f"{memory_mib // 2}MB",
        "random_page_cost": "1.1",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "jit": "off",
    }


def _required(name: str) -> str:
    found = program(name)
    if found is None:
        raise launch.LaunchError(f"{name} is not installed; on Debian: apt-get install postgresql")
    return found


@contextlib.contextmanager
def _directory(wanted: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Where the server's data go, and what makes a child of ours the user that they belong to."""
    if os.geteuid() != 0:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        yield wanted, {}
        return
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        raise launch.LaunchError(f"PostgreSQL refuses to run as root, and there is no user {USER}") from None
    near = next(place for place in wanted.absolute().parents if _open_to_all(place))
    with tempfile.TemporaryDirectory(prefix="herd-postgres-", dir=near) as directory:
        os.chown(directory, user.pw_uid, user.pw_gid)
        yield Path(directory) / "data", {"user": USER, "group": USER, "extra_groups": []}


def _open_to_all(place: Path) -> bool:
    return all(step.is_dir() and step.stat().st_mode & 0o001 for step in (place, *place.parents))
