"""Remembered answers: what a command that bore a REQUEST answered, so that a resend gets it again.

A table's answers lie in generations by age, and a generation goes when its youngest answer may: so nothing
is kept per answer but itself (150 bytes and the reply), and to forget costs a step of a few at a time.

Invariant: an answer is there for at least the time that it is to be kept; what makes room otherwise is
refusing new ones (`Memory.has_room`), never forgetting.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

KEEP_NS = 86_400 * 1_000_000_000
BYTES_MAX = 512 << 20
ENTRY_BYTES = 160  # key, value and their place in a dict, beside the answer: measured
GENERATIONS = 4  # in the time that answers are kept
_FORGET_AT_ONCE = 4
_HEAD = struct.Struct("<Q16s")  # log position of the command's end, digest of its arguments


class Memory:
    """The room that all tables' answers, and holds that ended, share."""

    def __init__(self, bytes_max: int = BYTES_MAX, keep_ns: int = KEEP_NS) -> None:
        self.bytes_max = bytes_max
        self.keep_ns = keep_ns
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        return self.bytes < self.bytes_max


class _Generation:
    __slots__ = ("answers", "newest", "oldest")

    def __init__(self, now: int) -> None:
        self.oldest = self.newest = now
        self.answers: dict[int, bytes] = {}


class Requests:
    """One table's. Times are ns of the monotonic clock, or of the store's own while it loads."""

    __slots__ = ("_generations", "_memory", "_old")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._generations: list[_Generation] = []
        self._old: list[dict[int, bytes]] = []  # to be forgotten

    def __len__(self) -> int:
        return sum(len(generation.answers) for generation in self._generations)

    def answers(self) -> list[tuple[int, bytes, bytes]]:
        """All that are remembered, as keys, digests of the arguments and answers."""
        found = [item for generation in self._generations for item in generation.answers.items()]
        return sorted((key, value[8 : _HEAD.size], value[_HEAD.size :]) for key, value in found)

    def find(self, request: bytes) -> tuple[int, bytes, bytes] | None:
        """Position, digest of the arguments, answer; None when it is not known (any more)."""
        if not self._generations:
            return None
        key = _key(request)
        for generation in reversed(self._generations):
            found = generation.answers.get(key)
            if found is not None:
                position, args = _HEAD.unpack_from(found)
                return position, args, found[_HEAD.size :]
        return None

    def remember(self, request: bytes, position: int, args: bytes, answer: bytes, now: int) -> None:
        self.forget_old(now, _FORGET_AT_ONCE)
        generations = self._generations
        if not generations or now - generations[-1].oldest >= self._memory.keep_ns // GENERATIONS:
            generations.append(_Generation(now))
        generations[-1].newest = max(now, generations[-1].newest)
        generations[-1].answers[_key(request)] = _HEAD.pack(position, args) + answer
        self._memory.bytes += ENTRY_BYTES + len(answer)

    def forget_old(self, now: int, most: int) -> None:
        """Lets go of at most so many answers whose time is over."""
        generations, keep = self._generations, self._memory.keep_ns
        while generations and generations[0].newest + keep <= now:
            self._old.append(generations.pop(0).answers)
        while self._old and most:
            if not self._old[-1]:
                self._old.pop()
                continue
            _, value = self._old[-1].popitem()
            self._memory.bytes -= ENTRY_BYTES + len(value) - _HEAD.size
            most -= 1

    def shift(self, ns: int) -> None:
        for generation in self._generations:
            generation.oldest += ns
            generation.newest += ns

    def drop(self) -> None:
        """The table is gone."""
        for answers in (*self._old, *(generation.answers for generation in self._generations)):
            self._memory.bytes -= sum(ENTRY_BYTES + len(value) - _HEAD.size for value in answers.values())
        self._generations, self._old = [], []


def _key(request: bytes) -> int:
    """Of 128 bits: 16 bytes less than the bytes themselves, and no two requests share one."""
    return int.from_bytes(blake2b(request, digest_size=16).digest(), "little")
