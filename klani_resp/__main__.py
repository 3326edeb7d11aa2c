"""`klani-resp [options]` serves; `klani-resp check DIR` verifies a directory offline."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

import trio

from klani_resp.app import StorageFailed
from klani_resp.config import Config, ConfigError, from_argv
from klani_resp.net.descriptors import fitted
from klani_resp.net.listeners import ListenError
from klani_resp.net.tasks import only_of
from klani_resp.server import serve
from storage.errors import StoreError

log = logging.getLogger("klani_resp")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 after a clean stop, 1 when it could not start or the disk failed, 2 for usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["check"]:
        from storage import check

        return check.main(arguments[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = from_argv(arguments)
    except ConfigError as error:
        return _ends(f"klani-resp: {error}", 2)
    try:
        trio.run(_run, fitted(config), strict_exception_groups=True)
    except BaseExceptionGroup as group:
        return _ends_with(group)
    except (StoreError, ListenError, ConfigError, StorageFailed, OSError) as error:
        return _ends_with(BaseExceptionGroup("", [error]))
    log.info("stopped")
    return 0


async def _run(config: Config) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_until_signal, nursery.cancel_scope)
        await serve(config)
        nursery.cancel_scope.cancel()  # SHUTDOWN ended it, no signal did


async def _until_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("received %s", signal.Signals(number).name)
            scope.cancel()


def _ends_with(group: BaseExceptionGroup[BaseException]) -> int:
    """One line for what was to be expected; a bug shows its traceback."""
    failed = only_of(StorageFailed, group)
    if failed is not None:
        return _ends(
            f"klani-resp: the store cannot be written any more, nothing was answered since: {failed}", 1
        )
    for kind in (StoreError, ListenError, ConfigError, OSError):
        if (refused := only_of(kind, group)) is not None:
            return _ends(f"klani-resp: cannot start: {refused}", 2 if kind is ConfigError else 1)
    raise group


def _ends(text: str, status: int) -> int:
    print(text.replace("\n", " "), file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
