"""A herd's processes and threads: all connect, start together at a barrier, and hand their records back.

A worker is a thread with a connection of its own. Users are dealt to processes in turn, and within a process
to whichever worker is free. The process's first thread has nothing else to do than to publish counts for the
progress display, so the workers pay nothing for it.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.context import SpawnProcess
from random import Random
from typing import Any

from bench.horde.flows import FLOWS
from bench.horde.options import Options
from bench.horde.stats import Kind, Tally
from bench.horde.wire import Worker, open_wire

CONNECT_SECONDS_MAX = 120.0
PUBLISH_SECONDS = 0.1


@dataclass
class ProcessRecord:
    """What one process hands back. `ended_ns` is of the monotonic clock, which all processes share."""

    tally: Tally
    failures: list[str] = field(default_factory=list)  # one traceback per failed worker
    ended_ns: int = 0
    cpu_seconds: float = 0.0


@dataclass
class HerdRecord:
    """What the whole herd did."""

    tally: Tally
    failures: list[str]
    wall_seconds: float
    clients_cpu_seconds: float
    origin_ns: int = 0  # of `time.perf_counter_ns`: when they were released


@dataclass
class _Shared:
    """What the processes share; `live` has a count per process for each of the kind's columns."""

    ready: Any
    release: Any
    origin_ns: Any
    live: Any


def run_herd(
    options: Options,
    on_release: Callable[[], None],
    on_second: Callable[[int, list[int]], None],
    stall_seconds: float,
) -> HerdRecord:
    """Runs all workers to their end. `on_release()` is called when they are let loose, and once a second from
    then on `on_second(second, counts so far)`.

    A herd that does nothing for `stall_seconds` is ended; its workers count as failed.
    """
    context = multiprocessing.get_context("spawn")
    kind = FLOWS[options.flow].kind
    shared = _Shared(
        ready=context.Barrier(options.processes + 1, timeout=CONNECT_SECONDS_MAX),
        release=context.Barrier(options.processes + 1, timeout=CONNECT_SECONDS_MAX),
        origin_ns=context.RawValue("Q", 0),
        live=context.RawArray("Q", options.processes * len(kind.columns)),
    )
    processes: dict[Pipe, tuple[SpawnProcess, int]] = {}
    try:
        for number in range(options.processes):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_run_process, args=(number, options, shared, theirs), daemon=True
            )
            with _interrupts_held():
                process.start()
            theirs.close()
            processes[ours] = (process, len(_workers_of(number, options)))
        shared.ready.wait()
        shared.origin_ns.value = time.perf_counter_ns()
        shared.release.wait()
        on_release()
        return _collect(kind, processes, shared, on_second, stall_seconds)
    finally:
        for process, _ in processes.values():
            if process.is_alive():
                process.terminate()
            process.join()


def _collect(
    kind: Kind,
    processes: dict[Pipe, tuple[SpawnProcess, int]],
    shared: _Shared,
    on_second: Callable[[int, list[int]], None],
    stall_seconds: float,
) -> HerdRecord:
    origin = shared.origin_ns.value
    whole = HerdRecord(Tally(kind), [], 0.0, 0.0, origin)
    columns = len(kind.columns)
    open_pipes = set(processes)
    second, last_counts, last_change = 0, [0] * columns, time.perf_counter()
    while open_pipes:
        due = origin / 1e9 + second + 1
        for pipe in wait_for_any(list(open_pipes), timeout=max(0.0, due - time.perf_counter())):
            assert isinstance(pipe, Pipe)
            open_pipes.discard(pipe)
            record = _receive(kind, pipe, processes[pipe][1])
            whole.tally.add(record.tally)
            whole.failures += record.failures
            whole.clients_cpu_seconds += record.cpu_seconds
            whole.wall_seconds = max(whole.wall_seconds, (record.ended_ns - origin) / 1e9)
        now = time.perf_counter()
        if now < due:
            continue
        counts = [sum(shared.live[column::columns]) for column in range(columns)]
        on_second(second, counts)
        second += 1
        if counts != last_counts:
            last_counts, last_change = counts, now
        elif now - last_change > stall_seconds:
            lost = sum(processes[pipe][1] for pipe in open_pipes)
            whole.failures += [f"the herd stood still for {stall_seconds:.0f} s"] * lost
            whole.wall_seconds = now - origin / 1e9
            break
    if (rest := whole.tally.snapshot()) != last_counts:
        on_second(second, rest)  # the part of a second at the end
    return whole


def _receive(kind: Kind, pipe: Pipe, workers: int) -> ProcessRecord:
    """A process that ended without a word takes all its workers with it."""
    try:
        record = pipe.recv()
        assert isinstance(record, ProcessRecord)
        return record
    except EOFError:
        lost = ["the worker's process ended without handing back its record"] * workers
        return ProcessRecord(Tally(kind), lost, time.perf_counter_ns())


def _workers_of(process: int, options: Options) -> range:
    return range(process, options.workers, options.processes)


def rank_of_users(options: Options) -> list[int]:
    """Every user's rank: it depends on the seed alone, not on workers or processes."""
    return Random(f"{options.seed}:ranks").choices(range(options.ranks), k=options.users)


@dataclass
class _Thread:
    """One worker thread's inputs and what became of it."""

    number: int
    tally: Tally
    failure: str | None = None
    ended_ns: int = 0


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Who is started meanwhile never hears of Ctrl-C, not even before its first line: it is the first
    process's, which ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_process(number: int, options: Options, shared: _Shared, results: Pipe) -> None:
    ranks = rank_of_users(options)
    flow = FLOWS[options.flow]
    words = flow.words(options)
    # `next` on one range iterator is a single step under the GIL, so the threads may share it.
    users = iter(range(number, options.users, options.processes))
    states = [_Thread(worker, Tally(flow.kind)) for worker in _workers_of(number, options)]
    connected = threading.Barrier(len(states) + 1, timeout=CONNECT_SECONDS_MAX)
    go = threading.Event()

    def run(state: _Thread) -> None:
        wire = None
        try:
            try:
                wire = open_wire(options, state.tally)
            finally:
                connected.wait()
            go.wait()
            wire.origin_ns = shared.origin_ns.value
            _serve_all(flow.worker(state.number, options, words, wire, state.tally), users, ranks)
        except BaseException:
            state.failure = f"worker {state.number}: {traceback.format_exc()}"
        finally:
            state.ended_ns = time.perf_counter_ns()
            if wire is not None:
                wire.close()

    threads = [threading.Thread(target=run, args=(state,), daemon=True) for state in states]
    for thread in threads:
        thread.start()
    connected.wait()
    gc.collect()
    gc.freeze()
    shared.ready.wait()
    cpu_before = time.process_time()
    shared.release.wait()
    go.set()
    _publish_until_done(number, threads, states, shared)
    record = ProcessRecord(Tally(flow.kind), cpu_seconds=time.process_time() - cpu_before)
    for state in states:
        record.tally.add(state.tally)
        record.ended_ns = max(record.ended_ns, state.ended_ns)
        if state.failure is not None:
            record.failures.append(state.failure)
    results.send(record)


def _serve_all(worker: Worker, users: Iterator[int], ranks: list[int]) -> None:
    for user in users:
        worker.serve(user, ranks[user])


def _publish_until_done(
    number: int, threads: list[threading.Thread], states: list[_Thread], shared: _Shared
) -> None:
    """Publishes ten times a second, at the same moments in all processes, so that their seconds agree."""
    origin = shared.origin_ns.value / 1e9
    remaining = list(threads)
    while remaining:
        since = time.perf_counter() - origin
        remaining[-1].join(PUBLISH_SECONDS - since % PUBLISH_SECONDS)
        remaining = [thread for thread in remaining if thread.is_alive()]
        rows = [state.tally.snapshot() for state in states]
        counts = [sum(column) for column in zip(*rows, strict=True)]
        shared.live[number * len(counts) : (number + 1) * len(counts)] = counts
