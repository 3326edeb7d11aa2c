"""docs/selling.md: its code is run as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bench.harness.launch import Server

PAGE = Path(__file__).resolve().parent.parent / "docs" / "selling.md"


def test_the_code_of_the_page_runs(start: Callable[..., Server]) -> None:
    server = start()
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    code = "\n".join(blocks)
    assert code.count("port=7700") == 1
    exec(compile(code.replace("port=7700", f"port={server.port}"), str(PAGE), "exec"), {})
