"""EXEC's work: what was queued is done in one step, and its replies become one.

Nobody else is served meanwhile, and all of it is in memory until it is sent. So what is read in one EXEC has
a budget: `transaction_bytes_max` of replies, and `transaction_read_ms_max` of the loop's time (10,000 long
answers came to 1.2 GB and 7 s). Once it is used up, whatever does not write rows is refused in place of its
reply, and not run. What writes is done whatever was read before it, and its replies are small. Its own
budget is `transaction_bytes_max` of log: all that one EXEC writes is one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING

from commands.spec import CommandError, Job
from klani_resp.config import Config
from klani_resp.protocol.encoder import ID_BYTES_MAX, array_head, ids_part
from klani_resp.protocol.errors import error_reply
from klani_resp.protocol.parser import Request
from storage.format import BATCH_PAYLOAD_MAX

if TYPE_CHECKING:
    from klani_resp.sessions.dispatcher import Dispatcher
    from storage.engine import Engine

NOT_DONE = "ERR %s of this transaction is used up: from here on only what writes rows is done"
TOO_LONG = NOT_DONE % "transaction_bytes_max of replies"
TOO_MUCH_WRITTEN = error_reply(
    "ERR transaction_bytes_max of log of this transaction is used up: from here on nothing is written"
)
TOO_SLOW = NOT_DONE % "transaction_read_ms_max of reading"


class Execution:
    """One EXEC, while it is under way."""

    def __init__(self, config: Config, dispatcher: Dispatcher, engine: Engine) -> None:
        self._dispatcher = dispatcher
        self._engine = engine
        self._log_end = engine.appended + min(config.transaction_bytes_max, BATCH_PAYLOAD_MAX // 2)
        self._refusal = b""  # of what does not write, once the budget is used up
        self._bytes_left = config.transaction_bytes_max
        self._ns_max = self._ns_left = config.transaction_read_ms_max * 1_000_000
        self._cpu_began = thread_time_ns()

    def run(self, queue: list[Request], run: Callable[[Request], bytes]) -> bytes:
        writing, engine = self._dispatcher.writing, self._engine
        replies = [array_head(len(queue))]
        before = perf_counter_ns()
        for argv in queue:
            writes = argv[0].upper() in writing
            if writes and engine.appended > self._log_end:
                reply = self._dispatcher.reject(argv, TOO_MUCH_WRITTEN)
            elif not writes and (self._bytes_left < 0 or self._ns_left < 0) and self._is_used_up():
                reply = self._dispatcher.reject(argv, self._refusal)
            else:
                reply = run(argv)
            now = perf_counter_ns()
            if not writes:
                self._ns_left -= now - before
            before = now
            self._bytes_left -= len(reply)
            replies.append(reply)
        return b"".join(replies)

    def _is_used_up(self) -> bool:
        """Not by a time in which the process was only kept waiting: that is nobody's reading."""
        if not self._refusal:
            if self._bytes_left < 0:
                self._refusal = error_reply(TOO_LONG)
            elif thread_time_ns() - self._cpu_began > self._ns_max:
                self._refusal = error_reply(TOO_SLOW)
        return bool(self._refusal)

    def at_once(self, job: Job) -> bytes:
        """A long array, all of its slices; its length is known before it is made."""
        assert job.slices is not None
        if job.count * ID_BYTES_MAX > self._bytes_left:
            raise CommandError(TOO_LONG)
        return b"".join([array_head(job.count), *map(ids_part, job.slices)])
