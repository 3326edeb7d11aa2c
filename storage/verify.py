"""VERIFY: counts the rows that have a value three times, from disk, for one log position P.

(1) The last checkpoint plus the log up to P. (2) A checkpoint at P is made and the row file read whole.
(3) The posting list as it was at P. The cut of the checkpoint is what fixes P; (1) must be at its end before
that checkpoint touches the row file. The counting itself is done elsewhere: see storage.counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyroaring import BitMap

from storage.counting import Counted, Counting, CountingError, Question
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
        """Fixes P: the cut of a checkpoint, and the posting list as it is now."""
        engine, table = self._engine, self._table
        self._checkpoint = engine.begin_checkpoint()
        self.position = self._checkpoint.position
        posting = table.index.find((table.index.columns[self._name],), (self._value,))
        self._posting = BitMap() if posting is None else posting.rows.copy()

    def run(self) -> Verdict | CountingError:
        """The verdict, or why there is none; the checkpoint that was begun is made in either case."""
        question = Question(
            directory=self._engine.directory,
            table=self._table.number,
            schema=self._table.schema.describe(),
            name=self._name,
            value=self._value,
            position=self.position,
        )
        counting = self._counting
        try:
            try:
                from_log = counting.from_log(question)
            finally:
                self._checkpoint.write()
            return self._judge(from_log, counting.from_rows(question))
        except CountingError as error:
            return error
        finally:
            counting.close()

    def _judge(self, from_log: Counted, from_rows: Counted) -> Verdict:
        state = self._checkpoint.manifest.table(self._table.number)
        assert state is not None, "the cut holds the table"
        corrupt = from_log.corrupt | from_rows.corrupt
        agreed = from_log.is_whole and from_log.matched == from_rows.matched == self._posting
        return Verdict(
            rows=from_rows.rows,
            matched=len(from_rows.matched),
            log_matched=len(from_log.matched),
            index_matched=len(self._posting),
            corrupt=len(corrupt),
            ok=agreed and not corrupt and from_rows.rows == state.rows,
        )

    def finish(self, outcome: Verdict | CountingError) -> Verdict:
        self._engine.end_checkpoint(self._checkpoint)
        if isinstance(outcome, CountingError):
            raise outcome
        return outcome
