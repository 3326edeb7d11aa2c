"""A program on a terminal of its own: what it prints there it does not print into a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

from tests import interrupts


class Terminal:
    """As a person has it, who ends it with a signal if need be."""

    def __init__(self, *command: str) -> None:
        self._fd, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        with interrupts.heeded():
            self._process = subprocess.Popen(
                command,
                stdin=inside,
                stdout=inside,
                stderr=inside,
                env={**os.environ, "TERM": "xterm", "HOME": os.devnull},
                start_new_session=True,
            )
        os.close(inside)

    def until(self, end: bytes, start: bytes = b"") -> bytes:
        """What is printed behind `start`, up to `end` at least; without colours and cursor movements."""
        got = b""
        while end not in (got.partition(start)[2] if start else got):
            assert select.select([self._fd], [], [], 20)[0], got
            got += os.read(self._fd, 65536)
        return re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", got)

    def press(self, keys: str) -> None:
        """Types without ending the line."""
        os.write(self._fd, keys.encode())

    def type(self, line: str, prompt: bytes) -> bytes:
        """What is printed behind the typed line. What is typed before the next prompt may get lost."""
        os.write(self._fd, line.encode() + b"\r")
        return self.until(prompt, b"\r\n")

    def interrupt(self) -> int:
        """Ctrl-C; how it ended, as `Popen.returncode` says it."""
        self._process.send_signal(signal.SIGINT)
        return self.ended()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def ended(self) -> int:
        return self._process.wait(timeout=20)
