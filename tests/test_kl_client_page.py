"""docs/client.md: its code is run as it stands there, and its types are right."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.harness.launch import Server

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "client.md"


@pytest.fixture(scope="module")
def code() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    return "\n".join(blocks)


def test_the_code_of_the_page_runs(start: Callable[..., Server], code: str) -> None:
    assert code.count("port=7700") == 3
    code = code.replace("port=7700", f"port={start().port}")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    for client in (names["kl"].client, names["own"]):
        client.connection_pool.disconnect()


def test_the_code_of_the_page_has_types(code: str, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(code)
    own = ("--config-file", "", "--cache-dir", tmp_path / "cache")
    mypy = (sys.executable, "-m", "mypy", "--strict", *own, tmp_path / "page.py")
    done = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
