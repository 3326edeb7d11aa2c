"""A server without sockets or disk: sessions that bytes are handed to."""

from __future__ import annotations

from typing import Any

from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from tests.fake_disk import FakeDisk
from tests.store import FakeClock, open_store

SCHEMA = "> KL.CREATE seats SCHEMA rank U32 INDEX sold U8 INDEX\n< +OK\n"


def new_app(**settings: Any) -> App:
    app = App(Config(**settings))
    app.access.configure()
    engine, _ = open_store(FakeDisk(), clock=FakeClock())
    app.opened(engine, InlineCommitter(engine.wal, app.release))
    return app


def new_session(app: App) -> Session:
    return app.open_session(Transport("", ""))


def talk(session: Session, script: str) -> None:
    """Plays a script: each run of requests goes in as one chunk, what comes back is compared whole."""
    asked, expected = "", ""
    for line in [*script.strip("\n").splitlines(), "> "]:
        line = line.lstrip()
        mark, text = line[:1], line[2:]
        if mark == "<":
            expected += text + "\r\n"
            continue
        if expected:
            assert session.receive(asked.encode()).decode() == expected, f"to {asked!r}"
            asked = expected = ""
        asked += text + "\r\n"
