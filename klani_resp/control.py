"""What commands may do to the process as a whole: ask for a checkpoint, or for the end (ServerControl)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klani_resp.app import App

log = logging.getLogger("klani_resp")


class Control:
    """The server sets `stop`, which starts the drain, and looks at what else was asked for."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.stop: Callable[[], None] = lambda: None
        self.is_save_wanted = False  # BGSAVE: whoever makes checkpoints looks, and takes it back
        self.is_last_checkpoint_wanted = True

    @property
    def is_saving(self) -> bool:
        return self.is_save_wanted or self._app.row_files.locked()

    def save_soon(self) -> None:
        self.is_save_wanted = True

    def shut_down(self, *, with_checkpoint: bool) -> None:
        log.info("received SHUTDOWN")
        self.is_last_checkpoint_wanted = with_checkpoint
        self.stop()
