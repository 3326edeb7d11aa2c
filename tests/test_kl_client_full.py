"""What a server without room answers, through redis-py's pipelines: the helper's exceptions, in its words.

redis-py writes the command before the words of an error in a pipeline, so the first word is no longer first.
The server here is a few scripted replies on a real socket.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
import redis
from redis.exceptions import ExecAbortError, OutOfMemoryError, ResponseError

from klani_resp.client import KL, DiskFull, KLError, RequestReused, RequestsFull, of_kl
from tests.kl_driver import FRONTS, Front

FULL = "MISCONF Errors writing to the log: No space left on device."
OOM = "OOM command not allowed when used memory > 'maxmemory'."
FREE, SOLD = {"is_booked": 0}, {"is_booked": 1}


class Scripted:
    """Answers each command by its name; what is not there, with OK."""

    def __init__(self, answers: dict[bytes, str]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(one,), daemon=True).start()

    def _answer(self, one: socket.socket) -> None:
        reader = hiredis.Reader()
        with one, contextlib.suppress(OSError):
            while data := one.recv(65536):
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    one.sendall(f"{self._answers.get(words[0], '+OK')}\r\n".encode())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def full_server(text: str, at: str) -> Scripted:
    """Refuses when a command is queued, or in its EXEC, or alone."""
    if at == "queued":
        return Scripted({b"KL.CLAIM": f"-{text}", b"EXEC": "-EXECABORT Transaction discarded"})
    if at == "EXEC":
        queued, aborted = "+QUEUED", f"-EXECABORT Transaction discarded because of: {text}"
        return Scripted({b"KL.TABLES": queued, b"KL.CLAIM": queued, b"EXEC": aborted})
    return Scripted({b"KL.CLAIM": f"-{text}", b"KL.TABLES": "*0"})


@pytest.fixture(params=sorted(FRONTS))
def front(request: pytest.FixtureRequest) -> Any:
    return FRONTS[request.param]


@pytest.fixture(params=["queued", "EXEC", "plain"])
def at(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def opened(front: Any, text: str, at: str) -> Iterator[Front]:
    server = full_server(text, at)
    try:
        with front(port=server.port, protocol=2) as kl:
            yield kl
    finally:
        server.close()


@pytest.mark.parametrize("raise_on_error", [True, False])
@pytest.mark.parametrize(
    ("text", "kind"), [(FULL, DiskFull), (OOM, RequestsFull), ("REQUEST used for another", RequestReused)]
)
def test_in_the_helper_s_pipelines(
    front: Any, at: str, text: str, kind: type[KLError], raise_on_error: bool
) -> None:
    with opened(front, text, at) as kl, kl.pipeline(at != "plain") as pipe:
        pipe.tables().claim("seats", FREE, SOLD, request=") of pipeline caused error: x")
        if at == "plain" and not raise_on_error:
            error = pipe.execute(raise_on_error)[1]
        else:
            with pytest.raises(ResponseError) as caught:
                pipe.execute(raise_on_error)
            error = caught.value
            if at != "EXEC":
                assert error.__notes__ == ["answered to KL.CLAIM, command 2 of 2 in the pipeline"]
    assert type(error) is kind
    assert str(error).removeprefix("OOM ") == text.removeprefix("OOM ")


@pytest.mark.parametrize("text", [FULL, OOM])
def test_in_a_pipeline_of_the_caller_s_own(at: str, text: str) -> None:
    server = full_server(text, at)
    try:
        with redis.Redis(port=server.port, protocol=2) as client, client.pipeline(at != "plain") as pipe:
            KL(pipe).claim("seats", FREE, SOLD)
            with pytest.raises(ResponseError) as caught:
                pipe.execute()
    finally:
        server.close()
    own = of_kl(caught.value)
    assert type(own) is (DiskFull if text is FULL else RequestsFull)
    assert str(own).removeprefix("OOM ") == text.removeprefix("OOM ")


def test_what_has_no_class_of_ours_stays() -> None:
    wrong = ResponseError("Command # 1 (KL.SEEK 1) of pipeline caused error: unknown table 'x'")
    aborted = ExecAbortError("Transaction discarded because of previous errors.")
    assert of_kl(wrong) is wrong
    assert of_kl(aborted) is aborted
    assert isinstance(of_kl(OutOfMemoryError("no room")), OutOfMemoryError)
