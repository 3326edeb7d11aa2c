"""docs/security.md: its settings, its users and its code are used as they stand there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from bench.harness.launch import Server
from klani_resp.config import from_mapping

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs(start: Callable[..., Server], tmp_path: Path) -> None:
    (users,) = blocks("acl")
    path = tmp_path / "users.acl"
    path.write_text(users)
    server = start("--acl-file", str(path))
    code = "\n".join(blocks("python"))
    assert len(blocks("python")) == 3
    assert code.count("port=7700") == 3
    names: dict[str, Any] = {}
    try:
        exec(compile(code.replace("port=7700", f"port={server.port}"), str(PAGE), "exec"), names)
    finally:
        for value in names.values():
            if isinstance(value, redis.Redis):
                value.close()
    assert "secret" not in path.read_text(), "ACL SAVE writes hashes"
    assert "secret" not in (tmp_path / "data.log").read_text()


def test_the_settings_of_the_page_are_taken() -> None:
    password, tls = blocks("toml")
    assert from_mapping(tomllib.loads(password)).requirepass
    config = from_mapping(tomllib.loads(tls))
    assert config.tls_port and config.bind == "127.0.0.1" and config.tls_auth_clients == "yes"


def test_the_figures_of_the_page_are_those_of_the_settings() -> None:
    config, text = from_mapping({}), " ".join(PAGE.read_text().split())
    assert f"at most {config.before_auth_arguments_max} arguments of" in text
    assert f"of {config.before_auth_bulk_bytes_max >> 10} KiB each" in text
    assert f"and {config.before_auth_output_bytes_max >> 10} KiB of replies" in text
    assert f"has {config.tls_handshake_seconds_max:g} seconds (`tls_handshake_seconds_max`)" in text
