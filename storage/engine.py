"""What a command may call. A second implementation (the same rows in another database) would offer the same.

Every method runs to its end in one step: it checks, then applies and logs, and nothing waits in between.
What a reply shows is noted as a log position (`note`); whoever sends the reply holds it until `released`
has come that far, so nothing is seen that a crash could take back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from storage import format as fmt
from storage import locks
from storage.archive import Archive
from storage.ballast import Ballast
from storage.errors import StoreError, no_row
from storage.free import lowest_free
from storage.fs import Fs
from storage.index import Posting
from storage.manifest import Manifest
from storage.requests import BYTES_MAX, KEEP_NS
from storage.schema import TABLE_NAME, RowShape, Schema, Value
from storage.selling import Selling
from storage.table import Table
from storage.upkeep import Upkeep
from storage.wal import SEGMENT_BYTES, Wal

RECORD_HEAD_BYTES = fmt.RECORD.size
TABLES_MAX = 1024  # at a time
TABLE_NUMBER_MAX = 0xFFFF  # a record has 16 bits for it, and none is used again
_INSERT, _REPLACE = 4, 5  # of fmt.Kind, without an enum's look-ups


@dataclass(frozen=True, slots=True)
class EngineOptions:
    default_table: bytes = b"seats"
    appendfsync: str = "always"
    lease_ms: int = 10_000
    checkpoint_bytes: int = 64 << 20
    segment_bytes: int = SEGMENT_BYTES
    ballast_bytes: int = 0
    remembered_ns: int = KEEP_NS  # requests, and holds that ended
    remembered_bytes_max: int = BYTES_MAX
    history_keep_days: float = 7.0
    history_bytes_max: int = 1 << 30


class Engine(Upkeep):
    def __init__(
        self,
        fs: Fs,
        directory: Path,
        manifest: Manifest,
        tables: list[Table],
        wal: Wal,
        ballast: Ballast,
        archive: Archive,
        options: EngineOptions,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(fs, directory, manifest, wal, ballast, archive)
        self.options = options
        self.clock = self._running_clock = clock
        self.tables = {table.name: table for table in tables}
        self.by_number = {table.number: table for table in tables}
        self.default_table = options.default_table
        # What a key may bear before its id, and the table of a key that is an id alone.
        self.keyed: dict[bytes, Table] = {}
        self.default: Table | None = None
        self.selling = Selling(self, options.remembered_bytes_max, options.remembered_ns)
        for table in tables:
            self.selling.adopt(table)
        self._note_names()
        self.next_table = manifest.next_table
        self.released = wal.durable
        self.seen = 0
        self.token = manifest.tokens  # the last one given out
        self.tokens_reserved = manifest.tokens
        self._tokens_enough = manifest.tokens  # a token above it wants more set aside
        self._token_position = 0
        self.catalog_position = manifest.catalog_position
        self.dropped: list[Table] = []  # whose memory is still to be freed: storage.dismantle

    def change(self, options: EngineOptions) -> None:
        """Other limits and terms from here on. What is fixed at a start stays as it was."""
        lease_ms, checkpoint_bytes = options.lease_ms, options.checkpoint_bytes
        self.options = replace(self.options, lease_ms=lease_ms, checkpoint_bytes=checkpoint_bytes)
        memory = self.selling.memory
        memory.bytes_max, memory.keep_ns = options.remembered_bytes_max, options.remembered_ns
        self.archive.limit(keep_days=options.history_keep_days, bytes_max=options.history_bytes_max)

    # --- positions ------------------------------------------------------------------------------------

    @property
    def appended(self) -> int:
        return self.wal.appended

    @property
    def durable(self) -> int:
        return self.wal.durable

    def note(self, position: int) -> None:
        """The reply being made shows the state at `position`."""
        if position > self.seen:
            self.seen = position

    def released_to(self, position: int) -> None:
        if position > self.released:
            self.released = position

    def begin(self) -> None:
        """Commands from here to `commit` take effect as one, by one moment: no lease ends between them."""
        self.wal.begin()
        now, self._running_clock = self.clock(), self.clock
        self.clock = lambda: now

    def commit(self) -> None:
        self.clock = self._running_clock
        self.wal.end()

    @property
    def checkpoint_due(self) -> bool:
        """By the bytes of the records, or of the files: a commit of one record takes seven times its own, and
        a start reads them all."""
        limit = self.options.checkpoint_bytes
        on_disk = (len(self.wal.segments) - 1) * self.options.segment_bytes
        return self.wal.appended - self.checkpoint_position >= limit or on_disk >= 2 * limit

    # --- tokens ---------------------------------------------------------------------------------------

    def draw_token(self) -> int:
        """The next fencing token. Replies that show one wait for the record that set its range aside."""
        token = self.token + 1
        if token > self._tokens_enough:
            if token > fmt.TOKEN_MAX:
                raise StoreError("ERR the fencing tokens are used up")
            self.reserve_tokens()
        self.token = token
        if self._token_position > self.seen:
            self.seen = self._token_position
        return token

    def reserve_tokens(self) -> None:
        """Sets a range of tokens aside in the log, half a range before it is needed."""
        self.tokens_reserved = min(self.token + fmt.TOKENS_RESERVED, fmt.TOKEN_MAX)
        self._tokens_enough = self.tokens_reserved - fmt.TOKENS_RESERVED // 2
        self.wal.append(fmt.RECORD.pack(fmt.RECORD.size, fmt.Kind.RESERVE, 0, 0, 0, self.tokens_reserved))
        self._token_position = self.wal.appended

    # --- tables ---------------------------------------------------------------------------------------

    def table(self, name: bytes) -> Table:
        found = self.tables.get(name)
        if found is None:
            raise StoreError(f"ERR unknown table '{name[:128].decode('ascii', 'backslashreplace')}'")
        return found

    def create(self, name: bytes, schema: Schema, if_not_exists: bool) -> None:
        if not TABLE_NAME.fullmatch(name):
            raise StoreError(f"ERR invalid table name '{name[:128].decode('ascii', 'backslashreplace')}'")
        existing = self.tables.get(name)
        if existing is not None:
            if if_not_exists and existing.schema.describe() == schema.describe():
                return
            raise StoreError(f"EXISTS table '{name.decode()}' exists")
        if len(self.tables) >= TABLES_MAX:
            raise StoreError(f"ERR too many tables, at most {TABLES_MAX}")
        if self.next_table > TABLE_NUMBER_MAX:
            raise StoreError(f"ERR a store makes {TABLE_NUMBER_MAX} tables in its life: all are used up")
        number = self.next_table
        body = json.dumps({"name": name.decode(), "schema": schema.describe()}).encode()
        self._append_catalog(fmt.Kind.CREATE, number, body)
        self.add_table(Table(number, name, schema))

    def drop(self, name: bytes) -> int:
        table = self.tables.get(name)
        if table is None:
            return 0
        self._append_catalog(fmt.Kind.DROP, table.number, b"")
        self.remove_table(table)
        return 1

    def _append_catalog(self, kind: fmt.Kind, number: int, body: bytes) -> None:
        self.wal.append(fmt.RECORD.pack(fmt.RECORD.size + len(body), kind, 0, number, 0, 0) + body)
        self.catalog_position = self.wal.appended

    def add_table(self, table: Table) -> None:
        self.selling.adopt(table)
        self.tables[table.name] = table
        self.by_number[table.number] = table
        self.next_table = max(self.next_table, table.number + 1)
        self._note_names()

    def remove_table(self, table: Table) -> None:
        del self.tables[table.name]
        del self.by_number[table.number]
        self._note_names()
        for lease in table.leases.values():
            if len(lease.rows) > 1:  # it may lock rows of other tables, too
                lease.rows = tuple(key for key in lease.rows if key[0] is not table)
        self.selling.forget_table(table)
        self.dropped.append(table)

    def _note_names(self) -> None:
        self.default = self.tables.get(self.default_table)
        self.keyed = dict(self.tables)
        self.keyed |= {b"{%b}" % name: table for name, table in self.tables.items()}

    # --- rows -----------------------------------------------------------------------------------------

    def seek(self, table: Table, row: int, shape: RowShape) -> tuple[RowShape, tuple[Any, ...]] | None:
        """The shape and its template's values; None where there is no row."""
        values = table.read(row)
        if values is None:
            self.note(self.catalog_position)
            return None
        position = values[1]
        if position > self.released and position > self.seen:
            self.seen = position
        if shape.has_bytes:
            values = table.schema.trim(values)
        return shape, shape.pick(values)

    def insert(self, table: Table, row: int, changes: dict[bytes, Value]) -> int:
        """1 when the row is now there with these contents, written or found so; StoreError `EXISTS` else."""
        schema = table.schema
        fields = schema.empty.copy()
        schema.assign(fields, changes)
        old = table.read(row)
        if old is not None:
            self.note(old[1])
            if schema.trim(old)[3:] != tuple(fields[3:]):
                raise StoreError(f"EXISTS row {table.name.decode()}:{row} exists with other contents")
            return 1
        fields[0] = self.draw_token()
        self.write(table, row, _INSERT, None, fields)
        return 1

    def replace(self, table: Table, row: int, token: int, changes: dict[bytes, Value], unlock: bool) -> None:
        """Writes the row under its lock, or finds that this very write was done already; else `NOLOCK`."""
        old = table.read(row)
        if old is None:
            raise no_row(table.name, row)
        schema = table.schema
        if schema.bytes_columns:
            old = schema.trim(old)
        fields = [*old]
        schema.assign(fields, changes)
        lease = locks.live_lease(table, row, token, self.clock())
        if lease is None:
            self.note(old[1])
            if old[0] == token and tuple(fields) == old:
                return
            raise StoreError(f"NOLOCK token {token} holds no lock on {table.name.decode()}:{row}")
        if schema.counters:
            self.selling.refuse_counters(table, row, changes, old, token)
        fields[0] = token
        self.write(table, row, _REPLACE, old, fields)
        table.tally.replaced_rows += 1
        if unlock:
            locks.release(table, row, lease)

    def write(
        self, table: Table, row: int, kind: int, old: tuple[Any, ...] | None, fields: list[Any]
    ) -> None:
        """Logs and applies a row's new contents, its token in place. Nothing after the append can fail."""
        wal = self.wal
        length = table.record_bytes
        position = fields[1] = wal.appended + length
        if old is None:
            previous = 0
            if row >> 16 not in table.rows.directories:
                table.rows.add_directory(row >> 16)
        else:
            previous = old[1]
        record = table.pack(length, kind, 0, table.number, row, previous, *fields)
        wal.append(record)
        table.apply(row, old, fields, record[RECORD_HEAD_BYTES:])
        if position > self.seen:
            self.seen = position

    # --- locks ----------------------------------------------------------------------------------------

    def try_lock(
        self, keys: tuple[locks.RowKey, ...], lease_ms: int | None, owner: bytes | None
    ) -> int | None:
        """One lease over all the rows, or None when any is taken. A row given twice counts once."""
        if len(keys) > 1:
            keys = tuple(dict.fromkeys(keys))
        for table, row in keys:
            values = table.read(row)
            if values is None:
                raise no_row(table.name, row)
            if values[1] > self.released:
                self.note(values[1])
        now = self.clock()
        deadline = now + (lease_ms or self.options.lease_ms) * 1_000_000
        if owner is not None:
            known = locks.resent(keys, owner, now)
            if known is not None:
                known.deadline = deadline
                self.note(self._token_position)
                return known.token
        for table, row in keys:
            if row in table.leases:
                self.selling.expire()  # else nobody has it: an end that was seen is written down
            self.note(table.sales.position)
            if not locks.is_free(table, row, now):
                table.tally.locks_refused += 1
                return None
        token = self.draw_token()
        locks.grant(locks.Lease(token, deadline, owner, keys), now)
        return token

    def unlock(self, keys: list[locks.RowKey], token: int) -> int:
        if self.catalog_position > self.released:
            self.note(self.catalog_position)  # even 0 says that the tables are there
        now = self.clock()
        count = 0
        for table, row in keys:
            lease = locks.live_lease(table, row, token, now)
            if lease is not None:
                locks.release(table, row, lease)
                count += 1
        return count

    # --- questions ------------------------------------------------------------------------------------

    def posting(self, table: Table, criteria: dict[bytes, Value]) -> Posting | None:
        """The list of rows that have all these values; notes what the answer depends on."""
        columns = table.index.columns
        pairs = []
        for name, value in criteria.items():
            column = columns.get(name)
            if column is None:
                column = self.require_indexed(table, name)
            pairs.append((column, value))
        if len(pairs) > 1:
            pairs.sort()
        found = table.index.find(tuple([c for c, _ in pairs]), tuple([v for _, v in pairs]))
        position = self.catalog_position if found is None else found.position
        if position > self.released:
            self.note(position)
        return found

    def require_indexed(self, table: Table, name: bytes) -> int:
        """The field's column."""
        table.schema.field(name)
        column = table.index.columns.get(name)
        if column is None:
            raise StoreError(f"ERR field '{name.decode()}' is not indexed")
        return column

    def intersect(
        self, table: Table, criteria: dict[bytes, Value], limit: int, after: int | None, free: bool
    ) -> list[int]:
        """`posting` and `listed` in one."""
        return self.listed(table, self.posting(table, criteria), limit, after, free)

    def listed(
        self, table: Table, posting: Posting | None, limit: int, after: int | None, free: bool
    ) -> list[int]:
        """A list's ids, ascending, above `after`; `limit` 0 is all; `free` leaves out what is locked now."""
        if posting is None:
            self.note(self.catalog_position)
            return []
        position = posting.position
        if position > self.released and position > self.seen:
            self.seen = position
        if not posting.rows or after == fmt.ROW_ID_MAX:
            return []
        ids: Iterator[int] = (
            iter(posting.rows) if after is None else posting.rows.iter_equal_or_larger(after + 1)
        )
        if free:
            self.selling.settle(table)
        if free and table.leases:
            now = self.clock()
            if limit and after is None:
                return lowest_free(
                    posting.rows, limit, lambda row: locks.is_free(table, row, now), table.sales.held
                )
            ids = (row for row in ids if locks.is_free(table, row, now))
        return list(islice(ids, limit) if limit else ids)

    def count(self, table: Table, criteria: dict[bytes, Value], free: bool) -> int:
        posting = self.posting(table, criteria)
        if posting is None:
            return 0
        total = len(posting.rows)
        if free:
            self.selling.settle(table)
            total -= sum(1 for row in locks.taken(table, self.clock()) if row in posting.rows)
        return total
