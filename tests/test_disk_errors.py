"""Each call to the disk refused in turn: EIO, ENOSPC, EDQUOT, once, for a while, for good; and short writes.

In each case nothing acknowledged is lost, nothing else is seen than what was done, and a disk that is full is
waited for. A failure prints its replay, `survive(call, code, steps)`. With KLANI_PROOF=long each end is
followed by a death of the process and two losses of power, else by one of the three.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from klani_resp.app import StorageFailed
from storage.errors import StartError
from storage.fs import OsFs, SyncFailed, is_full
from tests.fake_disk import FakeDisk
from tests.proof import LONG
from tests.selling_till import SellingTill
from tests.store import assert_sound
from tests.till import REFUSED, Ended, Till

FULL = (errno.ENOSPC, errno.EDQUOT)
CODES = (errno.EIO, *FULL)
ONCE, A_WHILE, FOR_GOOD = 0, 3, 1000  # how many steps of the story fail behind the first call that does
LOOKS_MAX = 5  # for room, until it must have been found
FINAL = ("fsync", "close")  # whatever such a call says: it cannot be made again
READING = ("open_readonly", "pread", "size", "names", "exists", "lock")  # no disk is too full for these

Figure = Callable[[str, int], None]
pytestmark = pytest.mark.proof


def perform(till: Till, steps: int) -> None:
    """The whole story; the disk is well again so many steps after it failed. Raises Ended or StartError."""
    for step in till.story():
        step(till)
        if step is not Till.stop:
            till.look_for_room()
        if till.disk.fail_at and till.disk.calls >= till.disk.fail_at:
            steps -= 1
            if steps < 0:
                till.disk.fail_at = 0


def calls_of_story(kind: type[Till]) -> list[str]:
    till = kind(FakeDisk())
    perform(till, ONCE)
    assert till.refused == 0
    return till.disk.log


TILLS = (Till, SellingTill)
CALLS = {kind: calls_of_story(kind) for kind in TILLS}


def survive(call: int, code: int, steps: int, kind: type[Till] = Till) -> Till:
    till = kind(FakeDisk())
    till.disk.fail(call, lambda: OSError(code, os.strerror(code)), sticky=steps > ONCE)
    what = CALLS[kind][call - 1]
    try:
        perform(till, steps)
    except (Ended, StartError) as error:
        print(
            f"replay: survive({call}, {code}, {steps}, {kind.__name__}) fails {what!r}, ends with {error!r}"
        )
        if code in FULL and steps == ONCE:
            assert isinstance(error, StartError) or what.startswith(FINAL), "a full disk is waited for"
        fates: list[Callable[[], FakeDisk]] = [
            till.disk.crash,
            lambda: till.disk.crash(random.Random(call)),
            till.disk.killed,  # last: the others take copies
        ]
        for fate in fates if LONG else [fates[call % len(fates)]]:
            go_on(till, fate())
    else:
        print(f"replay: survive({call}, {code}, {steps}, {kind.__name__}) fails {what!r}, goes on")
        assert not what.startswith("fsync"), "a failed sync is the end"
        assert code in FULL or what.startswith((*READING, "close")), "an error of a write is the end"
        go_on(till, till.disk.killed())
    return till


def go_on(before: Till, disk: FakeDisk) -> None:
    """A start on a disk that is well: all that was answered is there, and sales go on."""
    till = type(before)(disk)
    till.take_over(before)
    till.start()
    for _ in range(LOOKS_MAX):
        till.look_for_room()
    assert till.engine.readonly_reason is None
    assert_sound(till.engine, disk)
    till.look_again()
    till.sell(1, 9)
    assert till.book[1] == 9
    till.checkpoint()
    till.verify()
    till.stop()
    assert sorted(path.name for path in disk.named if path.suffix == ".tmp") == []
    till.disk = disk.crash()
    till.start()
    assert till.book[1] == 9
    assert_sound(till.engine, till.disk)


def refused(figure: Figure, kind: type[Till], code: int, steps: int, part: int = 0, parts: int = 1) -> int:
    """How many sales were, when each call fails that can: those of the part."""
    can = [at for at, what in enumerate(CALLS[kind], 1) if code not in FULL or not what.startswith(READING)]
    mine = can[part::parts]
    figure("A6 calls that failed", len(mine))
    return sum(survive(call, code, steps, kind).refused for call in mine)


def test_the_stories_touch_the_disk_often() -> None:
    assert len(CALLS[Till]) >= 400
    assert len(CALLS[SellingTill]) >= 300


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", TILLS)
def test_each_call_fails_with_an_error_that_is_final(kind: type[Till], part: int, figure: Figure) -> None:
    assert refused(figure, kind, errno.EIO, ONCE, part, 4) == 0
    if LONG:
        assert refused(figure, kind, errno.EIO, FOR_GOOD, part, 4) == 0


@pytest.mark.parametrize("code", FULL, ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", TILLS)
def test_each_call_finds_the_disk_full_once(kind: type[Till], code: int, figure: Figure) -> None:
    refused(figure, kind, code, ONCE)


@pytest.mark.parametrize("steps", [A_WHILE, FOR_GOOD], ids=["a while", "for good"])
@pytest.mark.parametrize("code", FULL if LONG else FULL[:1], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", TILLS)
def test_the_disk_is_full_from_each_call_on(kind: type[Till], code: int, steps: int, figure: Figure) -> None:
    assert refused(figure, kind, code, steps) > 0


# --- KL.VERIFY ----------------------------------------------------------------------------------------------


async def asked_to_verify(call: int, code: int) -> tuple[str, Till]:
    """The reply while that call fails; empty when the process ends."""
    till = Till(FakeDisk())
    till.start()
    for row in range(3):
        till.sell(row, 1)
    till.disk.fail(call, lambda: OSError(code, os.strerror(code)))
    return await verified(till), till


async def verified(till: Till) -> str:
    assert till.ask("KL.VERIFY", "seats", "state", 1) == ""
    try:
        return (await till.app.run_job(till.session)).decode()
    except StorageFailed:
        return ""


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
async def test_each_call_of_verify_fails(code: int) -> None:
    """It answers that it could not count, or MISCONF, or the process ends; and the next one counts."""
    kinds: set[str] = set()
    for call in count(1):
        reply, till = await asked_to_verify(call, code)
        print(f"call {call}, {till.disk.log[-1]!r}: {reply!r}")
        if till.disk.calls < till.disk.fail_at:
            break
        kinds.add(reply[:5])
        if reply:
            assert reply.startswith((REFUSED, "-ERR KL.VERIFY could not count: ", "*12"))
            till.disk.fail_at = 0
            till.look_for_room()
            assert (await verified(till)).endswith("$2\r\nok\r\n:1\r\n")
            till.stop()
    assert call > 50
    assert kinds >= ({"", "-ERR "} if code == errno.EIO else {"", "-ERR ", "-MISC"})


# --- the operating system's files ---------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    fd = OsFs().create(tmp_path / "file")
    yield fd
    os.close(fd)


@pytest.mark.parametrize("most", [1, 7, 512, 5000])
def test_short_writes_and_reads_are_gone_on_with(
    opened: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, data = OsFs(), random.Random(most).randbytes(5000)
    pwrite, pread, preadv = os.pwrite, os.pread, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, part, at: pwrite(fd, memoryview(part)[:most], at))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, most), at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:most]], at))
    fs.pwrite(opened, data, 100)
    fs.pwrite(opened, memoryview(data)[:3000], 6000)
    assert fs.pread(opened, 9999, 0) == bytes(100) + data + bytes(900) + data[:3000]
    filled = bytearray(9500)
    assert fs.pread_into(opened, memoryview(filled), 0) == 9000
    assert filled == bytes(100) + data + bytes(900) + data[:3000] + bytes(500)


def test_a_write_that_comes_to_no_end_is_an_error(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first a part of it, then nothing more: as on a full disk, and where no byte goes through at all."""
    pwrite = os.pwrite
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def part_then(rest: Callable[[], int]) -> Callable[[int, memoryview, int], int]:
        return lambda fd, part, at: pwrite(fd, part[:1000], at) if at == 0 else rest()

    def refuse() -> int:
        raise full

    monkeypatch.setattr(os, "pwrite", part_then(refuse))
    with pytest.raises(OSError) as caught:
        OsFs().pwrite(opened, bytes(5000), 0)
    assert caught.value is full and is_full(caught.value)
    monkeypatch.setattr(os, "pwrite", part_then(lambda: 0))
    with pytest.raises(OSError, match="no progress") as caught:
        OsFs().pwrite(opened, bytes(5000), 0)
    assert not is_full(caught.value)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_failed_sync_is_final_whatever_it_says(
    opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    fs = OsFs()
    syncs: list[Callable[[], None]] = [partial(getattr(fs, call), opened)]
    syncs += [partial(fs.fsync_directory, tmp_path)] if call == "fsync" else []
    for sync in syncs:
        with pytest.raises(SyncFailed) as caught:
            sync()
        assert caught.value.errno == code and not is_full(caught.value)


def test_a_full_disk_on_the_way_out_of_a_failed_sync_hides_nothing() -> None:
    with pytest.raises(OSError) as caught:
        try:
            raise SyncFailed(errno.EIO, "Input/output error")
        finally:
            raise OSError(errno.ENOSPC, "No space left on device")
    assert not is_full(caught.value)
