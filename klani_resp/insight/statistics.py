"""What each command has cost: calls, time, refusals, and how the times are spread. INFO renders it.

A compiled command counts itself, with two looks at the clock: `ns`, and one of `fine`, buckets of 128 ns.
What does not fit in there goes the slow way (`slow`), and only there somebody may look on: so SLOWLOG and
MONITOR cost nothing but to what they are to see. `watch` cuts `fine` off where the first one begins to see.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate, compress

from commands.spec import Context

FINE_SHIFT = 7  # a bucket is 128 ns wide
FINE_BUCKETS = 256  # up to 33 us: what takes longer may end its client's turn
LONG_NS = FINE_BUCKETS << FINE_SHIFT
COARSE_BITS = 5  # above it, so many digits of a time are kept: within 6 %
US_SHIFT = 10  # of a histogram's microseconds: 1,024 ns, as in Redis, so that no bucket lies across a bound
# Where in `fine` the times are that a histogram has below a bound, and not below the one before.
_FINE_BELOW = {1: slice(0, 1 << US_SHIFT - FINE_SHIFT)} | {
    1 << k: slice(1 << k + US_SHIFT - FINE_SHIFT - 1, 1 << k + US_SHIFT - FINE_SHIFT)
    for k in range(1, FINE_BUCKETS.bit_length() + FINE_SHIFT - US_SHIFT)
}
ERROR_KINDS_MAX = 128  # first words of errors; Redis stops at as many

Watcher = Callable[[str, int, Context, list[bytes]], None]  # command, ns, for whom, what was sent


class CommandStatistics:
    """A command's, or subcommand's. Times are those on the loop or in its job, without waits for the disk."""

    __slots__ = ("_coarse", "_cut_off", "_owner", "command", "failed", "fine", "name", "ns", "rejected")

    def __init__(self, name: str, owner: Statistics) -> None:
        self.name = name  # of a subcommand `CONFIG|GET`
        self.command = name.partition("|")[0]
        self.ns = 0
        self.failed = 0  # answered an error
        self.rejected = 0  # refused before they began: arity, permission, a full disk
        self.fine = [0] * FINE_BUCKETS
        self._cut_off: list[int] = []  # of `fine`, while somebody is to see the times that it has buckets for
        self._coarse: Counter[int] = Counter()  # by the least ns of the bucket
        self._owner = owner

    @property
    def calls(self) -> int:
        return sum(self.fine) + sum(self._cut_off) + self._coarse.total()

    def slow(self, ns: int, context: Context, argv: list[bytes]) -> None:
        """A call that somebody may be to see; `ns` has its time already."""
        place = ns >> FINE_SHIFT
        if place >= FINE_BUCKETS:
            self._coarse[_least(ns)] += 1
            context.client.took_long()
        elif place >= len(self.fine):
            self._cut_off[place - len(self.fine)] += 1
        else:
            self.fine[place] += 1
        self._owner.seen(self.command, ns, context, argv)

    def took(self, ns: int, context: Context, argv: list[bytes]) -> None:
        """A call that was measured elsewhere."""
        self.ns += ns
        self.slow(ns, context, argv)

    def fail(self, text: str) -> None:
        self.failed += 1
        self._owner.count_error(text)

    def reject(self, reply: bytes) -> bytes:
        """Passes an error reply on."""
        self.rejected += 1
        self._owner.count_error(reply[1:].decode("utf-8", "surrogateescape"))
        return reply

    # INFO and LATENCY ask for all commands at once, and nobody is served meanwhile: so it is C, not Python,
    # that looks at all buckets of `fine`.

    def percentiles(self, wanted: Iterable[float]) -> list[float]:
        """Times in us, below which so many per cent of the calls were; to the middle of a bucket."""
        coarse = sorted(self._coarse.items())
        below = list(accumulate([*self.fine, *self._cut_off, *(count for _, count in coarse)]))
        places = [bisect_left(below, below[-1] * share / 100) for share in wanted]
        if not below[-1]:
            return [0.0 for _ in places]
        leasts = [
            place << FINE_SHIFT if place < FINE_BUCKETS else coarse[place - FINE_BUCKETS][0]
            for place in places
        ]
        return [(least + _width(least) / 2) / 1000 for least in leasts]

    def histogram(self) -> dict[int, int]:
        """How many calls took at most so many us, by powers of two, as LATENCY HISTOGRAM shows it.

        Cumulative and, as in Redis, without the bounds that add nothing: the last has all calls.
        """
        fine = self.fine + self._cut_off
        within = Counter({bound: sum(fine[part]) for bound, part in _FINE_BELOW.items()})
        for least, count in self._coarse.items():
            within[1 << (least >> US_SHIFT).bit_length()] += count
        bounds = sorted(compress(within, within.values()))
        return dict(zip(bounds, accumulate(within[bound] for bound in bounds), strict=True))

    def cut(self, buckets: int) -> None:
        """`fine` has so many from here on; in place, since a compiled command holds on to it."""
        fine = self.fine + self._cut_off
        self.fine[:], self._cut_off = fine[:buckets], fine[buckets:]

    def reset(self) -> None:
        self.ns = self.failed = self.rejected = 0
        self.fine[:] = [0] * len(self.fine)
        self._cut_off = [0] * len(self._cut_off)
        self._coarse.clear()


class Statistics:
    """All commands', and who looks on."""

    def __init__(self) -> None:
        self.commands: dict[str, CommandStatistics] = {}
        self.errors: Counter[str] = Counter()  # by the first word
        self._watchers: dict[str, tuple[int, Watcher]] = {}

    def of(self, name: str) -> CommandStatistics:
        found = self.commands.get(name)
        if found is None:  # those of subcommands begin when they are called first
            found = self.commands[name] = CommandStatistics(name, self)
            found.cut(self._buckets())
        return found

    def count_error(self, text: str) -> None:
        word = text.split(maxsplit=1)[0] if text.split() else ""
        if word in self.errors or len(self.errors) < ERROR_KINDS_MAX:
            self.errors[word] += 1

    def watch(self, who: str, from_ns: int, watcher: Watcher) -> None:
        """Shows `watcher` all calls that take `from_ns` or more, and few that take less; `who` has one."""
        self._watchers[who] = (from_ns, watcher)
        self._cut()

    def unwatch(self, who: str) -> None:
        self._watchers.pop(who, None)
        self._cut()

    def _cut(self) -> None:
        for command in self.commands.values():
            command.cut(self._buckets())

    def _buckets(self) -> int:
        """Of `fine`, below what anybody is to see."""
        from_ns = min((from_ns for from_ns, _ in self._watchers.values()), default=LONG_NS)
        return min(from_ns >> FINE_SHIFT, FINE_BUCKETS)

    def seen(self, name: str, ns: int, context: Context, argv: list[bytes]) -> None:
        for from_ns, watcher in list(self._watchers.values()):
            if ns >= from_ns:
                watcher(name, ns, context, argv)

    def reset(self) -> None:
        self.errors.clear()
        for command in self.commands.values():
            command.reset()


def _least(ns: int) -> int:
    """Of the bucket that a time falls into for which `fine` has none."""
    shift = ns.bit_length() - COARSE_BITS
    return ns >> shift << shift


def _width(least: int) -> int:
    return 1 << (FINE_SHIFT if least < LONG_NS else least.bit_length() - COARSE_BITS)
