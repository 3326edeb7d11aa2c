"""A full disk: the store refuses new writes, and looks about once a second whether there is room again.

It leaves that state when the log's next segment and the ballast are there, and no checkpoint waits for room:
then it will be warned in good time once more. Both edges are logged once. Checkpoints go on in their own
task, and may make room.
"""

from __future__ import annotations

import errno
import logging

import trio

from klani_resp.app import RETRY_SECONDS, App
from klani_resp.committer import Committer, Doorbell

log = logging.getLogger("klani_resp")
POLL_SECONDS = 0.1


async def keep_room(app: App, committer: Committer, doorbell: Doorbell) -> None:
    """Raises StorageFailed."""
    engine = app.engine
    while True:
        await trio.sleep(POLL_SECONDS)
        if not engine.ballast.is_whole:  # the log has taken its room
            engine.disk_full(OSError(errno.ENOSPC, ""))
        if engine.readonly_reason is None:
            continue
        log.warning("the disk is full: writes are refused until there is room")
        await _room(app, committer, doorbell)
        engine.room_is_back()
        log.info("there is room on the disk again: writes are taken")


async def _room(app: App, committer: Committer, doorbell: Doorbell) -> None:
    """Back when there is."""
    while True:
        if await _has_room(app, committer, doorbell):
            return
        await trio.sleep(RETRY_SECONDS)


async def _has_room(app: App, committer: Committer, doorbell: Doorbell) -> bool:
    engine = app.engine
    if committer.is_stalled:
        await trio.to_thread.run_sync(engine.give_room_to_log)
        app.resume_log()
        doorbell.ring()
        return False
    if app.row_files.locked():  # a checkpoint may be about to use the ballast's room
        return False
    try:
        await trio.to_thread.run_sync(engine.make_room)
    except OSError as error:
        app.log_failed(error)
        app.check()
        return False
    return not engine.is_checkpoint_missed and not committer.is_stalled and engine.ballast.is_whole
