"""One session on a store of its own, with a clock and a disk that a test moves, stops and takes away."""

from __future__ import annotations

from typing import Any

import hiredis
import redis

from commands.registry import load
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.dispatcher import Dispatcher
from klani_resp.sessions.transport import Transport
from storage.check import check
from storage.engine import EngineOptions
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.store import DIRECTORY, FakeClock, checkpoint, open_store

CONFIG = Config()
DISPATCHER = Dispatcher(load())  # to compile the commands takes longer than a test


class Shop:
    def __init__(self, options: EngineOptions | None = None) -> None:
        self._options = options or EngineOptions(segment_bytes=64 << 10)
        self.disk = FakeDisk()
        self.clock = FakeClock()
        self.start()

    def start(self) -> None:
        self._app = app = App(CONFIG, DISPATCHER)
        self.engine, _ = open_store(self.disk, self._options, self.clock)
        app.opened(self.engine, InlineCommitter(self.engine.wal, app.release))
        self._session = app.open_session(Transport("", ""))

    def ask(self, *words: Any) -> Any:
        """The reply, and what it shows is on disk."""
        reader = hiredis.Reader()
        reader.feed(self._session.receive(frame(*words)))
        self._app.wake_committer()
        self._app.check()
        reply = reader.gets()
        if isinstance(reply, hiredis.ReplyError):
            raise redis.ResponseError(str(reply))
        return reply

    def is_held_back(self, *words: Any) -> bool:
        """Whether the reply waits for something that is not on disk yet. Nothing is put there here."""
        self._session.receive(frame(*words))
        return self._session.hold > self.engine.released

    def checkpoint(self) -> None:
        checkpoint(self.engine)

    def crash(self, down_ms: int = 0) -> None:
        """The power goes, and comes back; so long there was no server."""
        self.disk = self.disk.crash()
        assert list(check(self.disk, DIRECTORY)) == []
        self.clock.pass_ms(down_ms)
        self.start()
