"""VERIFY: counts the rows that have a value three times, from disk, for one log position P.

(1) The last checkpoint plus the log up to P. (2) A checkpoint at P is made and the row file read whole.
(3) The posting list of the checkpoint's index file. The cut of the checkpoint is what fixes P; (1) must be at
its end before that checkpoint touches the row file. The counting itself is done elsewhere: storage.counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.counting import Counting, CountingError, Question, Sum
from storage.errors import StoreError
from storage.fs import is_full
from storage.schema import Value
from storage.table import Table

if TYPE_CHECKING:
    from storage.engine import Engine


@dataclass(frozen=True, slots=True)
class Verdict:
    rows: int
    matched: int
    log_matched: int
    index_matched: int
    corrupt: int
    ok: bool


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """Why there is none. A value, for whatever `run` came to, `finish` must be called."""

    error: CountingError | OSError


class Verification:
    """One KL.VERIFY: `start` and `finish` on the loop, `run` beside it once `position` is durable."""

    def __init__(self, engine: Engine, table: Table, name: bytes, value: Value, counting: Counting) -> None:
        self._engine = engine
        self._table = table
        self._name = name
        self._value = value
        self._counting = counting
        self.position = 0

    def start(self) -> None:
        """Fixes P: the cut of a checkpoint."""
        self._checkpoint = self._engine.begin_checkpoint()
        self.position = self._checkpoint.position

    def run(self) -> Verdict | NoVerdict:
        """The verdict, or why there is none: the checkpoint that was begun is made, or the disk is full."""
        question = Question(
            directory=self._engine.directory,
            table=self._table.number,
            schema=self._table.schema.describe(),
            name=self._name,
            value=self._value,
            position=self.position,
            log_bytes=self._engine.wal.disk_bytes,
        )
        counting = self._counting
        try:
            try:
                from_log = counting.from_log(question)
            finally:
                self._checkpoint.write()
            return self._judge(from_log, counting.from_rows(question), counting.from_index(question))
        except CountingError as error:
            return NoVerdict(error)
        except OSError as error:
            if not is_full(error):
                raise
            return NoVerdict(error)
        finally:
            counting.close()

    def _judge(self, from_log: Sum, from_rows: Sum, from_index: Sum) -> Verdict:
        state = self._checkpoint.manifest.table(self._table.number)
        assert state is not None, "the cut holds the table"
        corrupt = {*from_log.corrupt, *from_rows.corrupt}
        agreed = from_log.digest == from_rows.digest == from_index.digest
        agreed = agreed and from_log.is_whole and from_index.is_whole
        return Verdict(
            rows=from_rows.rows,
            matched=from_rows.matched,
            log_matched=from_log.matched,
            index_matched=from_index.matched,
            corrupt=len(corrupt),
            ok=agreed and not corrupt and from_rows.rows == state.rows == from_index.rows,
        )

    def finish(self, outcome: Verdict | NoVerdict) -> Verdict:
        engine = self._engine
        if isinstance(outcome, Verdict):
            engine.end_checkpoint(self._checkpoint)
            return outcome
        error = outcome.error
        if isinstance(error, CountingError):
            engine.end_checkpoint(self._checkpoint)
            raise error
        engine.miss_checkpoint(self._checkpoint, error)
        assert engine.readonly_reason is not None
        raise StoreError(engine.readonly_reason)
