"""What the store refuses, in words fit to show: the first word is the error's name on the wire."""

from __future__ import annotations


class StoreError(Exception):
    """A refusal; nothing was changed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class StartError(StoreError):
    """The directory cannot be served: it is in use, of another format, or damaged."""


class DamageError(StartError):
    """Acknowledged data is damaged. Names the file, the offset and the log position."""


def no_hold(token: int) -> StoreError:
    return StoreError(f"NOHOLD token {token} is no live hold")


def no_row(table: bytes, row: int) -> StoreError:
    return StoreError(f"NOROW no row {table.decode()}:{row}")
