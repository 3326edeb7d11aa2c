"""The server process of a simulated world: the real App, sessions, committer and storage on a fake disk.

What the reactor does with sockets is done here with byte buffers: a reply is held until `released` has come
to the position that its session named, in the connection's order. When a turn ends, when a sync ends, when
the log gets its next segment and how far a checkpoint goes at a time is for the world to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random

from commands.spec import Job
from klani_resp.app import App
from klani_resp.committer import Committer
from klani_resp.config import Config
from klani_resp.sessions.transport import Transport
from storage.checkpoint import Checkpoint
from storage.engine import EngineOptions
from storage.recovery import Opening
from tests.fake_disk import FakeDisk
from tests.sim.history import Op
from tests.store import DIRECTORY, FakeClock

OPTIONS = EngineOptions(segment_bytes=16 << 10, checkpoint_bytes=8 << 10)
CONFIG = Config()


class SteppedSyncer:
    """A `storage.syncer.Syncer` whose sync ends when the world says so.

    The bytes become durable at the beginning or at the end, as the seed has it: whoever counts on either is
    found out.
    """

    fd = -1

    def __init__(self, disk: FakeDisk, random: Random) -> None:
        self._disk = disk
        self._random = random
        self._watched = -1
        self.is_synced = False
        self.is_running = False

    def watch(self, fd: int) -> None:
        assert not self.is_running
        self._watched = fd

    def start(self) -> None:
        assert not self.is_running
        self.is_running = True
        self.is_synced = self._random.random() < 0.5
        if self.is_synced:
            self._disk.fdatasync(self._watched)

    def finish(self) -> None:
        self.is_running = False
        if not self.is_synced:
            self._disk.fdatasync(self._watched)

    def close(self) -> None: ...


class Link:
    """A connection: what is on its way to the server, what the server holds back, what is on its way back."""

    def __init__(self, process: Process) -> None:
        self.session = process.app.open_session(Transport("", ""))
        self.inbox = bytearray()
        self.held: deque[tuple[int, bytes]] = deque()
        self.outbox = bytearray()
        self.client_is_there = True
        self.is_open = True
        self.waiting: list[Op] = []  # operations that may take effect as long as the link is open


class Process:
    def __init__(
        self, app: App, disk: FakeDisk, clock: FakeClock, random: Random, options: EngineOptions = OPTIONS
    ) -> None:
        opening = Opening(DIRECTORY, options, disk, clock)
        for _ in opening:
            pass
        self.warnings = opening.warnings
        self.engine = engine = opening.engine
        self.app = app
        app.sessions.clear()  # of a process before
        self.syncer = SteppedSyncer(disk, random)
        self.is_rolling = False
        self.committer = Committer(
            engine.wal, self.syncer, always=True, roll=self._roll, prepare=engine.wal.prepare_segment
        )
        self.app.opened(engine, self.committer)
        self.links: list[Link] = []
        self.is_turn_open = False
        self._plan: Checkpoint | None = None
        self._steps: Iterator[None] | None = None

    # --- connections ----------------------------------------------------------------------------------

    def connect(self) -> Link:
        link = Link(self)
        self.links.append(link)
        return link

    def receive(self, link: Link, count: int) -> None:
        """The next bytes of a connection reach the server, and its end if the client has gone."""
        data = bytes(link.inbox[:count])
        del link.inbox[:count]
        session = link.session
        if data:
            self._take(link, session.receive(data))
            while session.more:
                self._take(link, session.receive(b""))
            self.is_turn_open = True
        if not link.inbox and not link.client_is_there:
            self.close(link)

    def _take(self, link: Link, reply: bytes) -> None:
        if reply:
            link.held.append((link.session.hold, reply))

    def close(self, link: Link) -> None:
        link.is_open = False
        link.held.clear()
        self.links.remove(link)
        self.app.close_session(link.session)

    # --- turns, syncs, segments -----------------------------------------------------------------------

    def end_turn(self) -> None:
        self.is_turn_open = False
        self.app.wake_committer()
        self.release()

    def release(self) -> None:
        self.app.check()
        released = self.engine.released
        for link in self.links:
            job = link.session.job
            if job is not None and job.position <= released:
                self._end_job(link, job)
            while link.held and link.held[0][0] <= released:
                link.outbox += link.held.popleft()[1]

    def _end_job(self, link: Link, job: Job) -> None:
        """Of a history, whose rows and log are durable: as a thread beside the loop does it."""
        session = link.session
        self._take(link, session.finish_job(job.run()))
        while session.more:
            self._take(link, session.receive(b""))

    def end_sync(self) -> None:
        self.app.sync_ended()
        self.end_turn()

    def _roll(self) -> None:
        self.is_rolling = True

    def end_roll(self) -> None:
        self.is_rolling = False
        self.engine.wal.next_segment()
        self.committer.rolled()
        self.app.take_released()
        self.release()

    # --- checkpoints ----------------------------------------------------------------------------------

    @property
    def is_checkpointing(self) -> bool:
        return self._plan is not None

    def advance_checkpoint(self, steps: int) -> None:
        """Begins one, or goes on with it."""
        if self._plan is None:
            self._plan = self.engine.begin_checkpoint()
        elif self._steps is None:
            if self.engine.durable < self._plan.position:
                self.app.make_durable()
            else:
                self._steps = self._plan.steps()
        else:
            for _ in range(steps):
                if next(self._steps, self) is self:
                    self.engine.end_checkpoint(self._plan)
                    self._plan = self._steps = None
                    break

    # --- the end --------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Nothing more comes in: all that waits for the disk gets what it waits for."""
        self.end_turn()
        while self.syncer.is_running or self.is_rolling or self.engine.wal.pending:
            if self.syncer.is_running:
                self.end_sync()
            elif self.is_rolling:
                self.end_roll()
            else:
                self.end_turn()
        assert self.engine.released == self.engine.appended

    def stop(self) -> None:
        """As the server stops when it is told to."""
        while self.is_checkpointing:
            self.settle()
            self.advance_checkpoint(1000)
        self.settle()
        self.committer.stop()
        self.engine.close()
