"""What a service installs: the client and redis-py, and nothing of the server."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import klani_resp.client
from bench.harness import launch
from klani_resp.client import KL, AsyncKL, AsyncPipeline, Pipeline
from klani_resp.client.verb import Verb, Verbs
from klani_resp.client.words import Command

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "klani_resp" / "client"
LOWEST_REDIS = "5.0.3"
SERVICE = """
import asyncio
from typing import assert_type

import redis
import redis.asyncio
from klani_resp.client import KL, AsyncKL, Hold, LockedRow, Pipeline, Row

kl = KL(redis.Redis(port=7700))
assert_type(kl.seek(42), Row | None)
assert_type(kl.claim("seats", {"is_booked": 0}, {"is_booked": 1}, count=2), list[int])
assert_type(kl.hold("seats", {"is_booked": 0}, ms=1000, owner="ann"), Hold | None)
assert_type(kl.pipeline().seek(42), Pipeline)
with kl.lock(42) as row:
    assert_type(row, LockedRow)
with kl.lock(41, 42, ms=1000) as rows:
    assert_type(rows, tuple[LockedRow, ...])

async def shop(kl: AsyncKL) -> None:
    assert_type(await kl.seek(42), Row | None)
    async with kl.lock(42) as row:
        await row.replace(is_booked=1)
"""
# There is no hiredis beside it, so this is redis-py's own parser.
SESSION = r"""
import asyncio, sys
import redis, redis.asyncio
from klani_resp.client import KL, AsyncKL

def steps(kl, pipe):
    yield kl.create("seats", {"is_booked": "U8 INDEX", "note": "BYTES 4"}, if_not_exists=True)
    yield kl.insert(0, {"note": b"\xff\x00"})
    yield kl.claim("seats", {"is_booked": 0}, {"is_booked": 1})
    yield kl.seek(0)
    yield pipe.seek(0).info("seats").execute()
    yield kl.drop("seats")

def judge(created, inserted, sold, row, piped, dropped):
    assert created and inserted and dropped and sold == [0]
    assert row == piped[0] == {"is_booked": 1, "note": b"\xff\x00"}
    assert piped[1].rows == 1
    print("sold")

async def shop(**options):
    async with redis.asyncio.Redis(**options) as client:
        kl = AsyncKL(client)
        judge(*[await step for step in steps(kl, kl.pipeline())])

for protocol in 2, 3:
    for decode in False, True:
        options = dict(port=int(sys.argv[1]), protocol=protocol, decode_responses=decode)
        with redis.Redis(**options) as client:
            kl = KL(client)
            judge(*steps(kl, kl.pipeline()))
        asyncio.run(shop(**options))
"""
WRONG = (
    SERVICE
    + """
kl.claim("seats", {"is_booked": 0}, {"is_booked": 1}, counts=2)
kl.seek()
"""
)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    return subprocess.run(command, cwd="/", env=own, capture_output=True, text=True, timeout=110)


def printed(*command: str | Path, **environment: str) -> str:
    done = run(*command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Builds a distribution, once: of the whole repository, or of a folder in it."""
    built: dict[Path, Path] = {}

    def build(project: Path) -> Path:
        if project not in built:
            folder = tmp_path_factory.mktemp("wheel")
            pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
            printed(*pip, "--wheel-dir", folder, project)
            (built[project],) = folder.glob("*.whl")
        return built[project]

    return build


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., Path]:
    """A fresh virtual environment with these wheels, and of our own packages those named; its python."""

    def make(wheels: list[Path], packages: list[str]) -> Path:
        venv.create(tmp_path / "venv", with_pip=False)
        python = tmp_path / "venv" / "bin" / "python"
        lent = tmp_path / "lent"
        lent.mkdir()
        for name in packages:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            origin = Path(spec.origin)
            source = origin.parent if origin.name == "__init__.py" else origin
            (lent / source.name).symlink_to(source)
        site = printed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (Path(site) / "lent.pth").write_text(f"{lent}\n")
        pip = (
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
        )
        printed(*pip, *wheels)
        return python

    return make


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return whole | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def importable(python: Path, *names: str) -> dict[str, bool]:
    code = (
        f"import importlib.util as u, json; print(json.dumps([bool(u.find_spec(n)) for n in {list(names)}]))"
    )
    return dict(zip(names, json.loads(printed(python, "-c", code)), strict=True))


def test_the_client_imports_nothing_of_the_server() -> None:
    code = "import klani_resp.client, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(printed(sys.executable, "-c", code))
    ours = {name for name in loaded if name.partition(".")[0] == "klani_resp"}
    assert {name for name in ours if not name.startswith("klani_resp.client")} == {"klani_resp"}
    assert not {"trio", "commands", "storage", "pyroaring", "msgspec"} & {
        name.partition(".")[0] for name in loaded
    }


def is_of_the_client(module: str) -> bool:
    return module == "klani_resp.client" or module.startswith("klani_resp.client.")


@pytest.mark.parametrize("path", sorted(CLIENT.glob("*.py")), ids=lambda path: str(path.name))
def test_each_file_of_it_needs_redis_py_and_the_standard_library(path: Path) -> None:
    others = {name for name in imports(path) if not is_of_the_client(name)}
    assert {name.partition(".")[0] for name in others} <= {"redis", *sys.stdlib_module_names}


def test_the_server_does_not_need_the_client() -> None:
    for path in (ROOT / "klani_resp").rglob("*.py"):
        if CLIENT not in path.parents:
            assert not [name for name in imports(path) if is_of_the_client(name)], path


def test_a_client_only_installation(
    wheel_of: Callable[[Path], Path],
    environment: Callable[..., Path],
    tmp_path: Path,
    server: launch.Server,
    client: Any,
) -> None:
    python = environment([wheel_of(ROOT / "packaging" / "client")], ["redis"])
    assert importable(python, "klani_resp.client", "redis") == {"klani_resp.client": True, "redis": True}
    absent = ("commands", "storage", "trio", "klani_resp.server", "hiredis")
    assert importable(python, *absent) == dict.fromkeys(absent, False)
    assert printed(python, "-c", SESSION, str(server.port)) == "sold\n" * 8

    for code, problems in ((SERVICE, 0), (WRONG, 2)):
        (tmp_path / "service.py").write_text(code)
        strict = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache")
        mypy = run(*strict, "--python-executable", python, tmp_path / "service.py")
        assert mypy.stdout.count(" error: ") == problems, mypy.stdout


def test_both_in_one_environment(wheel_of: Callable[[Path], Path], environment: Callable[..., Path]) -> None:
    needs = ["redis", "trio", "hiredis", "pyroaring", "msgspec", "attr", "attrs", "outcome", "sniffio"]
    needs += ["sortedcontainers", "idna"]
    python = environment([wheel_of(ROOT), wheel_of(ROOT / "packaging" / "client")], needs)
    printed(python, "-c", "import klani_resp.client, klani_resp.server, commands, storage")
    assert "usage: klani-resp" in printed(python.parent / "klani-resp", "--help")
    pip = (sys.executable, "-m", "pip", "--python", python, "uninstall", "--quiet", "--yes")
    printed(*pip, "klani-resp")
    assert importable(python, "klani_resp.client", "storage") == {"klani_resp.client": True, "storage": False}


def test_the_two_distributions_share_no_file(wheel_of: Callable[[Path], Path]) -> None:
    server, client = (
        {name for name in zipfile.ZipFile(wheel_of(project)).namelist() if name.endswith(".py")}
        for project in (ROOT, ROOT / "packaging" / "client")
    )
    assert server & client == set()
    assert client == {f"klani_resp/client/{path.name}" for path in CLIENT.glob("*.py")}
    assert "klani_resp/__init__.py" in server


def test_the_two_distributions_have_one_version() -> None:
    def version(pyproject: Path) -> Any:
        return tomllib.loads(pyproject.read_text())["project"]["version"]

    assert version(ROOT / "pyproject.toml") == version(ROOT / "packaging" / "client" / "pyproject.toml")


@pytest.fixture(scope="module")
def oldest_redis_py(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has it."""
    needed = tomllib.loads((ROOT / "packaging" / "client" / "pyproject.toml").read_text())["project"]
    assert needed["dependencies"] == [f"redis>={LOWEST_REDIS}"]
    folder = tmp_path_factory.mktemp("oldest")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder)
    printed(*pip, f"redis=={LOWEST_REDIS}")
    return folder


@pytest.mark.parametrize("name", ["", "_errors", "_full", "_kinds", "_lock", "_lost", "_retries"])
def test_with_the_oldest_redis_py(oldest_redis_py: Path, name: str) -> None:
    """The helper's tests, with it in the place of ours."""
    path = {"PYTHONPATH": str(oldest_redis_py)}
    version = printed(sys.executable, "-c", "import redis; print(redis.__version__)", **path)
    assert version == f"{LOWEST_REDIS}\n"
    tests = ROOT / "tests" / f"test_kl_client{name}.py"
    printed(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT, tests, **path)


# --- the two front ends -------------------------------------------------------------------------------


def public(front: type) -> dict[str, list[inspect.Parameter]]:
    members = {name: getattr(front, name) for name in dir(front) if not name.startswith("_")}
    return {
        name: [one for one in inspect.signature(member).parameters.values() if one.name != "self"]
        for name, member in members.items()
    }


def test_sync_and_asyncio_have_the_same_methods() -> None:
    assert public(KL) == public(AsyncKL)
    assert public(Pipeline) == public(AsyncPipeline)
    assert set(public(KL)) - set(public(Pipeline)) == {"insert_many", "lock", "pipeline", "scan"}


def test_a_method_shows_the_signature_and_the_words_of_its_verb() -> None:
    import redis

    kl = KL(redis.Redis())
    for name, verb in vars(Verbs).items():
        if isinstance(verb, Verb):
            assert inspect.signature(getattr(kl, name)) == inspect.signature(verb.build)
            assert (verb.__doc__ or "").startswith("KL.")


def test_each_command_of_the_server_has_a_verb() -> None:
    from commands.registry import load

    told = {
        (verb.__doc__ or "").split()[0].strip(":.,")
        for verb in vars(Verbs).values()
        if isinstance(verb, Verb)
    }
    assert told == {name for name in load() if name.startswith("KL.")}


def test_all_that_is_exported_is_there() -> None:
    assert sorted(klani_resp.client.__all__) == sorted(set(klani_resp.client.__all__))
    assert all(hasattr(klani_resp.client, name) for name in klani_resp.client.__all__)
    assert isinstance(KL.seek(42), Command), "without a client: the words and the parser"
