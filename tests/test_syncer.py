"""Syncs beside the loop: each is answered once, a failure is never taken for success."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.fs import OsFs
from storage.syncer import ProcessSyncer, Syncer, ThreadSyncer, open_syncer


def in_process() -> Syncer:
    return ProcessSyncer()


def in_thread() -> Syncer:
    return ThreadSyncer(OsFs())


@pytest.fixture(params=[in_process, in_thread], ids=["process", "thread"])
def syncer(request: pytest.FixtureRequest) -> Iterator[Syncer]:
    """Closed whatever comes: what is left of a test that fails would fail the next one."""
    with closing(request.param()) as syncer:
        yield syncer


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x")
    yield fd
    os.close(fd)


def test_a_sync_is_answered(syncer: Syncer, fd: int) -> None:
    syncer.watch(fd)
    for _ in range(3):
        syncer.start()
        syncer.finish()


def test_a_failed_sync_raises(syncer: Syncer) -> None:
    ours, theirs = os.pipe()  # which nobody can sync
    syncer.watch(ours)
    syncer.start()
    with pytest.raises(OSError) as caught:
        syncer.finish()
    assert caught.value.errno == errno.EINVAL
    os.close(ours)
    os.close(theirs)


def test_another_file_under_the_same_number_is_the_one_that_is_synced(syncer: Syncer, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    syncer.watch(ours)
    os.close(theirs)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.dup2(fd, ours)
    syncer.watch(ours)
    syncer.start()
    syncer.finish()
    os.close(fd)
    os.close(ours)


def test_a_process_that_ended_is_a_failed_sync(fd: int) -> None:
    syncer = ProcessSyncer()
    syncer.watch(fd)
    syncer._process.kill()
    syncer._process.wait()
    with pytest.raises(OSError):
        syncer.start()
        syncer.finish()
    syncer.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_for_the_server(number: signal.Signals, fd: int) -> None:
    syncer = ProcessSyncer()
    syncer.watch(fd)
    os.kill(syncer._process.pid, number)
    syncer.start()
    syncer.finish()
    syncer.close()
    assert syncer._process.returncode == 0


def test_only_plain_files_are_synced_elsewhere() -> None:
    class OtherFs(OsFs):
        """What a test replaces."""

    for fs, kind in ((OsFs(), ProcessSyncer), (OtherFs(), ThreadSyncer)):
        syncer = open_syncer(fs)
        assert type(syncer) is kind
        syncer.close()
