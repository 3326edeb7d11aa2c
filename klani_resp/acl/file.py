"""The ACL file on disk: read whole, and replaced whole."""

from __future__ import annotations

import os
from pathlib import Path

BYTES_MAX = 16 << 20


def read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(BYTES_MAX + 1)
    if len(text) > BYTES_MAX:
        raise OSError(f"{path} has more than {BYTES_MAX} bytes")
    return text


def write(path: Path, text: bytes) -> None:
    """A crash leaves the old file or the new one. It holds hashes of passwords: for its owner's eyes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
