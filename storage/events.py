"""What selling did beyond rows: one event per command, in the log behind the rows that the command wrote.

An event and its rows are one frame, so a claim and the memory of its REQUEST are there together or not at
all. The same events, without their rows, are kept in files between checkpoints: storage.event_files.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from storage import format as fmt
from storage.errors import DamageError

Criteria = dict[str, int | bytes]  # field names to values, as they were asked for


class Verb(IntEnum):
    CLAIM = 1
    HOLD = 2
    CONFIRM = 3
    RELEASE = 4
    EXTEND = 5
    RETURN = 6
    # Of events that were put together, when checkpoints' files were:
    OWNED = 7  # units that an owner has of a counter
    ANSWERED = 8  # a request's answer, and nothing else any more
    PASSED = 9  # nothing but how far time had come when a hold was first seen to be over


_SHORT = {
    "verb": "v",
    "table": "t",
    "at": "a",
    "token": "k",
    "rows": "r",
    "owner": "o",
    "deadline": "d",
    "criteria": "c",
    "field": "f",
    "units": "u",
    "replacing": "x",
    "request": "q",
    "args": "g",
    "answer": "w",
}


class Event(msgspec.Struct, omit_defaults=True, rename=_SHORT, gc=False):
    """`at` and `deadline` are ms of the store's own time, which stands still while no server runs.

    `token` is the hold's, also in what ends it. `rows` are those that were taken, held, sold or given back;
    `field` and `units` say how much of a counter instead. `answer` is the reply of a command that bore a
    `request` (msgpack), `args` the digest of what was asked with it, for CONFIRM of its SET. OWNED has the
    owner's digest in `owner`.
    """

    verb: int
    table: int
    at: int = 0
    token: int = 0
    rows: tuple[int, ...] = ()
    owner: bytes = b""
    deadline: int = 0
    criteria: Criteria = {}
    field: str = ""
    units: int = 0
    replacing: int = 0
    request: bytes = b""
    args: bytes = b""
    answer: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    return _encoder.encode(event)


def decode(data: bytes | bytearray | memoryview) -> Event:
    """Raises DamageError when it is none."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise DamageError(f"an event of the log cannot be read: {error}") from error


def record_of(table: int, body: bytes) -> bytes:
    """The log record that carries an encoded event."""
    return fmt.RECORD.pack(fmt.RECORD.size + len(body), fmt.Kind.EVENT, 0, table, 0, 0) + body
