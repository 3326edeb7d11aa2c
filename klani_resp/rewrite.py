"""CONFIG REWRITE: the TOML file of the start, with the settings as they are now."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from commands.spec import CommandError
from klani_resp.config import Config
from klani_resp.files import replace_file

_SCALAR = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s#'\"]+"
_may_end_list = re.compile(r"\]\s*(?:#.*)?$").search


def rewrite(path: Path, values: dict[str, Any]) -> None:
    """It blocks."""
    try:
        text = rewritten(path.read_text("utf-8"), values)
        replace_file(path, text.encode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(f"ERR Rewriting config file: {reason}") from error


def rewritten(text: str, values: dict[str, Any]) -> str:
    """The file with these values: its own lines, comments and order where they are; behind them what is new.

    As in Redis, a setting that has its default is added nowhere. Raises CommandError for a file whose form is
    such that the outcome would say something else.
    """
    there = tomllib.loads(text)
    lines = text.split("\n")  # `splitlines` would cut strings, at U+2028 and its like
    if not lines[-1]:
        lines.pop()
    values, defaults = _as_in_toml(values), _as_in_toml(msgspec.structs.asdict(Config()))
    for name, value in values.items():
        if name not in there:
            if value != defaults[name]:
                lines.append(f"{name} = {_toml(value)}")
        elif there[name] != value:
            _replace(lines, name, value)
    outcome = "".join(line + "\n" for line in lines)
    wanted = {name: values[name] for name in values if name in there or values[name] != defaults[name]}
    if {name: value for name, value in tomllib.loads(outcome).items() if name in values} != wanted:
        raise CommandError("ERR Rewriting config file: its form is not understood, nothing was written")
    return outcome


def _as_in_toml(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _replace(lines: list[str], name: str, value: object) -> None:
    """Where the name is assigned to: a comment behind a single value stays."""
    scalar = re.compile(rf"(\s*{name}\s*=\s*)(?:{_SCALAR})(\s*(?:#.*)?)")
    list_begins = re.compile(rf"\s*{name}\s*=\s*\[")
    for i, line in enumerate(lines):
        if list_begins.match(line):
            lines[i : _end_of_list(lines, i)] = [f"{name} = {_toml(value)}"]
            return
        if found := scalar.fullmatch(line):
            lines[i] = f"{found[1]}{_toml(value)}{found[2]}"


def _end_of_list(lines: list[str], first: int) -> int:
    """Behind the list's last line: a bracket may stand in a string or a comment as well."""
    for end in range(first + 1, len(lines) + 1):
        if _may_end_list(lines[end - 1]):
            try:
                tomllib.loads("\n".join(lines[first:end]))
            except tomllib.TOMLDecodeError:
                continue
            return end
    return first  # then the outcome is not what was wanted


def _toml(value: object) -> str:
    """Numbers, booleans and strings are written as in JSON, but for DEL; a list has a line for each."""
    if isinstance(value, list) and value:
        return "[\n" + "".join(f"    {_toml(one)},\n" for one in value) + "]"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
