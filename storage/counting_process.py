"""The counting of KL.VERIFY in a process of its own: Python beside the server's loop, not in its way.

In a thread it would hold the interpreter's lock: each time the loop sends or receives it had to wait for
that, up to 5 ms (docs/decisions/0007-verify-process.md has the figures).

The child is a new program, not a fork: it has none of the server's memory, descriptors or signals. Each
line that it reads is a question as JSON, each line that it writes an answer. It ends with its input, so it
does not outlive the server by more than the question under way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO

from storage.counting import Counting, CountingError, InPlace, Question, Sum, bytes_to_read
from storage.errors import StoreError
from storage.fs import Fs, OsFs

IN_PLACE_BYTES_MAX = (
    1 << 20
)  # up to 20 ms of Python, if it is all small batches; a process takes 70 before it begins
END_SECONDS_MAX = 1.0  # between the end of its answers and its own
_ROOT = str(Path(__file__).resolve().parent.parent)
# It gives way to whoever serves. The package comes from where this one is, whatever else is installed.
_PROGRAM = """import os, sys
os.nice(10)
if sys.argv[1] not in sys.path: sys.path.insert(0, sys.argv[1])
from storage.counting_process import serve
serve(sys.stdin.buffer, sys.stdout.buffer)"""
_COMMAND = (sys.executable, "-P", "-c", _PROGRAM, _ROOT)


def counting_beside(fs: Fs) -> Counting:
    """Another process sees the operating system's files only; anything else is counted in place."""
    return Beside() if type(fs) is OsFs else InPlace(fs)


class Beside:
    """In the calling thread what is small, in a process what is large. The first question decides."""

    def __init__(self) -> None:
        self._chosen: Counting | None = None

    def from_log(self, question: Question) -> Sum:
        return self._counting(question).from_log(question)

    def from_rows(self, question: Question) -> Sum:
        return self._counting(question).from_rows(question)

    def from_index(self, question: Question) -> Sum:
        return self._counting(question).from_index(question)

    def close(self) -> None:
        if self._chosen is not None:
            self._chosen.close()

    def _counting(self, question: Question) -> Counting:
        if self._chosen is None:
            fs = OsFs()
            try:
                is_small = bytes_to_read(fs, question) <= IN_PLACE_BYTES_MAX
            except (StoreError, OSError) as error:
                raise CountingError(error) from error
            self._chosen = InPlace(fs) if is_small else ChildProcess()
        return self._chosen


class ChildProcess:
    """A `Counting` that only waits: for use in a thread. The process is there from the first question on."""

    def __init__(self, command: tuple[str, ...] = _COMMAND) -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None

    def from_log(self, question: Question) -> Sum:
        return self._ask("log", question)

    def from_rows(self, question: Question) -> Sum:
        return self._ask("rows", question)

    def from_index(self, question: Question) -> Sum:
        return self._ask("index", question)

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            with suppress(BrokenPipeError), self._child:  # closes the pipes, waits for the end
                pass

    def _ask(self, what: str, question: Question) -> Sum:
        try:
            if self._child is None:
                # A session of its own: Ctrl-C at the server's terminal is not meant for it.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
                )
            stdin, stdout = self._child.stdin, self._child.stdout
            assert stdin is not None
            assert stdout is not None
            with suppress(BrokenPipeError):  # its end shows in the answer
                stdin.write(_encode_question(what, question))
                stdin.flush()
            return _read_answer(stdout)
        except OSError as error:  # no process to be had, no descriptor
            raise CountingError(error) from error
        except EOFError:
            raise CountingError(f"its process ended with status {self._status()}") from None

    def _status(self) -> int:
        assert self._child is not None
        with suppress(subprocess.TimeoutExpired):
            return self._child.wait(END_SECONDS_MAX)
        self._child.kill()
        return self._child.wait()


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """The child: answers until the input ends, or nobody is left to read."""
    counting = InPlace(OsFs())
    with suppress(BrokenPipeError):
        for line in questions:
            answers.write(_answer(counting, line))
            answers.flush()


_COUNTS = {"log": InPlace.from_log, "rows": InPlace.from_rows, "index": InPlace.from_index}


def _answer(counting: InPlace, line: bytes) -> bytes:
    what, question = _decode_question(line)
    try:
        counted = _COUNTS[what](counting, question)
    except CountingError as error:
        return json.dumps({"error": error.reason}).encode() + b"\n"
    return json.dumps(asdict(counted)).encode() + b"\n"


def _read_answer(answers: IO[bytes]) -> Sum:
    """EOFError when it is not there, or not all of it."""
    line = answers.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = json.loads(line)
    if "error" in answer:
        raise CountingError(answer["error"])
    return Sum(**answer)


def _encode_question(what: str, question: Question) -> bytes:
    value = question.value
    fields = {
        "what": what,
        "directory": str(question.directory.absolute()),
        "table": question.table,
        "schema": question.schema,
        "name": question.name.decode(),
        "value": {"hex": value.hex()} if isinstance(value, bytes) else value,
        "position": question.position,
        "log_bytes": question.log_bytes,
    }
    return json.dumps(fields).encode() + b"\n"


def _decode_question(line: bytes) -> tuple[str, Question]:
    fields: dict[str, Any] = json.loads(line)
    what: str = fields.pop("what")
    value = fields["value"]
    fields["value"] = bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
    fields["directory"] = Path(fields["directory"])
    fields["name"] = fields["name"].encode()
    return what, Question(**fields)
