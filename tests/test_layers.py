"""The order of the packages: `klani_resp` -> `commands` -> `storage`. Nothing points back up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BELOW = {
    "storage": {"storage"},
    "commands": {"commands", "storage"},
    "klani_resp": {"klani_resp", "commands", "storage"},
}
OURS = {"storage", "commands", "klani_resp", "tests", "bench"}
IO_MODULES = {"socket", "select", "selectors", "asyncio", "ssl", "subprocess", "threading"}
# Of klani_resp's folders, from the lowest: what a file runs with comes from its own and those before it.
FLOORS = ("protocol", "acl", "insight", "sessions", "net")
SANS_IO = ("protocol", "acl", "sessions")
WITH_IO = {Path("klani_resp/acl/file.py")}
LINES_MAX = 400
FUNCTION_LINES_MAX = 60

FILES = sorted(path.relative_to(ROOT) for package in BELOW for path in (ROOT / package).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that the file imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.module.partition(".")[0]


each_file = pytest.mark.parametrize("path", FILES, ids=str)


@each_file
def test_imports_go_one_way(path: Path) -> None:
    assert set(imported(path)) & OURS <= BELOW[path.parts[0]]


def folder(path: Path) -> str:
    return path.parts[1] if len(path.parts) > 2 else ""


def is_sans_io(path: Path) -> bool:
    return path.parts[0] == "klani_resp" and folder(path) in SANS_IO and path not in WITH_IO


def for_types_only(module: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from ast.walk(node)


@each_file
def test_the_servers_folders_are_floors(path: Path) -> None:
    if path.parts[0] != "klani_resp" or folder(path) not in FLOORS:
        return
    above = FLOORS[FLOORS.index(folder(path)) + 1 :]
    module = tree(path)
    apart = set(for_types_only(module))
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node not in apart and node.module is not None:
            assert not node.module.startswith(tuple(f"klani_resp.{name}" for name in above)), node.module


@each_file
def test_only_the_server_knows_trio(path: Path) -> None:
    if path.parts[0] == "klani_resp" and not is_sans_io(path):
        return
    assert "trio" not in set(imported(path))
    coroutines = [node for node in ast.walk(tree(path)) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert coroutines == []


@each_file
def test_protocol_and_commands_do_no_io(path: Path) -> None:
    if path.parts[0] == "commands" or is_sans_io(path):
        assert not set(imported(path)) & IO_MODULES
        calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "open"]


@each_file
def test_commands_know_no_resp(path: Path) -> None:
    if path.parts[0] == "commands":
        assert "hiredis" not in set(imported(path))


@each_file
def test_files_and_functions_have_a_size(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= LINES_MAX
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{path}:{node.lineno}: {node.name} has {lines} lines"


@each_file
def test_each_file_says_what_it_is(path: Path) -> None:
    if (ROOT / path).read_text():
        assert ast.get_docstring(tree(path)), path


def test_only_fs_touches_files() -> None:
    """storage/fs.py is what a test replaces to lose or refuse bytes: nothing may go around it."""
    for path in FILES:
        if path.parts[0] == "storage" and path.name != "fs.py":
            for node in ast.walk(tree(path)):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "os"
                ):
                    assert node.attr in {"urandom", "path", "strerror"}, (
                        f"{path}:{node.lineno}: os.{node.attr}"
                    )


def test_each_command_module_is_listed_once() -> None:
    from commands.registry import MODULES, load

    declaring = {
        path.stem
        for path in FILES
        if path.parts[0] == "commands" and "@command(" in (ROOT / path).read_text()
    }
    assert set(MODULES) == declaring
    assert len(MODULES) == len(set(MODULES))
    assert all(name == name.upper() for name in load())
