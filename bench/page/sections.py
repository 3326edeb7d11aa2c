"""What the page says in words: why it is fast, what was done, what it proves, and what each number means."""

from __future__ import annotations

import html
import re
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path

from bench.page.run import PROSE, TEXT, Run


def sections(run: Run, page: Path) -> Iterator[str]:
    yield from _flow(run)
    yield "<h2>What it proves, and what it does not</h2>"
    yield f"<p>{PROSE['proves_nothing'] if run.problems else PROSE['proves']}</p><p>{PROSE['proves_not']}</p>"
    yield from _verification(run)
    yield from _counted(run)
    yield f'<h2>Final line</h2><pre class="final">{html.escape(run.log.figure("final", "line").value)}</pre>'
    yield from _artifacts(run, page)


def _flow(run: Run) -> Iterator[str]:
    """Only of our own engine we know why it is as fast as it is."""
    if run.is_ours:
        yield "<h2>Mechanical sympathy</h2>"
        for title, text in TEXT["sympathy"].items():
            yield f"<h3>{title}</h3><p>{text}</p>"
    yield f"<h2>Honest scope</h2><p>{run.say(TEXT['scope'][run.server])} {run.durable()}</p>"
    if not run.is_ours:
        yield f"<p>{run.say(PROSE['comparison'])}</p>"
    yield f"<h2>Exact flow</h2><p>{run.say(PROSE['flow'])}</p>"
    parts = [TEXT["flow"][run.flow], *([TEXT["shortcut"]["flow"]] if run.remembers else [])]
    after = TEXT["after"][run.engine] + (TEXT["after"]["hold"] if run.flow == "hold" else "")
    if not run.is_read:
        after = TEXT["unread"]["after"]
    yield f"<pre>{_laid_out(run.say(html.escape(chr(10).join([*parts, after]), quote=False)))}</pre>"


def _laid_out(text: str) -> str:
    """A block for each line, whose indent goes with it when it is broken; what stands beside it, with room
    between, goes below it on a narrow page."""
    rows = []
    for line in text.strip("\n").split("\n"):
        words = line.lstrip(" ")
        verb = re.match("[A-Z]+ {2,}", words)
        first, *others = [words] if verb else re.split("( {5,})", words)
        pairs = zip(others[::2], others[1::2], strict=True)
        beside = "".join(
            f"<span class=gap>{gap}</span><span class=beside>{part}</span>" for gap, part in pairs
        )
        style = f"--in:{len(line) - len(words)};--hang:{len(verb[0]) if verb else 2}"
        rows.append(f'<span class=row style="{style}">{first}{beside or ("" if first else chr(10))}</span>')
    return "".join(rows)


def _verification(run: Run) -> Iterator[str]:
    text = TEXT["verified"][run.engine] if run.is_read else TEXT["unread"]["verification"]
    yield f"<h2>Verification</h2><p>{run.say(text)}</p>"
    if not run.is_read:
        return
    yield '<div class="wide"><table class="auto"><tr><th>count</th><th>value</th><th>of what</th></tr>'
    for key in next(run.log.lines("verification")):
        if key != "kind":
            figure, text = run.log.figure("verification", key), run.say(TEXT["verification"].get(key, ""))
            yield f"<tr><td>{_name(key)}</td><td>{figure.html()}</td><td>{text}</td></tr>"
    yield "</table></div>"


def _counted(run: Run) -> Iterator[str]:
    """Of each key of the final line; what a flow, or the shortcut, counts otherwise goes first."""
    shortcut = {"no_ticket": TEXT["shortcut"]["no_ticket"]} if run.remembers else {}
    texts = ChainMap(shortcut, TEXT["counted_in"].get(run.flow, {}), TEXT["counted"])
    yield "<h2>How each number was counted</h2>"
    yield '<div class="wide"><table><tr><th>number</th><th>value</th><th>counted</th></tr>'
    for key in next(run.log.lines("final")):
        if key not in ("kind", "line"):
            text, figure = run.say(texts[key]), run.final(key)
            is_unread = key.startswith("verified_") and not run.is_read
            shown = None
            if is_unread:
                shown, text = TEXT["unread"]["value"], TEXT["unread"]["counted"]
            yield f"<tr><td>{_name(key)}</td><td>{figure.html(shown)}</td><td>{text}</td></tr>"
    yield "</table></div>"


def _name(key: str) -> str:
    """It may be broken where its words meet."""
    return key.replace("_", "_<wbr>")


def _artifacts(run: Run, page: Path) -> Iterator[str]:
    """Links only to what lies beside the page."""
    log = run.log.path
    beside = page.resolve().parent == log.resolve().parent
    yield "<h2>Artifacts</h2><ul>"
    for name, text in ((log.name, TEXT["artifacts"]["raw.jsonl"]), *list(TEXT["artifacts"].items())[1:]):
        is_there = beside and (page.parent / name).is_file()
        shown = f'<a href="{html.escape(name)}">{html.escape(name)}</a>' if is_there else html.escape(name)
        yield f"<li>{shown}: {text}</li>"
    yield "</ul>"
