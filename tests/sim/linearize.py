"""A linearizability checker: is there one order of the operations that explains all replies?

The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", J. Parallel Distrib. Comput. 17,
1993): take, as the next operation in the order, one that was called before the first of the others returned;
go back when none fits. Lowe's memory ("Testing for Linearizability", Concurrency Computat. 29(4), 2017) keeps
it small: a set of done operations together with the state that they led to is entered once. An operation that
fits and changes nothing is taken at once, without the others as alternatives.

An operation without a reply may take effect at any moment after its call and before its end, or never. The
model says what states may follow, and may name several (tests/sim/model.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from math import inf

from tests.sim.commands import Crash, is_read
from tests.sim.history import Op
from tests.sim.model import successors
from tests.sim.state import State

STEPS_MAX = 200_000
Node = tuple[int, State]  # a bit for each operation that is done, and the state behind them


class Verdict(Enum):
    LINEARIZABLE = "linearizable"
    WRONG = "not linearizable"
    UNKNOWN = "unknown: the budget of steps is used up"


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    steps: int
    order: tuple[Op, ...]  # the longest that was found
    stuck: tuple[Op, ...]  # and what could have come next

    def __str__(self) -> str:
        lines = [f"{self.verdict.value} after {self.steps} steps; the longest order that fits:"]
        lines += [f"  {op}" for op in self.order]
        return "\n".join([*lines, "and none of these may come next:", *(f"  {op}" for op in self.stuck)])


def judge(ops: list[Op], start: State | None = None, steps_max: int = STEPS_MAX) -> Judgement:
    return _Search(ops, State() if start is None else start, steps_max).run()


class _Search:
    def __init__(self, ops: list[Op], start: State, steps_max: int) -> None:
        told = [op for op in ops if not (op.is_lost and is_read(op.command))]
        self._ops = sorted(told, key=lambda op: op.called)
        self._start = start
        self._steps_max = steps_max
        self._steps = 0
        self._last_crash = max((op.called for op in ops if isinstance(op.command, Crash)), default=-inf)
        self._must = sum(1 << i for i, op in enumerate(self._ops) if not op.is_lost)

    def run(self) -> Judgement:
        seen: set[Node] = {(0, self._start)}
        path: list[tuple[Node, Iterator[tuple[int, Node]], int]] = []
        node, taken = (0, self._start), -1
        moves = self._moves(node)
        longest: list[int] = []
        stuck_at = 0
        while node[0] & self._must != self._must:
            if self._steps > self._steps_max:
                return self._judged(Verdict.UNKNOWN, longest, stuck_at)
            found = next(((i, after) for i, after in moves if after not in seen), None)
            if found is not None:
                path.append((node, moves, taken))
                taken, node = found
                seen.add(node)
                moves = self._moves(node)
                if len(path) > len(longest):
                    longest, stuck_at = [i for _, _, i in path[1:]] + [taken], node[0]
            elif path:
                node, moves, taken = path.pop()
            else:
                return self._judged(Verdict.WRONG, longest, stuck_at)
        return self._judged(Verdict.LINEARIZABLE, [i for _, _, i in path[1:]] + [taken], node[0])

    def _judged(self, verdict: Verdict, order: list[int], done: int) -> Judgement:
        ops = self._ops
        stuck = () if verdict is Verdict.LINEARIZABLE else tuple(ops[i] for i in self._window(done))
        return Judgement(verdict, self._steps, tuple(ops[i] for i in order if i >= 0), stuck)

    def _window(self, done: int) -> list[int]:
        """Those that may come next: called before the first of what is left returned. Soonest end first."""
        bound = inf
        window = []
        left = ~done
        first = (left & -left).bit_length() - 1
        for i in range(first, len(self._ops)):
            op = self._ops[i]
            if op.called > bound:
                break
            if not done >> i & 1:
                window.append(i)
                bound = min(bound, op.returned)
        window.sort(key=lambda i: self._ops[i].returned)
        return window

    def _moves(self, node: Node) -> Iterator[tuple[int, Node]]:
        done, state = node
        window = self._window(done)
        possible: list[tuple[int, Node]] = []
        for i in window:
            op = self._ops[i]
            found = list(self._successors(state, op))
            self._steps += len(found)
            if not op.is_lost and state in found and all(one.lasting() == state.lasting() for one in found):
                # It fits here and changes nothing, so whatever comes can come behind it as well. Not so what
                # may also have been done afresh: a request of a day ago that gets the same answer.
                yield i, (done | 1 << i, state)
                return
            for after in found:
                if op.is_lost and after._replace(now=state.now) == state:
                    continue  # the same as if it never happened, which is left open
                possible.append((i, (done | 1 << i, after)))
        self._steps += 1
        yield from possible
        # Whoever has to end first, and has no reply, may never have happened.
        if window and self._ops[window[0]].is_lost:
            yield window[0], (done | 1 << window[0], state)

    def _successors(self, state: State, op: Op) -> Iterator[State]:
        may_be_lost = op.called < self._last_crash
        return successors(state, op.command, op.reply, op.called_ns, op.returned_ns, may_be_lost=may_be_lost)
