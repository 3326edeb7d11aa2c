"""docs/operations.md and deploy/: the settings are settings, the unit's limits are those of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from bench.harness.launch import ROOT, Server
from klani_resp.__main__ import main
from klani_resp.config import Config, from_file, from_mapping
from klani_resp.net.descriptors import KEPT_BACK
from tests.scraping import DEPLOY

PAGE = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Those of the page, as a file."""
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path_factory.mktemp("etc") / "klani-resp.toml"
    path.write_text(block)
    return from_mapping(from_file(path))


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """The unit's settings by name, in their order."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "klani-resp.service").read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_and_the_page_name_the_same_places(unit: dict[str, list[str]], settings: Config) -> None:
    program, option, path = shlex.split(unit["ExecStart"][0])
    assert option == "--config"
    assert f"`{path}`" in PAGE
    assert f"{program.rpartition('/')[0]}/pip install ." in PAGE
    states = [f"/var/lib/{name}" for name in unit["StateDirectory"][0].split()]
    assert states == [settings.dir, settings.backup_dir]
    assert f"useradd --system --home-dir {settings.dir}" in PAGE
    assert unit["User"] == unit["Group"] == ["klani-resp"]
    for place in re.findall(r"/var/lib/[\w-]+", PAGE):
        assert place in states, place


def test_the_unit_lets_the_server_write_its_settings_and_users(
    unit: dict[str, list[str]], settings: Config
) -> None:
    """Behind ProtectSystem=strict nothing else can be; and who replaces a file needs its directory."""
    _, _, config_file = shlex.split(unit["ExecStart"][0])
    writable = [path.lstrip("-") for path in unit["ReadWritePaths"]]
    places = {str(Path(path).parent) for path in (config_file, settings.acl_file)}
    assert unit["ProtectSystem"] == ["strict"]
    assert places == set(writable)
    (owner,) = unit["User"]
    for place in places:
        assert f"install -d -o {owner} -g {owner} -m 750 {place}\n" in PAGE
    for path in (config_file, settings.acl_file):
        place, _, name = path.rpartition("/")
        assert f"install -o {owner} -g {owner} -m 600 {name} {place}/\n" in PAGE


def test_rewrite_and_save_write_where_the_unit_allows(
    unit: dict[str, list[str]], settings: Config, tmp_path: Path, start: Callable[..., Server]
) -> None:
    """The page's settings, below this test's root: a directory that is anybody else's is left as it was."""
    _, _, config_file = shlex.split(unit["ExecStart"][0])
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for path in (settings.dir, settings.backup_dir, "/etc/klani-resp"):
        (tmp_path / path[1:]).mkdir(parents=True)
    toml, users = (tmp_path / path[1:] for path in (config_file, settings.acl_file))
    toml.write_text(re.sub(r'"(/[^"]*)"', rf'"{tmp_path}\1"', block))
    users.write_text("")
    changed_before = {path: path.stat().st_mtime_ns for path in (tmp_path, tmp_path / "etc")}
    directory = tmp_path / settings.dir[1:]
    server = start("--config", str(toml), "--metrics-port", "0", directory=directory)
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.config_set("timeout", 7)
        client.acl_setuser("shop", enabled=True, passwords="+secret", categories=["+@all"])
        assert client.config_rewrite()
        assert client.execute_command("ACL SAVE")
    assert server.stop() == 0
    assert "\nidle_seconds_max = 7.0\n" in toml.read_text()
    assert users.read_text().startswith("user ")
    assert {path: path.stat().st_mtime_ns for path in changed_before} == changed_before
    assert sorted(path.name for path in toml.parent.iterdir()) == ["klani-resp.toml", "users.acl"]
    server = start("--config", str(toml), directory=directory)
    with redis.Redis(port=server.port, username="shop", password="secret", decode_responses=True) as client:
        assert client.config_get("timeout") == {"timeout": "7"}


def test_the_unit_s_limits_fit_the_server_s(unit: dict[str, list[str]], settings: Config) -> None:
    needed = settings.connections_max + KEPT_BACK + 2 * settings.onlooker_connections_max
    assert int(unit["LimitNOFILE"][0]) >= needed
    (for_log, for_metrics, for_board) = re.findall(
        r"(\d+) for the log and its checkpoints, (\d+)\s.*? and (\d+) for the live board", PAGE
    )[0]
    assert int(for_log) == KEPT_BACK
    assert int(for_metrics) == int(for_board) == settings.onlooker_connections_max
    assert f"{settings.connections_max:,}" in PAGE
    assert unit["TimeoutStopSec"] == ["2min"]
    assert settings.drain_seconds_max < 60
    for line in (
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "KillMode=mixed",
        "LimitNOFILE=16384",
        "Type=exec",
    ):
        name, _, value = line.partition("=")
        assert unit[name] == [value]
        assert f"`{line}`" in PAGE


def test_backup_and_restore_as_the_page_has_it(start: Callable[..., Server], tmp_path: Path) -> None:
    """Its commands, with this test's places and processes in the place of the page's and systemd's."""
    backups = tmp_path / "klani-resp-backups"
    options = ("--backup-dir", str(backups))
    server = start(*options, directory=tmp_path / "klani-resp")
    with redis.Redis(port=server.port) as client:
        client.execute_command("KL.CREATE", "seats", "SCHEMA", "is_booked", "U8", "INDEX")
        client.execute_command("KL.INSERT", 1, "is_booked", 1)
        (name,) = re.findall(r"redis-cli -p 7700 KL.BACKUP (\S+)", PAGE)
        made = client.execute_command("KL.BACKUP", name).decode()
        client.execute_command("KL.INSERT", 2, "is_booked", 1)
    assert made == str(backups / name)
    (block,) = re.findall(r"To restore:\n\n((?: {4}.*\n)+)", PAGE)
    for line in block.replace("/var/lib", str(tmp_path)).splitlines():
        words = shlex.split(line)
        if words[:2] == ["systemctl", "stop"]:
            assert server.stop() == 0
        elif words[:2] == ["systemctl", "start"]:
            server = start(*options, directory=tmp_path / "klani-resp")
        elif words[0] == "klani-resp":
            assert main(words[1:]) == 0
        else:
            subprocess.run(words, check=True)
    with redis.Redis(port=server.port) as client:
        assert client.execute_command("KL.INTERSECT", "seats", "is_booked", 1) == [1]


def test_the_page_s_ports_are_those_of_its_settings(settings: Config) -> None:
    assert f"http://127.0.0.1:{settings.metrics_port}/readyz" in PAGE
    assert f'targets: ["{settings.metrics_bind}:{settings.metrics_port}"]' in PAGE
    assert f"--metrics-port {settings.metrics_port}" in PAGE
    assert Config().metrics_port == 0
