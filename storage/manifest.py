"""The CHECKPOINT file: what the store consists of at one log position. Replaced whole, never changed."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage import format as fmt
from storage.errors import DamageError, StartError
from storage.fs import Fs, read_file, write_file_durably

NAME = "CHECKPOINT"
MAGIC = b"KLANICKP"


@dataclass(slots=True)
class TableState:
    number: int
    name: str
    schema: list[list[Any]]
    directories: list[int]  # by their place in the row file
    rows: int
    position: int
    is_owned: bool = False  # some row has a buyer's digest


@dataclass(slots=True)
class Manifest:
    """`position`: records below it are in the row files. `tokens`: none above it was given out.
    `event_files`: their bytes, by name and in their order. `store_ms`: the store's own time."""

    uuid: str
    epoch: int = 0
    position: int = 0
    tokens: int = 0
    next_table: int = 1
    index_file: str = ""
    tables: list[TableState] = field(default_factory=list)
    catalog_position: int = 0
    event_files: dict[str, int] = field(default_factory=dict)
    store_ms: int = 0

    @property
    def uuid_bytes(self) -> bytes:
        return bytes.fromhex(self.uuid)

    @property
    def names(self) -> set[str]:
        """Of the files beside it that it needs."""
        return {self.index_file, *self.event_files}

    def table(self, number: int) -> TableState | None:
        return next((state for state in self.tables if state.number == number), None)

    def save(self, fs: Fs, directory: Path) -> None:
        body = json.dumps(asdict(self), separators=(",", ":")).encode()
        head = b"%b %d %08x\n" % (MAGIC, fmt.FORMAT_VERSION, zlib.crc32(body))
        write_file_durably(fs, directory / NAME, head + body)

    @classmethod
    def load(cls, fs: Fs, directory: Path) -> Manifest:
        path = directory / NAME
        head, _, body = read_file(fs, path).partition(b"\n")
        words = head.split(b" ")
        if len(words) != 3 or words[0] != MAGIC:
            raise DamageError(f"{path}: not a checkpoint: it begins with {head[:16]!r}, not {MAGIC!r}")
        if words[1] != b"%d" % fmt.FORMAT_VERSION:
            raise StartError(
                f"{path}: format version {words[1].decode()}, this program reads {fmt.FORMAT_VERSION}"
            )
        if words[2] != b"%08x" % zlib.crc32(body):
            raise DamageError(f"{path}: checksum is {zlib.crc32(body):08x}, not {words[2].decode()}")
        fields = json.loads(body)
        fields["tables"] = [TableState(**state) for state in fields["tables"]]
        return cls(**fields)
