"""A client with a book, in front of the store on a disk that fails: what the tests of disk errors share.

The book has what was answered. What was asked for and not answered may have taken effect or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from commands.registry import load
from klani_resp.app import App, StorageFailed
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.dispatcher import Dispatcher
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from storage.counting import CountingError, InPlace
from storage.engine import Engine, EngineOptions
from storage.errors import StoreError
from storage.fs import is_full
from storage.verify import Verification
from tests.conftest import frame
from tests.fake_disk import FakeDisk
from tests.store import Contents, FakeClock, contents, open_store

OPTIONS = EngineOptions(segment_bytes=2048, ballast_bytes=2048)
REFUSED = "-MISCONF Errors writing to the log: "
CONFIG = Config()
DISPATCHER = Dispatcher(load())  # to compile the commands takes longer than a story
NOTE = b"x" * 12


class Ended(Exception):
    """The process has ended, as it must after an error that is final."""


@dataclass(slots=True)
class Asked:
    """Changes that were accepted at a log position, and not answered yet."""

    position: int
    rows: dict[int, int]
    after: Contents = field(default_factory=dict)  # all that the store holds then
    words: tuple[bytes | str | int, ...] = ()
    reply: str = ""


class Till:
    counted = b"seats"  # the table that KL.VERIFY is asked for

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.book: dict[int, int] = {}
        self.asked: list[Asked] = []
        self.refused = 0
        self.app: App
        self.engine: Engine
        self.session: Session

    # --- the server's life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Raises StartError, or Ended."""
        try:
            self.engine, _ = open_store(self.disk, OPTIONS, FakeClock())
        except OSError as error:
            raise Ended from error
        self.app = App(CONFIG, DISPATCHER)
        self.app.opened(self.engine, InlineCommitter(self.engine.wal, self.app.release))
        self.session = self.app.open_session(Transport("", ""))
        self.judge()

    def stop(self) -> None:
        try:
            self.engine.close()
        except OSError as error:
            raise Ended from error

    def checkpoint(self, with_ballast: bool = False) -> None:
        """As the server makes one."""
        self.commit()
        if self.engine.durable < self.engine.appended:
            return
        plan = self.engine.begin_checkpoint()
        try:
            if with_ballast:
                self.engine.give_room_to(plan, with_ballast=True)
            plan.write()
        except OSError as error:
            if not is_full(error):
                raise Ended from error
            self.engine.miss_checkpoint(plan, error)
        else:
            self.engine.end_checkpoint(plan)

    def look_for_room(self) -> None:
        """As the server does about once a second while the disk is full."""
        engine = self.engine
        if engine.readonly_reason is None and engine.ballast.is_whole:
            return
        self.commit()
        try:
            if engine.wal.pending:
                engine.give_room_to_log()
                self.commit()
                return
            if engine.is_checkpoint_helpful or engine.is_checkpoint_missed:
                self.checkpoint()
                if engine.is_checkpoint_missed and engine.is_checkpoint_helpful:
                    self.checkpoint(with_ballast=True)
            engine.make_room()
        except OSError as error:
            if not is_full(error):
                raise Ended from error
            engine.disk_full(error)
            return
        if not engine.is_checkpoint_missed:
            engine.room_is_back()

    def commit(self) -> None:
        self.app.wake_committer()
        try:
            self.app.check()
        except StorageFailed as error:
            raise Ended from error
        while self.asked and self.asked[0].position <= self.engine.released:
            self.answered(self.asked.pop(0))

    def answered(self, asked: Asked) -> None:
        self.book |= asked.rows

    # --- what is asked --------------------------------------------------------------------------------

    def ask(self, *words: bytes | str | int) -> str:
        return self.session.receive(frame(*words)).decode()

    def has_table(self) -> bool:
        schema = ("state", "U8", "INDEX", "note", "BYTES", 12)
        reply = self.ask("KL.CREATE", "seats", "IFNOTEXISTS", "SCHEMA", *schema)
        assert reply == "+OK\r\n" or reply.startswith(REFUSED)
        self.commit()
        return bool(self.engine.tables)

    def sell(self, row: int, state: int) -> None:
        """Inserts it the first time, then changes it under a lock; lets go of the lock in any case."""
        if not self.has_table():
            return
        key = f"seats:{row}"
        if self.ask("KL.SEEK", key) == "$-1\r\n":
            self.expect(self.ask("KL.INSERT", key, "state", state, "note", NOTE), ":1\r\n", {row: state})
            self.commit()
            return
        token = self.ask("KL.TRYLOCK", key)
        if token.startswith(REFUSED):
            self.refused += 1
            return
        reply = self.ask("KL.REPLACE", key, token[1:-2], "state", state)
        self.expect(reply, "+OK\r\n", {row: state})
        self.commit()
        assert self.ask("KL.UNLOCK", key, token[1:-2]) == ":1\r\n", "never refused"

    def sell_both(self, row: int, other: int, state: int) -> None:
        """Two rows that were never there, as one."""
        if not self.has_table():
            return
        replies = self.ask("MULTI")
        for one in (row, other):
            replies += self.ask("KL.INSERT", f"seats:{one}", "state", state, "note", NOTE)
        replies += self.ask("EXEC")
        if self.engine.readonly_reason is not None and REFUSED in replies:
            assert replies.endswith("-EXECABORT Transaction discarded because of previous errors.\r\n")
            self.refused += 1
            return
        self.expect(replies, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n", {row: state, other: state})
        self.commit()

    def expect(self, reply: str, accepted: str, rows: dict[int, int]) -> None:
        if reply.startswith(REFUSED):
            assert self.engine.readonly_reason is not None
            self.refused += 1
            return
        assert reply == accepted
        self.asked.append(Asked(self.session.hold, rows))

    def verify(self) -> None:
        """Never a wrong count: all agree, or an error that says why there is none."""
        self.commit()
        engine = self.engine
        if (
            self.counted not in engine.tables
            or engine.durable < engine.appended
            or engine.readonly_reason is not None
        ):
            return
        table = engine.table(self.counted)
        question = Verification(self.engine, table, b"state", 1, InPlace(self.disk))
        question.start()
        try:
            verdict = question.finish(question.run())
        except CountingError:
            return
        except StoreError as error:
            assert error.text.startswith(REFUSED[1:])
            return
        except OSError as error:
            raise Ended from error
        assert verdict.ok or self.disk.fail_at, verdict

    # --- what is there --------------------------------------------------------------------------------

    def judge(self) -> None:
        """What the store shows is what was answered, then some of what was asked for; each as a whole."""
        shown = {row: int(str(f[b"state"])) for row, f in contents(self.engine).get(b"seats", {}).items()}
        allowed = [dict(self.book)]
        for asked in self.asked:
            allowed.append(allowed[-1] | asked.rows)
        assert shown in allowed, f"{shown} is none of {allowed}"
        self.book = shown
        self.asked.clear()

    def take_over(self, before: Till) -> None:
        """The book of one whose process has ended."""
        self.book, self.asked = dict(before.book), list(before.asked)

    def look_again(self) -> None:
        """Behind a start on a disk that is well."""

    def story(self) -> list[Step]:
        return story()


Step = Callable[[Till], None]


def story() -> list[Step]:
    """Every kind of thing that touches the disk."""

    def sales(first: int, state: int) -> list[Step]:
        return [partial(Till.sell, row=row, state=state) for row in range(first, first + 2)]

    return [
        Till.start,
        *sales(0, 1),
        Till.checkpoint,
        *sales(2, 2),
        partial(Till.sell_both, row=20, other=21, state=3),
        Till.verify,
        *sales(0, 4),
        *sales(200, 5),
        Till.checkpoint,
        *sales(2, 6),
        Till.stop,
        Till.start,
        *sales(1, 7),
        Till.stop,
    ]
