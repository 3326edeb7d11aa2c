"""Listening sockets: opened at the start, accepted from without ever spinning on a lack of descriptors."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from klani_resp.config import Config
from klani_resp.sessions.transport import Transport

log = logging.getLogger("klani_resp")
ACCEPTED_PER_TURN_MAX = 64
LOG_SECONDS_MIN = 60.0
UNIX_MODE = 0o700


class ListenError(Exception):
    """An address cannot be listened on; the text says which and why."""


class Acceptor:
    """One listening socket, and a descriptor kept back to refuse connections with when none is left."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fd = sock.fileno()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._logged_at = -LOG_SECONDS_MIN

    def accept(self) -> Iterator[socket.socket]:
        """The connections that wait, a turn's share of them."""
        for _ in range(ACCEPTED_PER_TURN_MAX):
            try:
                yield self._sock.accept()[0]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._refuse(error)
                    return
                if error.errno not in (errno.ECONNABORTED, errno.EPROTO, errno.EPERM):
                    self._complain(error)
                    return

    def _refuse(self, error: OSError) -> None:
        """Left in the backlog it would make the listener ready for ever: it is taken and closed."""
        os.close(self._spare)
        try:
            self._sock.accept()[0].close()
        except OSError:
            pass
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._complain(error)

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_SECONDS_MIN:
            self._logged_at = now
            log.warning("a connection was refused: %s", error.strerror)

    def close(self) -> None:
        self._sock.close()
        os.close(self._spare)


def open_listeners(config: Config) -> list[socket.socket]:
    """The TCP sockets and the unix socket that the settings ask for."""
    opened: list[socket.socket] = []
    is_elsewhere = bool(config.tls_port or config.unixsocket)
    try:
        if config.port or not is_elsewhere:  # 0 beside another way in is no port, as in Redis
            opened += _tcp(config.bind, config.port, config)
        if config.unixsocket:
            opened.append(_unix(Path(config.unixsocket), config.listen_backlog_connections))
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return opened


def open_tls_listeners(config: Config) -> list[socket.socket]:
    if not config.tls_port:
        return []
    return _tcp(config.tls_bind or config.bind, config.tls_port, config)


def _tcp(bind: str, port: int, config: Config) -> list[socket.socket]:
    where = f"{bind}:{port}"
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _keep_alive(sock, config.tcp_keepalive_seconds)
            sock.bind(address)
            sock.listen(config.listen_backlog_connections)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
    return sockets


def _keep_alive(sock: socket.socket, seconds: int) -> None:
    """As Redis: the kernel asks so late, then three times. Connections have it from the socket that accepts
    them; without it one whose machine is gone stays, and takes up one of `connections_max`."""
    if not seconds:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", max(1, seconds // 3)),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):  # other systems keep their own patience
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _unix(path: Path, backlog: int) -> socket.socket:
    """A socket file that a dead server left is removed; one that answers, or any other file, is not."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(UNIX_MODE)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error
    return sock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def unix_socket_identity(config: Config) -> tuple[int, int] | None:
    """What tells the socket's file from one that another server puts in its place."""
    if not config.unixsocket or not (path := Path(config.unixsocket)).exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_ctime_ns  # a number alone may be used again


def remove_unix_socket(config: Config, ours: tuple[int, int] | None) -> None:
    if ours is not None and unix_socket_identity(config) == ours:
        Path(config.unixsocket).unlink(missing_ok=True)


def transport_of(sock: socket.socket | trio.socket.SocketType) -> Transport:
    """To be asked once, at the beginning: of a peer that is gone nothing is known. Raises OSError."""
    own = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        address = f"{own}:0"  # a client's end has no name
        return Transport(address, address, sock.fileno(), is_unix=True)
    peer = sock.getpeername()
    described = describe_address(sock.family, peer), describe_address(sock.family, own)
    return Transport(*described, sock.fileno(), peer[0])


def describe_address(family: int, address: Any) -> str:
    """`127.0.0.1:7700`, `[::1]:7700`, or `unix:/path`."""
    if family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
