"""Composition root: opens the store, listens, serves, drains, closes. One tree of nurseries has all tasks.

serve            shielded from the caller's cancellation, which only starts the drain
  onlookers      metrics port and board, if asked for: they answer from before the start to the end
    services     segments of the log; they end last, when nothing can append any more
      traffic    connections, loading, checkpoints, room; ends when it is drained, or at the deadline
"""

from __future__ import annotations

import gc
import logging
import select
import socket
import time
from functools import partial
from pathlib import Path

import trio

from klani_resp.app import App, StorageFailed
from klani_resp.committer import Committer, Doorbell
from klani_resp.config import Config
from klani_resp.net.descriptors import refuse_more_than_fit
from klani_resp.net.listeners import (
    describe_address,
    open_listeners,
    open_tls_listeners,
    remove_unix_socket,
    transport_of,
    unix_socket_identity,
)
from klani_resp.net.reactor import Reactor
from klani_resp.net.sweep import sweep
from klani_resp.net.tasks import serve_stream
from klani_resp.net.tls import TlsRoad, server_context
from klani_resp.room import keep_room
from klani_resp.settings import engine_options as engine_options
from storage.errors import StoreError
from storage.fs import Fs
from storage.recovery import Opening
from storage.syncer import open_syncer

log = logging.getLogger("klani_resp")
CHECKPOINT_POLL_SECONDS = 0.1
LOADING_STEP_SECONDS = 0.005  # so often clients are told that the store loads
LOG_LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.DEBUG,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}
SYNC_SECONDS = 1.0  # everysec
HAS_EPOLL = hasattr(select, "epoll")


async def serve(
    config: Config,
    *,
    fs: Fs | None = None,
    use_epoll: bool = HAS_EPOLL,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until it is cancelled, then drains and closes the store.

    Reports the bound addresses when commands are answered. Raises StartError and ListenError when it
    cannot start, StorageFailed when the store can no longer be written.
    """
    server = Server(config, fs, use_epoll)
    stop = trio.Event()
    async with trio.open_nursery() as watch:
        watch.start_soon(_set_when_cancelled, stop)
        with trio.CancelScope(shield=True):
            await server.run(stop, task_status)
        watch.cancel_scope.cancel()


async def _set_when_cancelled(event: trio.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        event.set()


def set_loglevel(config: Config) -> None:
    log.setLevel(LOG_LEVELS[config.loglevel])


class Server:
    def __init__(self, config: Config, fs: Fs | None, use_epoll: bool) -> None:
        self._config = config
        self._opening = Opening(Path(config.dir), engine_options(config), fs)
        self._app = App(config)
        set_loglevel(config)
        self._app.settings.tell(set_loglevel)
        self._app.settings.ask(refuse_more_than_fit)
        self._doorbell = Doorbell()
        self._reactor = Reactor(self._app, self._doorbell) if use_epoll else None
        self._committer: Committer | None = None
        self._listeners: list[socket.socket] = []
        self._tls: TlsRoad | None = None
        self._unix_socket: tuple[int, int] | None = None
        self._accepting = trio.CancelScope()

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[list[str]]) -> None:
        self._opening.lock()
        self._app.control.stop = stop.set
        try:
            await self._serve(stop, task_status)
        finally:
            remove_unix_socket(self._config, self._unix_socket)
            self._doorbell.close()
        if not self._app.is_loading:
            self._close_store()

    def _close_store(self) -> None:
        """Whoever reads the log is told that the end failed, not the start."""
        try:
            warning = self._app.engine.close(with_checkpoint=self._app.control.is_last_checkpoint_wanted)
        except (OSError, StoreError) as error:
            raise StorageFailed(f"at its end: {error}") from error
        if warning:
            log.warning("%s", warning)

    async def _serve(self, stop: trio.Event, task_status: trio.TaskStatus[list[str]]) -> None:
        async with trio.open_nursery() as onlookers:
            if self._config.metrics_port:
                from klani_resp.metrics.listener import Metrics  # who does not ask for it does not load it

                await onlookers.start(Metrics(self._app, stop.is_set).serve)
            if self._config.board_port:
                from klani_resp.board.board import Board

                await onlookers.start(Board(self._app, stop.is_set).serve)
            await self._serve_clients(stop, task_status)
            onlookers.cancel_scope.cancel()

    def _listen(self) -> list[str]:
        """The addresses. Raises ListenError, ConfigError."""
        self._app.access.configure()
        context = server_context(self._config) if self._config.tls_port else None
        self._listeners = open_listeners(self._config)
        self._unix_socket = unix_socket_identity(self._config)
        addresses = [describe_address(sock.family, sock.getsockname()) for sock in self._listeners]
        if context is not None:
            secured = open_tls_listeners(self._config)
            self._tls = TlsRoad(self._app, secured, context)
            addresses += ["tls " + describe_address(sock.family, sock.getsockname()) for sock in secured]
        return addresses

    async def _serve_clients(self, stop: trio.Event, task_status: trio.TaskStatus[list[str]]) -> None:
        addresses = self._listen()
        log.info("listening on %s", ", ".join(addresses))
        async with trio.open_nursery() as services:
            try:
                async with trio.open_nursery() as traffic:
                    traffic.start_soon(self._connections)
                    if self._tls is not None:
                        traffic.start_soon(self._tls.run)
                    traffic.start_soon(sweep, self._app)
                    loaded = trio.Event()
                    traffic.start_soon(self._load, services, loaded)
                    traffic.start_soon(self._report, loaded, addresses, task_status)
                    await stop.wait()
                    await self._drain()
                    traffic.cancel_scope.cancel()
            finally:
                if self._committer is not None:
                    self._committer.stop()

    async def _drain(self) -> None:
        """What was received is answered, as far as the deadline allows."""
        log.info("stopping")
        with trio.move_on_after(self._config.drain_seconds_max) as deadline:
            self._accepting.cancel()
            if self._tls is not None:
                self._tls.stop()
            if self._reactor is not None:
                self._reactor.stop()
            await self._app.drain()
            if self._reactor is not None:
                await self._reactor.drained.wait()
        if deadline.cancelled_caught:
            log.warning("not drained in %g s: connections are closed", self._config.drain_seconds_max)

    # --- loading --------------------------------------------------------------------------------------

    async def _load(self, services: trio.Nursery, loaded: trio.Event) -> None:
        app, opening = self._app, self._opening
        gc.disable()  # nothing that loading makes is garbage
        yielded_at = time.monotonic()
        for progress in opening:
            app.loading_progress = progress
            if time.monotonic() - yielded_at >= LOADING_STEP_SECONDS:
                await trio.lowlevel.checkpoint()
                yielded_at = time.monotonic()
        for warning in opening.warnings:
            log.warning("%s", warning)
        engine = opening.engine
        self._committer = Committer(
            engine.wal,
            open_syncer(engine.fs),
            always=self._config.appendfsync == "always",
            roll=partial(services.start_soon, self._next_segment),
            prepare=partial(services.start_soon, self._prepare_segment),
        )
        self._committer.on_sync = app.latency.synced
        if self._reactor is not None:
            self._reactor.watch_syncs(self._committer.fd)
        gc.enable()
        gc.collect()
        gc.freeze()  # what was loaded lives as long as the process: no collection walks it again
        app.opened(engine, self._committer)
        loaded.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._checkpoints)
            nursery.start_soon(app.rates.measure)
            nursery.start_soon(partial(keep_room, app, self._committer, self._doorbell))
            if self._reactor is None:
                nursery.start_soon(self._take_syncs)
            if self._config.appendfsync == "everysec":
                nursery.start_soon(self._sync_each_second)

    async def _report(
        self, loaded: trio.Event, addresses: list[str], task_status: trio.TaskStatus[list[str]]
    ) -> None:
        await loaded.wait()
        log.info("ready to accept connections on %s", ", ".join(addresses))
        task_status.started(addresses)

    async def _next_segment(self) -> None:
        """Beside the loop; what is appended meanwhile waits for it. Raises StorageFailed."""
        assert self._committer is not None
        try:
            await trio.to_thread.run_sync(self._app.engine.wal.next_segment)
        except OSError as error:
            self._committer.stalled()
            self._app.log_failed(error)
        else:
            self._committer.rolled()
        self._app.check()
        self._app.take_released()
        self._doorbell.ring()

    async def _prepare_segment(self) -> None:
        """Beside the loop, ahead of need. Raises StorageFailed."""
        try:
            await trio.to_thread.run_sync(self._app.engine.wal.prepare_segment)
        except OSError as error:
            self._app.log_failed(error)
        self._app.check()

    async def _sync_each_second(self) -> None:
        while True:
            await trio.sleep(SYNC_SECONDS)
            self._app.make_durable()

    async def _checkpoints(self) -> None:
        while True:
            await trio.sleep(CHECKPOINT_POLL_SECONDS)
            if self._app.is_checkpoint_wanted:
                await self._app.checkpoint()
            if self._app.engine.dropped:
                await self._app.free_dropped()

    # --- connections ----------------------------------------------------------------------------------

    async def _connections(self) -> None:
        if self._reactor is not None:
            for sock in self._listeners:
                self._reactor.listen(sock)
            await self._reactor.run()
            return
        if not self._listeners:  # TLS alone
            return
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in self._listeners]
        async with trio.open_nursery() as nursery:
            with self._accepting:
                await trio.serve_listeners(self._serve_socket, listeners, handler_nursery=nursery)

    async def _take_syncs(self) -> None:
        """What the reactor does, for the task road."""
        assert self._committer is not None
        while True:
            await trio.lowlevel.wait_readable(self._committer.fd)
            self._app.sync_ended()
            self._app.wake_committer()

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        try:
            transport = transport_of(stream.socket)
        except OSError:  # it is gone already
            return
        try:
            await serve_stream(stream, self._app, transport)
        except StorageFailed:
            raise
        except Exception:
            log.exception("bug in a connection's task: the connection is closed")
