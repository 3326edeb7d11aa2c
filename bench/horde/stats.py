"""What a herd's workers record, and what is reckoned from it: percentiles, seconds, books, the verdict.

Times of samples are microseconds (`_us`); moments are milliseconds since the barrier's release (`_ms`).
Nothing here is rounded to a bucket: each sample is kept in an array, and a percentile is one of them.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


@dataclass(frozen=True)
class Kind:
    """What the record of a flow is made of."""

    commands: tuple[str, ...]
    events: tuple[str, ...]
    refused: tuple[str, ...]  # the events that are errors the server answered: commands, but no samples
    conflict: str  # the event that one must ask again after
    left: tuple[str, ...]  # the events that a user leaves with who buys nothing
    sums: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of commands that are counted together
    sells_all: bool = False  # nothing may be left at the end

    @property
    def columns(self) -> tuple[str, ...]:
        """What is counted per second."""
        return (*self.sums, "commands", "sold", *self.events)

    @property
    def rated(self) -> tuple[str, ...]:
        """The columns that QPS are of: the seed's reads and updates, elsewhere all that was answered."""
        return tuple(self.sums) or ("commands",)


SEED = Kind(
    commands=("INTERSECT", "TRYLOCK", "SEEK", "REPLACE", "UNLOCK"),
    sums={"reads": ("INTERSECT", "SEEK"), "updates": ("REPLACE",)},
    refused=("lease_lost",),
    events=("lock_conflicts", "already_sold", "no_ticket", "lease_lost", "exhausted"),
    conflict="lock_conflicts",
    left=("no_ticket",),
)


def _arrays(names: Iterable[str]) -> dict[str, array[int]]:
    return {name: array("I") for name in names}


@dataclass
class Tally:
    """One worker's record, or several merged. `took_us` and `ended_ms` of a command go together, and so do
    the columns of a sale, of which `sold_us` counts from its buyer's first call."""

    kind: Kind = SEED
    took_us: dict[str, array[int]] = field(init=False)
    ended_ms: dict[str, array[int]] = field(init=False)
    events_ms: dict[str, array[int]] = field(init=False)
    sold_seat: array[int] = field(default_factory=lambda: array("I"))
    sold_buyer: array[int] = field(default_factory=lambda: array("I"))
    sold_worker: array[int] = field(default_factory=lambda: array("I"))
    sold_ms: array[int] = field(default_factory=lambda: array("I"))
    sold_us: array[int] = field(default_factory=lambda: array("I"))
    round_trips: int = 0

    def __post_init__(self) -> None:
        self.took_us = _arrays(self.kind.commands)
        self.ended_ms = _arrays(self.kind.commands)
        self.events_ms = _arrays(self.kind.events)

    def event(self, name: str) -> int:
        return len(self.events_ms[name])

    def count(self, commands: Iterable[str]) -> int:
        """How many of these commands were done, not refused."""
        return sum(len(self.took_us[command]) for command in commands)

    def answered(self) -> int:
        """How many commands were answered, with a refusal too."""
        return self.count(self.kind.commands) + sum(map(self.event, self.kind.refused))

    def snapshot(self) -> list[int]:
        """Counts in the order of the kind's columns."""
        row = [self.count(commands) for commands in self.kind.sums.values()]
        row += [self.answered(), len(self.sold_seat)]
        return row + [len(self.events_ms[name]) for name in self.kind.events]

    def add(self, other: Tally) -> None:
        pairs = (
            (self.took_us, other.took_us),
            (self.ended_ms, other.ended_ms),
            (self.events_ms, other.events_ms),
        )
        for mine, theirs in pairs:
            for name, values in theirs.items():
                mine[name].extend(values)
        self.sold_seat.extend(other.sold_seat)
        self.sold_buyer.extend(other.sold_buyer)
        self.sold_worker.extend(other.sold_worker)
        self.sold_ms.extend(other.sold_ms)
        self.sold_us.extend(other.sold_us)
        self.round_trips += other.round_trips


def percentile(ordered: Sequence[int], fraction: float) -> int:
    """The nearest-rank percentile: the smallest sample with at least `fraction` of all at or below it.

    `ordered` is sorted; 0 when it is empty.
    """
    if not ordered:
        return 0
    # The product may lie a hair above the whole number that it is: 0.07 * 100 is 7.000000000000001.
    rank = math.ceil(round(fraction * len(ordered), 6))
    return ordered[max(rank, 1) - 1]


def summary(samples_us: Iterable[int]) -> dict[str, int]:
    """count, exact percentiles and max of samples, in the samples' unit."""
    ordered = sorted(samples_us)
    report = {"count": len(ordered)}
    report |= {name: percentile(ordered, fraction) for name, fraction in PERCENTILES}
    report["max"] = ordered[-1] if ordered else 0
    return report


def merged(samples: Mapping[str, array[int]], names: Iterable[str]) -> array[int]:
    together = array("I")
    for name in names:
        together.extend(samples[name])
    return together


def per_second(tally: Tally, wall_seconds: float) -> list[dict[str, int]]:
    """What ended in each second since the release; the last one may be a part of a second."""
    rows = per_interval(tally, wall_seconds, 1000)
    return [{"second": second} | row for second, row in enumerate(rows)]


def per_interval(tally: Tally, wall_seconds: float, interval_ms: int) -> list[dict[str, int]]:
    kind = tally.kind
    by_command = {name: _intervals(tally.ended_ms[name], interval_ms) for name in kind.commands}
    columns = {name: _intervals(tally.events_ms[name], interval_ms) for name in kind.events}
    columns["sold"] = _intervals(tally.sold_ms, interval_ms)
    rows = []
    for number in range(max(1, math.ceil(wall_seconds * 1000 / interval_ms))):
        row = {
            name: sum(by_command[command][number] for command in commands)
            for name, commands in kind.sums.items()
        }
        row["commands"] = sum(counts[number] for counts in by_command.values())
        row["commands"] += sum(columns[name][number] for name in kind.refused)
        rows.append(row | {name: counts[number] for name, counts in columns.items()})
    return rows


def _intervals(moments_ms: array[int], interval_ms: int) -> Counter[int]:
    return Counter(moment // interval_ms for moment in moments_ms)


def peak_qps(seconds: Iterable[Mapping[str, int]], rated: Sequence[str]) -> int:
    """The sum of these columns in the best second; one that the end cut short counts only what it has."""
    return max((sum(row[name] for name in rated) for row in seconds), default=0)


@dataclass(frozen=True)
class Books:
    """The clients' own books: who bought which seat, and which seats were sold more than once."""

    buyers: dict[int, int]
    double_sold: tuple[int, ...]

    @classmethod
    def of(cls, seats: Iterable[int], buyers: Iterable[int]) -> Books:
        ledger: dict[int, int] = {}
        twice: set[int] = set()
        for seat, buyer in zip(seats, buyers, strict=True):
            if seat in ledger:
                twice.add(seat)
            ledger[seat] = buyer
        return cls(ledger, tuple(sorted(twice)))


@dataclass(frozen=True)
class Stored:
    """What was re-read from storage after the storm. Where it could not be, `verified_sold` is None, and the
    only complaint says why."""

    verified_sold: int | None
    buyers: dict[int, int]  # of every row that is booked
    rows: int
    complaints: tuple[str, ...] = ()  # what the store's own verification found wrong
    details: dict[str, int] = field(default_factory=dict)

    @classmethod
    def unread(cls, why: object) -> Stored:
        return cls(None, {}, 0, (f"storage could not be re-read: {why}",))


@dataclass(frozen=True)
class Outcome:
    """A finished herd. `problems` is empty exactly when the exit status is to be 0."""

    users: int
    seats: int
    tally: Tally
    stored: Stored
    books: Books
    failed_workers: int
    wall_seconds: float

    @property
    def sold(self) -> int:
        return len(self.tally.sold_seat)

    def problems(self) -> list[str]:
        found = list(self.stored.complaints)
        if self.stored.verified_sold is not None:
            found += self._differences(self.stored.verified_sold)
        if self.books.double_sold:
            found.append(f"{len(self.books.double_sold)} seats sold twice: {_some(self.books.double_sold)}")
        if self.failed_workers:
            found.append(f"{self.failed_workers} workers failed")
        else:
            found += self._unfinished()
        return found

    def _differences(self, verified_sold: int) -> list[str]:
        """Between the books and storage."""
        found = []
        if self.sold != verified_sold:
            found.append(f"sold {self.sold} != verified_sold {verified_sold}")
        wrong = sorted(
            seat
            for seat in self.books.buyers.keys() | self.stored.buyers.keys()
            if self.books.buyers.get(seat) != self.stored.buyers.get(seat)
        )
        if wrong:
            found.append(f"{len(wrong)} seats whose stored buyer is not the one in the books: {_some(wrong)}")
        if self.stored.rows != self.seats:
            found.append(f"{self.stored.rows} rows in storage, not {self.seats}")
        return found

    def _unfinished(self) -> list[str]:
        """What workers that came to their end left undone; of one that failed nothing else is expected."""
        found = []
        kind = self.tally.kind
        served = self.sold + sum(self.tally.event(name) for name in kind.left)
        if served != self.users:
            found.append(f"{served} users were served, not {self.users}")
        if kind.sells_all and self.sold != self.seats:
            found.append(f"{self.seats - self.sold} of {self.seats} were not sold")
        return found


def _some(seats: Sequence[int]) -> str:
    return ", ".join(map(str, seats[:10])) + (" ..." if len(seats) > 10 else "")
