"""What the page says of the flows that are not the seed's: refusals, charts without doubles; and of logs of
earlier versions, and torn ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_report import FIGURE, ROOT, Lines, herd, line_of, page_of, words_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a herd that holds, in which -BUSY is frequent."""
    output = tmp_path_factory.mktemp("hold")
    herd(output, "--flow", "hold", "--seed", "7", "--hold-ms", "50")
    return output


@pytest.fixture
def log(run: Path) -> Lines:
    return [json.loads(line) for line in (run / "raw.jsonl").read_text().splitlines()]


def keys_of(page: str, title: str) -> list[str]:
    """The names of a chart's lines."""
    (picture,) = re.findall(rf"<figure><figcaption>{title}</figcaption>.*?</figure>", page)
    return re.findall(r"</i>([^<]*)</li>", picture)


def test_refusals_are_counted_as_answers(run: Path, log: Lines) -> None:
    page = (run / "report.html").read_text()
    busy = line_of(log, "totals")["refused"]["busy"]
    assert busy > 0
    assert f"refusals among them ({busy:,} busy" in words_of(page)
    (number,) = (number for number, line in enumerate(log, 1) if line["kind"] == "totals")
    assert (f"line {number}: refused/busy", f"{busy:,}") in FIGURE.findall(page)


def test_a_line_is_not_drawn_twice(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert keys_of(page, "Throughput") == ["all commands"]
    assert "updates" not in words_of(page)
    assert "sum of verbs" not in page


def test_an_earlier_versions_log_has_a_page_and_is_told_apart(tmp_path: Path, log: Lines) -> None:
    """It called all that was answered updates, and counted refusals nowhere."""
    del line_of(log, "totals")["refused"]
    for line in log:
        if line["kind"] in ("second", "tenth", "hundredth"):
            line["commands"] -= line["busy"] + line["resold"]
            line |= {"reads": 0, "updates": line["commands"]}
    page = page_of(tmp_path, log)
    assert keys_of(page, "Throughput") == ["all commands"]
    assert "All commands are those that were answered, refusals not among them." in words_of(page)


@pytest.mark.parametrize("torn", ["{}", '{"kind": "sale", "se', "[1]", "\x80"])
def test_a_torn_line_is_named(run: Path, tmp_path: Path, torn: str) -> None:
    raw = tmp_path / "raw.jsonl"
    whole = (run / "raw.jsonl").read_text()
    raw.write_bytes(whole.encode() + torn.encode("latin-1"))
    command = [sys.executable, str(ROOT / "bench" / "report.py"), str(raw)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"report: {raw}, line {len(whole.splitlines()) + 1}: torn, or no line of")
    assert len(done.stderr.splitlines()) == 1
