"""The Ticket Horde page, from a raw log alone: `python bench/report.py OUTPUT/raw.jsonl [PAGE]`.

One file of HTML that needs nothing else, offline too. Each number on it is a `Figure` of the log and names
its line; a picture names the lines that it was drawn from. The page's parts, words, colours and script are
in bench/page.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.horde.raw_log import REPORT, HerdLog
from bench.page.pictures import latencies, over_time, seat_map
from bench.page.run import ASSETS, Run
from bench.page.sections import sections
from bench.page.top import cards, head


def write_report(raw: Path, page: Path) -> None:
    """Raises ValueError when the log is not one of a run that came to its end."""
    page.write_text("".join(_page(Run(HerdLog(raw)), page)), encoding="utf-8")


def _page(run: Run, page: Path) -> Iterator[str]:
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    title = run.title if run.is_ours else f"{run.title}, {run.engine_name}"
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<link rel="icon" href="data:,">'  # or the browser asks for one
    yield f'<style>\n{style}</style></head><body data-log="{html.escape(run.log.path.name)}"><main>'
    yield from head(run)
    yield from cards(run)
    yield from over_time(run)
    yield from latencies(run)
    yield from seat_map(run)
    yield from sections(run, page)
    yield '</main><div id="tip" role="tooltip" hidden></div>'
    yield f'<script type="module">\n{script}</script></body></html>\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("page", type=Path, nargs="?", help="beside the log unless told")
    told = parser.parse_args()
    page = told.page or told.raw.with_name(REPORT)
    try:
        write_report(told.raw, page)
    except (OSError, ValueError) as problem:
        print(f"report: {problem}", file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
