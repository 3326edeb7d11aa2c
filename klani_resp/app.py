"""What all connections share: the store, the dispatcher, who is connected, what waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import trio

from commands.registry import load
from commands.spec import Context, Job
from klani_resp.committer import Committer, InlineCommitter
from klani_resp.config import Config
from klani_resp.control import Control
from klani_resp.insight.facts import Facts
from klani_resp.insight.rates import Rates
from klani_resp.insight.watching import LatencyMonitor, Monitors, SlowLog
from klani_resp.protocol import encoder
from klani_resp.protocol.parser import ParserLimits
from klani_resp.sessions.access import Access
from klani_resp.sessions.dispatcher import Dispatcher
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Line, Transport
from klani_resp.settings import Settings, engine_options
from storage.dismantle import dismantle
from storage.engine import Engine
from storage.errors import StoreError
from storage.fs import is_full

RETRY_SECONDS = 1.0  # between two looks for room on a full disk
RETRY_SHARE = 10  # and for each second that a checkpoint took before it found none, so many


class StorageFailed(Exception):
    """A write or a sync failed. Nothing is answered any more, the process ends."""


class NotYet:
    """Stands where the engine will, while the store loads: shows nothing, waits for nothing."""

    def __init__(self) -> None:
        self.seen = self.appended = self.durable = self.released = 0
        self.tables: dict[bytes, Any] = {}
        self.default_table = b""
        self.readonly_reason: str | None = None
        self.clock = time.monotonic_ns

    def note(self, position: int) -> None: ...


@dataclass(slots=True)
class Counters:
    connections: int = 0
    rejected: int = 0
    commands: int = 0  # of connections that are gone; those present count their own
    commands_forgotten: int = 0  # of all, at the last CONFIG RESETSTAT
    received_bytes: int = 0
    sent_bytes: int = 0


class App:
    def __init__(self, config: Config, dispatcher: Dispatcher | None = None) -> None:
        self.config = config
        self.settings = Settings(config)
        self.engine: Engine = cast(Engine, NotYet())
        self.dispatcher = dispatcher or Dispatcher(load())
        self.counters = Counters()
        watched = self.dispatcher.statistics, self.dispatcher.commands
        self.rates = Rates(self)
        self.slowlog = SlowLog(*watched)
        self.latency = LatencyMonitor(*watched)
        self.monitors = Monitors(*watched)
        self.sessions: dict[int, Session] = {}
        self.loading_progress = 0.0
        self.is_loading = True
        self.started_at = time.monotonic()
        self.committer: Committer | InlineCommitter | None = None
        self.failure: Exception | None = None
        self.facts = Facts(self)
        self.limits: ParserLimits
        self.access = Access(self)
        self.control = Control(self)
        self.row_files = trio.Lock()  # one checkpoint at a time; KL.VERIFY makes one too
        # Clients' jobs are done one by one: two at once take as long, and the loop waits for both. So trio's
        # threads are left to the log and the checkpoints, which wait for no reader. Nor does an operator.
        self._reading, self._operating = trio.Lock(), trio.Lock()
        self._released = trio.lowlevel.ParkingLot()
        self._emptied = trio.lowlevel.ParkingLot()
        self._receiving: set[trio.CancelScope] = set()
        self._is_stopping = False
        self._next_id = 1
        self._checkpoint_after = 0.0  # monotonic: not before, on a full disk
        self.slicing = 0  # long replies being made in slices: the loop should not linger
        self._retune(config)
        self.settings.tell(self._retune)
        self.settings.tell_last(self.access.require)
        self.settings.users = self.access.as_settings

    def _retune(self, config: Config) -> None:
        """What is copied of the settings, anew."""
        self.limits = ParserLimits(config.arguments_max, config.bulk_bytes_max, config.request_bytes_max)
        self.access.retune()
        self.slowlog.configure(config.slowlog_slower_than_us, config.slowlog_entries_max)
        self.latency.configure(config.latency_threshold_ms)
        if not self.is_loading:
            self.engine.change(engine_options(config))

    def opened(self, engine: Engine, committer: Committer | InlineCommitter) -> None:
        """The store is loaded: from here on commands reach it."""
        self.engine = engine
        self.committer = committer
        self.is_loading = False
        self.loading_progress = 1.0
        if self.settings.has_changed:  # CONFIG SET serves while the store loads
            self._retune(self.config)
        self.dispatcher.opened()
        for session in self.sessions.values():
            session.attach(Context(engine, session, self.facts))

    # --- who is connected -----------------------------------------------------------------------------

    def open_session(self, transport: Transport) -> Session:
        session = Session(self._next_id, self.dispatcher, self.config, self.limits)
        self._next_id += 1
        session.transport = transport
        session.attach(Context(self.engine, session, self.facts))
        self.access.welcome(session)
        self.sessions[session.id] = session
        self.counters.connections += 1
        return session

    def close_session(self, session: Session) -> None:
        del self.sessions[session.id]
        session.close_after_reply()  # requests of it may have come in this turn, and be parsed already
        session.line = Line()  # or they would keep each other alive
        self.monitors.remove(session)
        self.counters.commands += session.commands_done
        if not self.sessions:
            self._emptied.unpark_all()

    @property
    def commands_done(self) -> int:
        """By all connections there ever were."""
        return self.counters.commands + sum(session.commands_done for session in self.sessions.values())

    def reset_counters(self) -> None:
        """CONFIG RESETSTAT: what is shown begins anew."""
        counters = self.counters
        counters.commands_forgotten = self.commands_done
        counters.connections = counters.rejected = counters.received_bytes = counters.sent_bytes = 0

    # --- the end, on the task road --------------------------------------------------------------------

    async def receive(self, stream: trio.abc.ReceiveStream) -> bytes:
        """What comes next on a stream; nothing at its end, or once `drain` is under way."""
        if not self._is_stopping:
            with trio.CancelScope() as scope:
                self._receiving.add(scope)
                try:
                    return bytes(await stream.receive_some(self.config.receive_bytes_max))
                finally:
                    self._receiving.discard(scope)
        return b""

    async def drain(self) -> None:
        """Nothing more is received; back when all that was has been answered and the sessions are gone."""
        self._is_stopping = True
        for scope in self._receiving:
            scope.cancel()
        while self.sessions:
            await self._emptied.park()

    # --- positions ------------------------------------------------------------------------------------

    def wake_committer(self) -> None:
        """After commands were executed: what they appended goes to disk."""
        if self.committer is not None and self.engine.wal.pending:
            self._commit(self.committer.wake)
            self.take_released()

    def _commit(self, step: Callable[[], None]) -> None:
        """A step of the committer; what it meets is noted, for `check` to raise."""
        try:
            step()
        except OSError as error:
            self.log_failed(error)

    def log_failed(self, error: OSError) -> None:
        """A full disk is waited for: what was accepted stays accepted. Anything else is the end."""
        if is_full(error):
            self.engine.disk_full(error)
        else:
            self.fail(error)

    def resume_log(self) -> None:
        """What waits for room may find it now. Raises StorageFailed."""
        assert isinstance(self.committer, Committer)
        self._commit(self.committer.resume)
        self.check()
        self.take_released()

    def sync_ended(self) -> None:
        """A sync of the log has come to its end. Raises StorageFailed when it did not succeed."""
        assert isinstance(self.committer, Committer)
        self._commit(self.committer.sync_ended)
        self.check()
        self.take_released()
        self._released.unpark_all()

    def take_released(self) -> None:
        released = self.engine.wal.released
        if released > self.engine.released:
            self.release(released)

    def release(self, position: int) -> None:
        """Replies that wait for at most `position` may go out."""
        self.engine.released_to(position)
        self._released.unpark_all()

    def fail(self, error: Exception) -> None:
        """Whoever waits for a position will not get it."""
        self.failure = error
        self._released.unpark_all()

    def make_durable(self) -> None:
        """A sync comes soon, whatever the policy. Raises StorageFailed."""
        assert self.committer is not None
        self._commit(self.committer.make_durable)
        self.check()

    async def durable(self, position: int) -> None:
        """Back when no power loss can take back what is below `position`. Raises StorageFailed."""
        while self.engine.durable < position:
            self.make_durable()
            if self.engine.durable < position:
                await self._released.park()
        self.check()

    async def released(self, position: int) -> None:
        while self.engine.released < position:
            self.check()
            await self._released.park()
        self.check()

    def check(self) -> None:
        """Raises StorageFailed when the store can no longer be written."""
        if self.failure is not None:
            raise StorageFailed(str(self.failure)) from self.failure

    async def run_job(self, session: Session) -> bytes:
        """Does the session's long work beside the loop; the reply is the suspended command's."""
        job = session.job
        assert job is not None
        if job.slices is not None:
            return session.finish_job(await self._in_slices(session, job.count, job.slices))
        async with self._line_for(job):
            if session.closing:  # its client went away before its turn came
                return b""
            return session.finish_job(await self._outcome(job))

    def _line_for(self, job: Job) -> trio.Lock:
        """What it holds while it works."""
        if job.exclusive:  # called off at the end only: Engine.close sees to what `start` began
            return self.row_files
        return self._operating if job.items is None else self._reading

    async def _outcome(self, job: Job) -> object:
        """What the job's `run` gave or raised. An exclusive one must not fail half-way: that is the end."""
        try:
            if job.start is not None:
                job.start()
        except Exception as error:
            return error
        self.wake_committer()
        await self.durable(job.position)
        try:
            return await trio.to_thread.run_sync(job.run, abandon_on_cancel=not job.exclusive)
        except Exception as error:
            if job.exclusive:
                self.fail(error)
                self.check()
            return error

    async def _in_slices(self, session: Session, count: int, slices: Iterator[list[int]]) -> encoder.Encoded:
        """A long array of integers; the others have their turn after each slice."""
        head = encoder.array_head(count)
        # All of it at once: pages that are not touched cost nothing, to join 50 MB of pieces takes 30 ms.
        reply = bytearray(len(head) + count * encoder.ID_BYTES_MAX)
        reply[: len(head)] = head
        end = len(head)
        self.slicing += 1
        try:
            for ids in slices:
                part = encoder.ids_part(ids)
                begin, end = end, end + len(part)
                reply[begin:end] = part
                await trio.lowlevel.checkpoint()
                if session.id not in self.sessions:  # its client went away
                    break
        finally:
            self.slicing -= 1
        del reply[end:]
        return encoder.Encoded(cast(bytes, reply))

    async def free_dropped(self) -> None:
        """Gives back the memory of dropped tables; the others have their turn after each piece."""
        async with self.row_files:  # a checkpoint or KL.VERIFY that began before reads them still
            dropped = self.engine.dropped
            while dropped:
                for _ in dismantle(dropped.pop()):
                    await trio.lowlevel.checkpoint()

    @property
    def is_checkpoint_wanted(self) -> bool:
        """When due or asked for; on a full disk when it would make room, again after one that found none."""
        engine = self.engine
        if engine.readonly_reason is None:
            return engine.checkpoint_due or self.control.is_save_wanted
        wanted = engine.is_checkpoint_helpful or engine.is_checkpoint_missed
        return wanted and time.monotonic() >= self._checkpoint_after

    async def checkpoint(self) -> None:
        """One checkpoint, from its cut to its end, or to a full disk. Raises StorageFailed."""
        async with self.row_files:
            if not self.is_checkpoint_wanted:
                return
            self.control.is_save_wanted = False
            began = time.monotonic()
            is_written = await self._write_checkpoint()
            if not is_written and self.engine.can_give_room:
                is_written = await self._write_checkpoint(with_more_room=True)
            if not is_written:
                now = time.monotonic()
                self._checkpoint_after = now + max(RETRY_SECONDS, RETRY_SHARE * (now - began))

    async def _write_checkpoint(self, with_more_room: bool = False) -> bool:
        """False when it found no room."""
        engine, began = self.engine, trio.current_time()
        plan = engine.begin_checkpoint()
        await self.durable(plan.position)
        try:
            if with_more_room:
                give = partial(engine.give_room_to, plan, with_ballast=engine.is_checkpoint_helpful)
                await trio.to_thread.run_sync(give)
            await trio.to_thread.run_sync(plan.write)
        except (OSError, StoreError) as error:
            if isinstance(error, OSError) and is_full(error):
                engine.miss_checkpoint(plan, error)
                return False
            self.fail(error)
            self.check()
        engine.end_checkpoint(plan)
        self.latency.checkpointed(round((trio.current_time() - began) * 1e9))
        return True
