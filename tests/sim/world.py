"""A simulated world: clients, network, server process, disk and clock in one thread, all drawn from one seed.

Each step the seed picks who is next: a client, bytes on their way (whole or cut anywhere), the end of a turn,
of a sync, of a change of segment, some steps of a checkpoint, the clock, a connection that breaks, a client
that times out or vanishes, and death: of the process or of the power, at once or inside one of the next calls
of the disk, be it in a commit, a checkpoint or a start. Behind each death the clients' book is held against
the store, and the rows are read into the histories that the linearizability checker judges at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from klani_resp.app import App
from storage.check import check
from storage.manifest import NAME as MANIFEST_NAME
from tests.conftest import frame
from tests.fake_disk import Crash as DiskCrash
from tests.fake_disk import FakeDisk
from tests.sim.book import Book, Shown
from tests.sim.client import Client
from tests.sim.commands import (
    FIELDS,
    TABLES,
    Command,
    Crash,
    Insert,
    Seek,
    request,
)
from tests.sim.counts import Counts
from tests.sim.groups import Group, make_groups
from tests.sim.history import History, Op
from tests.sim.linearize import Verdict, judge
from tests.sim.process import CONFIG, Link, Process
from tests.store import DIRECTORY, FakeClock, assert_sound

CLIENTS_MAX = 8
DEATHS_MAX = 4
STEPS_MAX = 6_000


class WorldError(AssertionError):
    """What was promised does not hold; the text names the seed and how to play it again."""


class World:
    def __init__(self, seed: int, make_process: Callable[..., Process] = Process) -> None:
        self.seed = seed
        self.random = random = Random(f"world {seed}")
        self.make_process = make_process
        self.clock = FakeClock()
        self.book = Book()
        self.counts = Counts(worlds=1)
        self.moment = 0.0
        self.disk = FakeDisk()
        self.groups = make_groups(random)
        self.book.twins = [group.rows for group in self.groups if group.kind == "twins"]  # type: ignore[misc]
        self._app = App(CONFIG)  # what is compiled into it is the same for each process
        self.process = self.make_process(self._app, self.disk, self.clock, random)
        self._furnish()
        self.clients = [Client(number, self) for number in range(random.randint(2, CLIENTS_MAX))]
        self._orphans: list[Link] = []  # whose clients are gone, and whose bytes are still on their way
        self._deaths = random.choice((1, 2, DEATHS_MAX, DEATHS_MAX))
        self._dies_in_sync = False  # the next time that the log has something which is not synced
        self._actions, self._weights = self._mood()

    def _mood(self) -> tuple[list[Callable[[], None]], list[float]]:
        """How often each thing happens, in this world."""
        random = self.random
        weights: dict[Callable[[], None], float] = {
            self._client_acts: 10,
            self._request_arrives: 10,
            self._reply_arrives: 10,
            self._turn_ends: random.choice((1, 3, 10)),
            self._sync_ends: random.choice((0.3, 1, 4)),
            self._segment_begins: random.choice((0.5, 4)),
            self._checkpoint_advances: random.choice((0, 0.3, 3)),
            self._clock_moves: random.choice((0, 0.5, 3)),
            self._link_breaks: random.choice((0, 0.05, 0.3)),
            self._client_times_out: random.choice((0, 0.05, 0.5)),
            self._client_vanishes: random.choice((0, 0.03, 0.1)),
            self._death_comes: 0.06,
        }
        total, cumulative = 0.0, []
        for weight in weights.values():
            total += weight
            cumulative.append(total)
        return list(weights), cumulative

    def _furnish(self) -> None:
        """The table and its rows, before anything goes wrong."""
        link = self.process.connect()
        for table, schema in TABLES.items():
            link.inbox += frame(b"KL.CREATE", table, b"SCHEMA", *schema)
        for group in self.groups:
            if group.kind != "fresh":
                for row in group.rows:
                    link.inbox += request(Insert(row, group.first_fields))
        self.process.receive(link, len(link.inbox))
        self.process.settle()
        self.process.close(link)

    # --- what clients ask of it -----------------------------------------------------------------------

    def next_moment(self) -> float:
        self.moment += 1
        return self.moment

    def called(self, client: int, command: Command, history: History) -> Op:
        op = Op(client, command, self.next_moment(), self.clock.now)
        history.ops.append(op)
        return op

    def is_full(self, history: History) -> bool:
        return len(history.ops) >= history.room

    def busy_group(self) -> Group | None:
        """Mostly one of the first two that have room: they are where everybody is."""
        left = [group for group in self.groups if len(group.history.ops) < group.history.room - 8]
        if not left:
            return None
        return self.random.choice(left[:2] if self.random.random() < 0.8 else left)

    # --- steps ----------------------------------------------------------------------------------------

    def run(self) -> Counts:
        try:
            self._run()
        except BaseException as error:
            raise WorldError(
                f"world {self.seed}, moment {self.moment:g}: {error}\n"
                f"replay: python -m tests.sim --seed {self.seed}"
            ) from error
        return self.counts

    def _run(self) -> None:
        random, actions, weights = self.random, self._actions, self._weights
        for _ in range(STEPS_MAX):
            action = random.choices(actions, cum_weights=weights)[0]
            try:
                action()
            except DiskCrash:
                self._die(inside=True)
            if all(client.is_done for client in self.clients):
                break
        self.disk.fail_at = 0
        self.counts.sales = len(self.book.sales)
        self._end()

    def _end(self) -> None:
        """One last death, of the power, and a clean stop behind it."""
        self._die(inside=False)
        self._stop_cleanly()
        for group in self.groups:
            self._judge(group)

    def _judge(self, group: Group) -> None:
        history, counts = group.history, self.counts
        assert len(history.ops) <= 100, len(history.ops)
        judgement = judge(history.ops, group.start())
        counts.count(history.ops)
        counts.steps_most = max(counts.steps_most, judgement.steps)
        if judgement.verdict is Verdict.UNKNOWN:
            counts.unknown += 1
        if judgement.verdict is Verdict.WRONG:
            raise AssertionError(f"history of {history}\n{judgement}")

    def _some(self, clients: list[Client]) -> Client | None:
        return self.random.choice(clients) if clients else None

    def _client_acts(self) -> None:
        client = self._some([client for client in self.clients if client.op is None])
        if client is not None:
            client.act()

    def _part(self, buffer: bytearray) -> int:
        return len(buffer) if self.random.random() < 0.8 else self.random.randint(0, len(buffer))

    def _request_arrives(self) -> None:
        if self._orphans and self.random.random() < 0.3:
            link = self.random.choice(self._orphans)
            self.process.receive(link, self._part(link.inbox))
            if not link.is_open:
                self._orphans.remove(link)
                self._ended(link)
            return
        client = self._some([c for c in self.clients if c.link is not None and c.link.inbox])
        if client is not None and client.link is not None:
            self.process.receive(client.link, self._part(client.link.inbox))

    def _reply_arrives(self) -> None:
        client = self._some([c for c in self.clients if c.link is not None and c.link.outbox])
        if client is not None and client.link is not None:
            client.receive(self._part(client.link.outbox))

    def _turn_ends(self) -> None:
        if self.process.is_turn_open:
            self.process.end_turn()

    def _sync_ends(self) -> None:
        if self.process.syncer.is_running:
            if self._dies_in_sync and not self.process.syncer.is_synced:
                if self.random.random() < 0.3:
                    raise DiskCrash
                return  # a slow sync: more is asked meanwhile
            self.process.end_sync()

    def _segment_begins(self) -> None:
        if self.process.is_rolling:
            self.process.end_roll()

    def _checkpoint_advances(self) -> None:
        before = self.process.engine.checkpoints
        self.process.advance_checkpoint(self.random.choice((1, 3, 20)))
        self.counts.checkpoints += self.process.engine.checkpoints - before

    def _clock_moves(self) -> None:
        """Some ms; or to the very end of a lease and one ns to either side; or the machine was suspended."""
        random, clock = self.random, self.clock
        kind = random.random()
        if kind < 0.6:
            clock.now += random.randrange(3_000_000)
            return
        if kind > 0.95:
            clock.now += random.randrange(7 * 86_400) * 1_000_000_000
            return
        tables = self.process.engine.tables
        ends = sorted({lease.deadline for name in TABLES for lease in tables[name].leases.values()})
        if ends:
            clock.now = max(clock.now, random.choice(ends) + random.choice((-1, 0, 0, 1)))

    def _link_breaks(self) -> None:
        """At once on both sides; what was on its way is gone."""
        client = self._some([client for client in self.clients if client.link is not None])
        if client is not None and client.link is not None:
            self.process.close(client.link)
            self._ended(client.link)
            client.lose_link()

    def _client_times_out(self) -> None:
        client = self._some([client for client in self.clients if client.op is not None])
        if client is not None:
            self._orphan(client.link)
            client.lose_link()

    def _client_vanishes(self) -> None:
        client = self.random.choice(self.clients)
        self._orphan(client.link)
        client.vanish()

    def _orphan(self, link: Link | None) -> None:
        if link is not None:
            link.client_is_there = False
            self._orphans.append(link)

    def _ended(self, link: Link) -> None:
        moment = self.next_moment()
        for op in link.waiting:
            op.ended(moment, self.clock.now)

    # --- death and what comes behind it ---------------------------------------------------------------

    def _death_comes(self) -> None:
        if self._deaths <= 0 or self.disk.fail_at:
            return
        self._deaths -= 1
        random = self.random
        kind = random.random()
        if kind < 0.1:
            self._stop_cleanly()
        elif kind < 0.2:
            self._die(inside=False)
        elif kind < 0.55:
            self._dies_in_sync = True
        elif kind < 0.7:
            self._die_in_checkpoint(with_blocks_in_place=True)
        elif kind < 0.85:
            self.disk.fail(random.randint(1, 45))
            self._die_in_checkpoint(with_blocks_in_place=False)
        else:
            self.disk.fail(random.randint(1, 12))

    def _die_in_checkpoint(self, with_blocks_in_place: bool) -> None:
        """At the call that was picked before, be it behind the checkpoint; or between rows and their sync."""
        self.process.advance_checkpoint(1)
        while self.process.is_checkpointing:
            self.process.settle()
            self.process.advance_checkpoint(1)
            calls = self.disk.log[-8:]
            if with_blocks_in_place and calls[-1].startswith("pwrite") and any(".rows" in c for c in calls):
                raise DiskCrash

    def _die(self, inside: bool) -> None:
        """The process is no more; perhaps it dies again while it starts."""
        if inside and self.process.is_checkpointing:
            self.counts.deaths_in_checkpoints += 1
        began, began_ns = self.next_moment(), self.clock.now
        self._all_links_gone(began)
        while True:
            self._lose_process()
            if self.random.random() < 0.25:
                self.disk.fail(self.random.randint(1, 60))
            try:
                self._start()
            except DiskCrash:
                self.counts.deaths_in_starts += 1
                continue
            break
        self.disk.fail_at = 0
        self._dies_in_sync = False
        self._behind_death(began, began_ns)

    def _all_links_gone(self, moment: float) -> None:
        links = [client.link for client in self.clients if client.link is not None]
        for link in (*links, *self._orphans):
            for op in link.waiting:
                op.ended(moment, self.clock.now)
        self._orphans.clear()
        for client in self.clients:
            client.lose_link()

    def _lose_process(self) -> None:
        random = self.random
        if random.random() < (0.15 if self._dies_in_sync else 0.5):
            self.counts.kills += 1
            self.disk = self.disk.killed()
        else:
            self.counts.power_losses += 1
            self.disk = self.disk.crash(None if random.random() < 0.3 else random)
        if DIRECTORY / MANIFEST_NAME in self.disk.named:
            assert list(check(self.disk, DIRECTORY)) == [], "sound before the start, too"

    def _start(self) -> None:
        self.clock.now += self.random.randrange(1_000_000_000)
        self.process = self.make_process(self._app, self.disk, self.clock, self.random)

    def _stop_cleanly(self) -> None:
        began, began_ns = self.next_moment(), self.clock.now
        self._all_links_gone(began)
        self.process.stop()
        self.counts.clean_stops += 1
        self.disk = self.disk.crash()
        self._start()
        assert self.process.warnings == [], "behind a clean stop nothing is torn"
        self._behind_death(began, began_ns)

    def _behind_death(self, began: float, began_ns: int) -> None:
        engine = self.process.engine
        assert_sound(engine, self.disk)
        self._book_is_right(self._shown())
        ended = self.next_moment()
        for group in self.groups:
            crash = Op(-1, Crash(self.clock.now - began_ns), began, self.clock.now)
            crash.answered(ended, self.clock.now, "crash")
            group.history.ops.append(crash)
        self._audit()

    def _shown(self) -> Shown:
        tables = self.process.engine.tables
        shown: Shown = {}
        for table, row in ((tables[name], row) for name in TABLES for row in tables[name].rows.present):
            values = table.read_trimmed(row)
            assert values is not None
            state, writer, prev, note = (table.schema.value(values, name) for name in FIELDS)
            assert isinstance(state, int) and isinstance(writer, int)
            assert isinstance(prev, int) and isinstance(note, bytes)
            shown[row] = (state, writer, prev, note)
        return shown

    def _book_is_right(self, shown: Shown) -> None:
        troubles = list(self.book.troubles(shown))
        assert not troubles, "; ".join(troubles)
        assert self.process.engine.token >= self.book.token, "tokens fall"

    def _audit(self) -> None:
        """Every row is read by a client of its own; nothing that a start shows may be held."""
        auditor = Client(CLIENTS_MAX, self)
        for group in self.groups:
            for row in group.rows:
                auditor.ask(Seek(row), group.history)
