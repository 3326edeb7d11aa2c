"""System calls of a server's threads, noted or made a death, by strace; see tests/kill_points.py."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# What changes files, names or what others know; `openat` where it creates, `sendto` and `sendmsg` to anybody.
CALLS = (
    *("pwrite64", "write", "fsync", "fdatasync", "rename", "unlink", "rmdir", "ftruncate", "fallocate"),
    *("mkdir", "openat", "sendto", "sendmsg"),
)


@dataclass(frozen=True, slots=True)
class Point:
    call: str
    number: int


class Tracer:
    """strace on some threads and no others: without -f each counts its own calls."""

    def __init__(self, place: Path, tids: list[int], point: Point | None) -> None:
        assert tids, "there is nobody to trace"
        self._output = place / "trace"
        command = ["strace", "-o", str(self._output), "-y", "-s", "0"]
        for tid in tids:
            command += ["-p", str(tid)]
        if point is None:
            command += ["-e", "trace=" + ",".join(CALLS)]
        else:
            command += ["-e", f"trace={point.call}"]
            command += ["-e", f"inject={point.call}:signal=KILL:when={point.number}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        attached = 0
        while attached < len(tids):
            line = self._process.stderr.readline()
            assert line, "strace did not attach"
            attached += "attached" in line

    def close(self) -> list[tuple[str, str]]:
        """Name and text of each call, when nobody of those that are traced is there any more."""
        self._process.communicate(timeout=30)
        lines = self._output.read_text().splitlines()
        return [(found[1], found[0]) for line in lines if (found := re.match(r"(?:\d+ +)?(\w+)\(.*", line))]


def points_of(calls: list[tuple[str, str]]) -> list[Point]:
    """Those of a run's calls that are points: all but reads and lines of the log."""
    seen: Counter[str] = Counter()
    points = []
    for name, text in calls:
        seen[name] += 1
        if (name == "openat" and "O_CREAT" not in text) or (name == "write" and text.startswith("write(2<")):
            continue
        points.append(Point(name, seen[name]))
    return points
