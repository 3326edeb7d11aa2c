"""TLS on a port of its own: each connection is a task, and its session the same as any other's.

Whatever goes wrong in a handshake ends that connection, and is logged now and then.
"""

from __future__ import annotations

import logging
import socket
import ssl

import trio

from klani_resp.app import App, StorageFailed
from klani_resp.config import Config, ConfigError
from klani_resp.net.listeners import Acceptor, transport_of
from klani_resp.net.tasks import serve_stream
from klani_resp.sometimes import Sometimes

log = logging.getLogger("klani_resp")
VERIFY_MODES = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "yes": ssl.CERT_REQUIRED}


def server_context(config: Config) -> ssl.SSLContext:
    """Certificate, key, and which clients are taken. Raises ConfigError."""
    for name in ("tls_cert_file", "tls_key_file"):
        if not getattr(config, name):
            raise ConfigError(f"tls_port needs {name}")
    if config.tls_auth_clients != "no" and not config.tls_ca_cert_file:
        raise ConfigError("tls_ca_cert_file is needed to know clients by; without: tls_auth_clients = no")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    at_fault = config.tls_cert_file
    try:
        # Without a password the key's would be asked for on the terminal.
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file, password="")
        if config.tls_ca_cert_file:
            at_fault = config.tls_ca_cert_file
            context.load_verify_locations(config.tls_ca_cert_file)
    except OSError as error:
        raise ConfigError(f"cannot use {at_fault} for TLS: {error.strerror or error}") from error
    context.verify_mode = VERIFY_MODES[config.tls_auth_clients]
    return context


class TlsRoad:
    def __init__(self, app: App, listeners: list[socket.socket], context: ssl.SSLContext) -> None:
        self._app = app
        self._context = context
        self._acceptors = [Acceptor(sock) for sock in listeners]
        self._accepting = trio.CancelScope()
        self._handshakes = 0
        self._complaints = Sometimes()

    def stop(self) -> None:
        """No new connections; App.drain sees to the others."""
        self._accepting.cancel()

    async def run(self) -> None:
        """Until `stop` was called and all connections are gone. Raises StorageFailed."""
        async with trio.open_nursery() as connections:
            try:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for acceptor in self._acceptors:
                            accepting.start_soon(self._accept, acceptor, connections)
            finally:
                for acceptor in self._acceptors:
                    acceptor.close()

    async def _accept(self, acceptor: Acceptor, connections: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(acceptor.fd)
            for sock in acceptor.accept():
                app = self._app
                if len(app.sessions) + self._handshakes >= app.config.connections_max:
                    app.counters.rejected += 1
                    sock.close()
                    continue
                self._handshakes += 1
                connections.start_soon(self._serve, sock)

    async def _serve(self, sock: socket.socket) -> None:
        with sock:
            address = "?"
            try:
                transport = transport_of(sock)
                address = transport.address
                secured = await self._secured(sock)
            except (trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
                reason = error.__cause__ or error
                self._complaints.warn(
                    log, "no TLS with %s: %s", address, str(reason) or type(reason).__name__
                )
                return
            finally:
                self._handshakes -= 1
            try:
                await serve_stream(secured, self._app, transport)
            except StorageFailed:
                raise
            except Exception:
                log.exception("bug in a connection's task: the connection is closed")

    async def _secured(self, sock: socket.socket) -> trio.SSLStream[trio.SocketStream]:
        """The stream behind a good handshake. Raises what trio does, OSError."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))  # sends without delay
        secured = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
        with trio.fail_after(self._app.config.tls_handshake_seconds_max):
            await secured.do_handshake()
        return secured
