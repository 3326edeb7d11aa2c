"""docker-compose.yml, Dockerfile, .dockerignore, Makefile and README say the same, and the code takes it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.harness import host
from bench.horde.options import Options
from klani_resp.config import from_argv

ROOT = Path(__file__).resolve().parent.parent
HERD = ["python", "bench/herd.py", "--output"]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    text: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    found: dict[str, dict[str, Any]] = text["services"]
    for service in found.values():
        for volume in service.get("volumes", []):
            name = volume.split(":")[0]
            assert name.startswith("./") or name in text["volumes"]
    return found


def dockerfile(service: dict[str, Any]) -> list[list[str]]:
    """The Dockerfile of a service's build context, as words."""
    text = (ROOT / service["build"]["context"] / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def one(word: str, lines: list[list[str]]) -> list[str]:
    (found,) = (rest for first, *rest in lines if first == word)
    return found


def started(service: dict[str, Any]) -> list[str]:
    """What the image runs: it is said in one place."""
    assert "command" not in service
    found: list[str] = yaml.safe_load(" ".join(one("CMD", dockerfile(service))))
    return found


def test_what_is_copied_exists(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        copies = [words for words in dockerfile(service) if words[0] == "COPY"]
        sources = [Path(source) for _, *found, _ in copies for source in found]
        assert sources
        for source in sources:
            assert (ROOT / source).exists(), source
        packages = re.findall(
            r'^packages = \["klani_resp", "commands", "storage"\]', pyproject(), re.MULTILINE
        )
        assert len(packages) == 1
        assert {Path("klani_resp"), Path("commands"), Path("storage"), Path("bench")} <= set(sources)
        assert {Path("pyproject.toml"), Path("README.md"), Path("LICENSE")} <= set(sources)
        ignored, *sent = without_comments(".dockerignore")
        assert ignored == "*"
        assert {line for line in sent if line.startswith("!")} == {f"!{source}" for source in sources}


def without_comments(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]


def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


def test_the_server_takes_its_options(services: dict[str, dict[str, Any]]) -> None:
    program, *options = started(services["server"])
    config = from_argv(options)
    assert program == "klani-resp"
    assert 'klani-resp = "klani_resp.__main__:main"' in pyproject()
    listening = (
        (config.bind, config.port),
        (config.metrics_bind, config.metrics_port),
        (config.board_bind, config.board_port),
    )
    for port, (bind, inside) in zip(services["server"]["ports"], listening, strict=True):
        assert port == f"127.0.0.1:{inside}:{inside}", (
            "there is no password: it is not for everybody's network"
        )
        assert bind == "0.0.0.0"
    assert f"http://127.0.0.1:{config.metrics_port}/readyz" in services["server"]["healthcheck"]["test"][-1]
    assert config.dir in [volume.split(":")[1] for volume in services["server"]["volumes"]]
    grace = re.fullmatch(r"(\d+)s", services["server"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) > config.drain_seconds_max


def test_the_server_is_not_root_and_owns_its_volume(services: dict[str, dict[str, Any]]) -> None:
    lines = dockerfile(services["server"])
    (user,), (volume,) = one("USER", lines), one("VOLUME", lines)
    assert "user" not in services["server"]
    assert volume == from_argv(started(services["server"])[1:]).dir
    names = [line[0] for line in lines]
    assert names.index("RUN") < names.index("USER") < names.index("VOLUME") < names.index("CMD")
    steps = " ".join(one("RUN", lines)).split(" && ")
    assert re.fullmatch(rf"useradd --uid [1-9]\d+ --no-create-home {user}", steps[1])
    assert steps[2] == f"install -d -o {user} {volume}"


def test_the_page_of_the_horde_names_the_commit_that_the_image_was_told(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ((name, told),) = services["horde"]["build"]["args"].items()
    assert told == f"${{{name}:-unknown}}"
    lines = dockerfile(services["horde"])
    assert (one("ARG", lines), one("ENV", lines)) == ([f"{name}=unknown"], [f"{name}=${name}"])
    monkeypatch.setenv("PATH", "")  # no git
    assert host.commit() == "unknown"
    monkeypatch.setenv(name, "095cb0313d00+")
    assert host.commit() == "095cb0313d00+"


def test_the_horde_is_the_makefile_s_herd_in_2_cpus_and_4_gb(services: dict[str, dict[str, Any]]) -> None:
    horde = services["horde"]
    assert horde["build"] == services["server"]["build"]
    assert horde["profiles"] == ["horde"]
    assert float(horde["cpus"]) == 2
    assert horde["mem_limit"] == "4g"
    assert horde["command"][:-1] == HERD
    recipe = re.search(r"^herd:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    words = shlex.split(recipe[1].replace("$(BIN)/", "").replace("$(HERD_ARGS)", ""))
    assert words[:-1] == HERD, "no option of its own: the defaults are the same"
    (volume,) = horde["volumes"]
    assert volume == f"./{words[-1]}:{horde['command'][-1]}"


def test_the_readme_says_so_too() -> None:
    readme = (ROOT / "README.md").read_text()
    described = re.search(r"make herd +# ([0-9,]+) users fight over ([0-9,]+) seats", readme)
    assert described is not None
    options = Options()
    assert [int(number.replace(",", "")) for number in described.groups()] == [options.users, options.seats]
    assert "`herd-output/`" in readme


def test_the_server_s_page_has_options_that_there_are() -> None:
    lines = re.findall(r"^ {4}klani-resp (.+)$", (ROOT / "docs" / "server.md").read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line)
        at = words.index("--config")
        assert from_argv(words[:at] + words[at + 2 :]).port == 7700
