"""`check` of a directory that nobody serves, in a process of its own: Python beside the server's loop.

As with KL.VERIFY's counting (storage.counting_process): in a thread it would hold the interpreter's lock.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from storage.check import check
from storage.fs import Fs, OsFs

_ROOT = str(Path(__file__).resolve().parent.parent)
_PROGRAM = """import os, sys
os.nice(10)
if sys.argv[1] not in sys.path: sys.path.insert(0, sys.argv[1])
from storage.check_process import say
say(sys.argv[2])"""
_SOUND = "."  # the last line; without it the process came to grief


def troubles_of(fs: Fs, directory: Path) -> Iterator[str]:
    """What is wrong with it. OSError when it cannot be read, or no process is to be had."""
    if type(fs) is not OsFs:  # another process sees the operating system's files only
        yield from check(fs, directory)
        return
    done = subprocess.run(
        (sys.executable, "-P", "-c", _PROGRAM, _ROOT, str(directory.absolute())),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,  # Ctrl-C at the server's terminal is not meant for it
        check=False,
    )
    *troubles, last = done.stdout.decode(errors="replace").splitlines() or [""]
    yield from troubles
    if last != _SOUND:
        raise OSError(f"the process that checks it ended with status {done.returncode}")


def say(directory: str) -> None:
    """The process: a line for each trouble, and the word that it is through."""
    for trouble in check(OsFs(), Path(directory)):
        print(trouble.replace("\n", " "))
    print(_SOUND)
