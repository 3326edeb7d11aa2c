"""What clients were told, held against the store: in linear time, and without the model.

1. No acknowledged sale is lost, and no seat is sold twice. 2. The writes of each row form one path that
ends at what is stored (tests.sim.paths). 3. Tokens never fall or repeat. 4. Rows that are only written
together are equal: all or nothing. 5. What was inserted and acknowledged is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sim.commands import Command, Fields, Multi, Replace, makes_hold, token_of
from tests.sim.paths import Path

Shown = dict[int, Fields]


class Book:
    def __init__(self) -> None:
        self.sales: dict[int, bytes] = {}  # seat -> the sale that its buyer was told of
        self.paths: dict[int, Path] = {}
        self.twins: list[tuple[int, int]] = []
        self.inserted: dict[int, bytes] = {}
        self.token = 0  # the highest that anyone was told
        self._attempts: dict[int, object] = {}
        self._refuted: list[str] = []
        self._deadlines: dict[int, list[int]] = {}  # that were told of each hold

    def sold(self, row: int, sale: bytes) -> None:
        if self.sales.setdefault(row, sale) != sale:
            self._refuted.append(f"seat {row} was sold twice: {self.sales[row]!r} and {sale!r}")

    def sent(self, write: Replace) -> None:
        self._path(write.row).sent(write.token, write.fields[2])

    def written(self, write: Replace) -> None:
        self._path(write.row).answered(write.token, write.fields[2])

    def _path(self, row: int) -> Path:
        return self.paths.setdefault(row, Path())

    def was_inserted(self, row: int, note: bytes) -> None:
        if self.inserted.setdefault(row, note) != note:
            self._refuted.append(f"row {row} was inserted as {self.inserted[row]!r} and as {note!r}")

    def told(self, token: int, attempt: object, above: int) -> None:
        """`above` is what had been told of when the attempt was sent; only a resend by OWNER may be below."""
        if self._attempts.setdefault(token, attempt) != attempt:
            self._refuted.append(f"token {token} was given to two attempts")
        elif token > self.token:
            self.token = token
        elif token <= above and not isinstance(attempt, bytes):
            self._refuted.append(
                f"token {token} does not rise: {above} was given out before it was asked for"
            )

    def with_plain_deadlines(self, command: Command, reply: Any) -> Any:
        """A hold's deadline is by this machine's clock: here it is the how-manieth that its token was told
        with, so that a seed stays one world."""
        if isinstance(command, Multi) and isinstance(reply, tuple):
            return tuple(map(self.with_plain_deadlines, command.parts, reply))
        token = token_of(command, reply)
        if not makes_hold(command) or token is None:
            return reply
        told = self._deadlines.setdefault(token, [])
        if reply[2] not in told:
            told.append(reply[2])
        return (token, reply[1], told.index(reply[2]))

    def troubles(self, shown: Shown) -> Iterator[str]:
        yield from self._refuted
        for row, sale in self.sales.items():
            state, _, _, note = shown.get(row, (0, 0, 0, b""))
            if (state, note) != (1, sale):
                yield f"sale {sale!r} of seat {row} was acknowledged, stored is {shown.get(row)}"
        for row, path in self.paths.items():
            stored = shown[row][1] if row in shown else 0
            yield from (f"row {row}: {trouble}" for trouble in path.troubles(stored))
        for one, other in self.twins:
            if shown.get(one) != shown.get(other):
                yield f"rows {one} and {other} were written as one, are {shown.get(one)}, {shown.get(other)}"
        for row, note in self.inserted.items():
            if row not in shown or shown[row][3] != note:
                yield f"row {row} was inserted with {note!r}, stored is {shown.get(row)}"
