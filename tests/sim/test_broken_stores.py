"""The world's checks can fail: each of these defects, planted in the real code, is found in some seeds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from storage import checkpoint, locks, row_file
from storage.book import Book
from storage.engine import Engine
from storage.errors import StoreError
from storage.events import Event, decode
from storage.format import SALE_KINDS, Kind
from storage.history import Entry, Record, history
from storage.holds import Hold
from storage.index import Index
from storage.locks import Lease
from storage.offers import Offer
from storage.selling import Selling, Terms
from storage.table import Table
from storage.table_sales import TableSales
from storage.wal import Wal
from tests.fake_disk import FakeDisk
from tests.sim.world import World, WorldError

SEEDS_MAX = 200  # the rarest defect shows in one world of seventy
Patch = pytest.MonkeyPatch
DEFECTS: dict[str, Callable[[Patch], None]] = {}


def defect(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    DEFECTS[plant.__name__.replace("_", " ")] = plant
    return plant


@defect
def replies_before_the_sync(patch: Patch) -> None:
    patch.setattr(Wal, "released", property(lambda wal: wal.written))


@defect
def replies_before_the_write(patch: Patch) -> None:
    patch.setattr(Wal, "released", property(lambda wal: wal.appended))


@defect
def a_sync_counts_for_what_was_written_during_it(patch: Patch) -> None:
    usual = Wal.synced

    def synced(wal: Wal, position: int) -> None:
        usual(wal, position)
        wal.durable = wal.written = wal.appended

    patch.setattr(Wal, "synced", synced)


@defect
def reads_and_refusals_are_not_held(patch: Patch) -> None:
    usual = Engine.seek

    def seek(engine: Engine, *more: Any) -> Any:
        found = usual(engine, *more)
        engine.seen = 0
        return found

    patch.setattr(Engine, "seek", seek)


@defect
def lists_are_not_held(patch: Patch) -> None:
    usual = Engine.listed

    def listed(engine: Engine, *more: Any) -> Any:
        found = usual(engine, *more)
        engine.seen = 0
        return found

    patch.setattr(Engine, "listed", listed)


@defect
def no_token_check(patch: Patch) -> None:
    def any_lease(table: Table, row: int, token: int, now: int) -> Lease | None:
        lease = table.leases.get(row)
        return None if lease is None or lease.deadline <= now else lease

    patch.setattr(locks, "live_lease", any_lease)


@defect
def a_lease_protects_behind_its_end(patch: Patch) -> None:
    def late_lease(table: Table, row: int, token: int, now: int) -> Lease | None:
        lease = table.leases.get(row)
        return None if lease is None or lease.token != token else lease

    patch.setattr(locks, "live_lease", late_lease)


@defect
def a_lease_ends_one_ns_late(patch: Patch) -> None:
    def is_free(table: Table, row: int, now: int) -> bool:
        lease = table.leases.get(row)
        return lease is None or lease.deadline < now

    patch.setattr(locks, "is_free", is_free)


@defect
def locked_rows_are_granted(patch: Patch) -> None:
    patch.setattr(locks, "is_free", lambda table, row, now: True)


@defect
def a_lock_of_the_first_row_only(patch: Patch) -> None:
    usual = locks.grant

    def grant(lease: Lease, now: int) -> None:
        lease.rows = lease.rows[:1]
        usual(lease, now)

    patch.setattr(locks, "grant", grant)


@defect
def owner_is_ignored(patch: Patch) -> None:
    patch.setattr(locks, "resent", lambda keys, owner, now: None)


@defect
def replace_is_not_idempotent(patch: Patch) -> None:
    usual = Engine.replace

    def replace(engine: Engine, table: Table, row: int, token: int, *more: Any) -> None:
        if table.read(row) is not None and locks.live_lease(table, row, token, engine.clock()) is None:
            raise StoreError("NOLOCK")
        usual(engine, table, row, token, *more)

    patch.setattr(Engine, "replace", replace)


@defect
def a_resend_needs_the_token_only(patch: Patch) -> None:
    usual = Engine.replace

    def replace(engine: Engine, table: Table, row: int, token: int, changes: Any, unlock: bool) -> None:
        try:
            usual(engine, table, row, token, changes, unlock)
        except StoreError:
            old = table.read(row)
            if old is None or old[0] < token:
                raise

    patch.setattr(Engine, "replace", replace)


@defect
def unlock_is_forgotten(patch: Patch) -> None:
    usual = Engine.replace

    def replace(engine: Engine, table: Table, row: int, token: int, changes: Any, unlock: bool) -> None:
        usual(engine, table, row, token, changes, False)

    patch.setattr(Engine, "replace", replace)


@defect
def tokens_are_not_set_aside(patch: Patch) -> None:
    def reserve(engine: Engine) -> None:
        engine._tokens_enough = engine.token + (1 << 40)

    patch.setattr(Engine, "reserve_tokens", reserve)


@defect
def directories_are_not_synced(patch: Patch) -> None:
    patch.setattr(FakeDisk, "fsync_directory", lambda disk, path: None)


@defect
def posting_lists_miss_some_changes(patch: Patch) -> None:
    usual = Index.update

    def update(index: Index, row: int, *more: Any) -> None:
        if row % 4:
            usual(index, row, *more)

    patch.setattr(Index, "update", update)


@defect
def blocks_are_not_put_in_place(patch: Patch) -> None:
    def nothing(*_: Any) -> Iterator[None]:
        return iter(())

    patch.setattr(row_file, "put_in_place", nothing)


@defect
def old_log_goes_before_the_checkpoint(patch: Patch) -> None:
    usual = checkpoint.Checkpoint.steps

    def steps(plan: checkpoint.Checkpoint) -> Iterator[None]:
        plan._wal.drop_before(plan.position)
        yield
        yield from usual(plan)

    patch.setattr(checkpoint.Checkpoint, "steps", steps)


@defect
def blocks_have_no_copy(patch: Patch) -> None:
    """Torn blocks are not restored."""
    patch.setattr(row_file, "read_doublewrite", lambda *_: iter(()))


@defect
def a_torn_batch_is_taken_for_whole(patch: Patch) -> None:
    patch.setattr(zlib, "crc32", lambda *_: 0)


@defect
def a_resend_buys_again(patch: Patch) -> None:
    patch.setattr(Selling, "_known", lambda *_: None)


@defect
def other_arguments_get_the_first_answer(patch: Patch) -> None:
    usual = Selling._known

    def known(selling: Selling, table: Table, terms: Terms) -> Any:
        found = table.sales.requests.find(terms.request)
        if found is not None:
            terms.args = found[1]
        return usual(selling, table, terms)

    patch.setattr(Selling, "_known", known)


@defect
def late_payments_are_not_judged(patch: Patch) -> None:
    patch.setattr(Selling, "_gone", lambda *_: [])


@defect
def held_rows_are_sold(patch: Patch) -> None:
    patch.setattr(Offer, "_is_free", lambda *_: True)


@defect
def a_hold_ends_a_ms_early(patch: Patch) -> None:
    usual = Book.deadline_ms
    patch.setattr(Book, "deadline_ms", lambda book, px_ms: usual(book, px_ms) - 1)


@defect
def a_hold_ends_a_second_late(patch: Patch) -> None:
    usual = Book.deadline_ms
    patch.setattr(Book, "deadline_ms", lambda book, px_ms: usual(book, px_ms) + 1000)


@defect
def holds_are_forgotten_at_a_start(patch: Patch) -> None:
    def begin(book: Book, table: Table, event: Event, position: int) -> None:
        if position:  # none of those that a checkpoint keeps
            usual(book, table, event, position)

    usual = Book._begin
    patch.setattr(Book, "_begin", begin)


@defect
def what_is_released_stays_held(patch: Patch) -> None:
    patch.setattr(Book, "_forget", lambda *_: None)


@defect
def held_rows_do_not_count_for_the_most(patch: Patch) -> None:
    patch.setattr(TableSales, "owned", lambda sales, digest: sales.sold.get(digest, 0))


@defect
def a_refund_is_counted_twice(patch: Patch) -> None:
    """What was taken back stays its buyer's, though the row is free."""
    patch.setattr(TableSales, "resold", lambda *_: None)
    usual = Selling._sell

    def sell(
        selling: Selling, table: Table, ids: Any, kind: Any, changes: Any, digest: Any, event: Any
    ) -> None:
        usual(selling, table, ids, kind, changes, None if kind == Kind.RETURN else digest, event)

    patch.setattr(Selling, "_sell", sell)


@defect
def a_refund_takes_from_anybody(patch: Patch) -> None:
    patch.setattr(Selling, "_is_sold_to", lambda *_: True)


@defect
def held_units_are_sold(patch: Patch) -> None:
    patch.setattr(TableSales, "units_left", lambda sales, row, field, table: table.counter(row, field))


@defect
def units_are_sold_below_zero(patch: Patch) -> None:
    """As far as a counter goes: whoever asks for more than there is gets what there is."""
    usual = Offer._matches

    def matches(offer: Offer, row: int) -> bool:
        wanted = offer._wanted
        if wanted.field is None or offer._table.read(row) is None:
            return usual(offer, row)
        wanted.units = min(wanted.units, max(1, offer._table.counter(row, wanted.field)))
        return usual(offer, row)

    patch.setattr(Offer, "_matches", matches)


@defect
def units_that_were_returned_can_be_returned_again(patch: Patch) -> None:
    usual = TableSales.add_units

    def add_units(sales: TableSales, digest: bytes, row: int, field: str, units: int) -> None:
        usual(sales, digest, row, field, max(0, units))

    patch.setattr(TableSales, "add_units", add_units)


@defect
def an_ended_hold_is_listed(patch: Patch) -> None:
    def live_holds(book: Book, table: Table, owner: bytes | None) -> list[Hold]:
        mine = [hold for hold in book.holds.values() if hold.table is table and hold.holder == owner]
        return sorted(mine, key=lambda hold: hold.number)

    patch.setattr(Book, "live_holds", live_holds)


@defect
def a_history_misses_the_last_write(patch: Patch) -> None:
    def rest(*more: Any) -> Iterator[Entry]:
        entries = history(*more)
        newest = next(entries, None)
        following = list(entries)
        yield from following or ([] if newest is None else [newest])

    patch.setattr("commands.history.history", rest)


@defect
def a_history_has_the_owner_of_the_frame_before(patch: Patch) -> None:
    """In a MULTI of two claims each row has the event behind its own."""

    def details(frame: tuple[Record, ...], record: Record) -> tuple[bytes | None, bytes | None]:
        said = next((other for other in frame if other.kind == Kind.EVENT), None)
        event = None if said is None or record.kind not in SALE_KINDS else decode(said.body)
        return (None, None) if event is None else (event.owner or None, event.request or None)

    patch.setattr("commands.history.details_of", details)


@pytest.mark.parametrize("name", DEFECTS)
def test_it_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    DEFECTS[name](monkeypatch)
    for seed in range(SEEDS_MAX):
        try:
            World(seed).run()
        except WorldError as error:
            print(f"found in world {seed}: {str(error).splitlines()[0][:300]}")
            return
    pytest.fail(f"{SEEDS_MAX} worlds do not notice: {name}")
