"""Two shops are asked the same; one has checkpoints and loses its power again and again. Nobody can tell.

Their clocks stand still, so nothing comes to a deadline; tokens rise faster behind a restart, so answers name
holds by their number.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.hall import REFUSALS, Ask, Words, answer_of, make_hall
from tests.proof import scaled, share
from tests.shop import Shop

SEEDS = scaled(200, 10_000)
PARTS = 4
STEPS = 60
DAY_MS = 86_400_000
OWNERS = ("ann", "bob", "eve")
PLACES = 12

pytestmark = pytest.mark.proof


class Twin:
    """A shop, and the holds that it gave out in their order."""

    def __init__(self) -> None:
        self.shop = Shop()
        self.tokens: list[int] = []
        ask: Ask = lambda *words: self.shop.ask(*words)  # noqa: E731
        self.ask = ask
        make_hall(ask)
        ask("KL.CREATE", "door", "SCHEMA", "left", "COUNTER", "state", "U8", "INDEX")
        ask("KL.INSERT", "door:1", "left", PLACES)

    def tell(self, words: Words) -> Any:
        """The answer, with a hold's number for its token; a word `Of(n)` is the token of the n-th hold."""
        answer = answer_of(self.ask, tuple(self._word(word) for word in words))
        if words[0] == "KL.HOLD" and isinstance(answer, list) and answer:
            if answer[0] not in self.tokens:
                self.tokens.append(answer[0])
            return [self.tokens.index(answer[0]), answer[1]]
        if words[0] == "KL.HOLDS":
            return [[self.tokens.index(token), *more] for token, *more in answer]
        if words[0] == "KL.EXTEND":
            return answer if answer in REFUSALS else "extended"
        return answer

    def _word(self, word: Any) -> Any:
        return self.tokens[word.number] if isinstance(word, Of) else word


class Of:
    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"hold {self.number}"


class Customer:
    """Asks at random, and sends again what it asked before."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._sent: list[Words] = []
        self.holds = 0

    def words(self) -> Words:
        source = self._random
        if self._sent and source.random() < 0.25:
            return source.choice(self._sent)
        kinds = [self._claim, self._hold, self._hold, self._return]
        if self.holds:
            kinds += [self._confirm, self._confirm, self._release, self._extend]
        words = source.choice(kinds)()
        self._sent = [*self._sent[-11:], words]
        return words

    def _end(self) -> Words:
        source = self._random
        words: Words = ("REQUEST", f"r{source.randrange(200)}") if source.random() < 0.6 else ()
        return ("MAX", source.randrange(2, 9), *words) if source.random() < 0.3 else words

    def _what(self) -> Words:
        """Of the hall or of the door; with what is written, where it is a claim."""
        source = self._random
        if source.random() < 0.4:
            return "door", "IDS", 1, 1, "TAKE", source.randrange(1, 5), "FROM", "left"
        chosen = source.sample(range(1, 11), source.randrange(1, 4))
        which: Words = source.choice((("COUNT", len(chosen)), ("IDS", len(chosen), *chosen)))
        return "hall", "state", 0, *which

    def _claim(self) -> Words:
        table, *what = self._what()
        change = ("SET", "state", 1) if table == "hall" else ()
        owner = ("FOR", self._random.choice(OWNERS))
        return "KL.CLAIM", table, *what, *change, *owner, *self._end()

    def _hold(self) -> Words:
        table, *what = self._what()
        words: Words = (
            "KL.HOLD",
            table,
            *what,
            "PX",
            DAY_MS,
            "FOR",
            self._random.choice(OWNERS),
            *self._end(),
        )
        if self.holds and self._random.random() < 0.3:
            words += ("REPLACING", Of(self._random.randrange(self.holds)))
        return words

    def _one(self) -> Of:
        return Of(max(0, self.holds - 1 - int(self._random.expovariate(0.4))))

    def _confirm(self) -> Words:
        return "KL.CONFIRM", self._one(), "SET", "state", self._random.choice((1, 1, 1, 2))

    def _release(self) -> Words:
        return "KL.RELEASE", self._one()

    def _extend(self) -> Words:
        return "KL.EXTEND", self._one(), "PX", DAY_MS

    def _return(self) -> Words:
        source, owner = self._random, self._random.choice(OWNERS)
        end = ("REQUEST", f"r{source.randrange(200)}") if source.random() < 0.4 else ()
        if source.random() < 0.5:
            return "KL.RETURN", "door", "FOR", owner, 1, "TAKE", source.randrange(1, 5), "FROM", "left", *end
        ids = source.sample(range(1, 11), 4)
        return "KL.RETURN", "hall", "FOR", owner, *ids, "SET", "state", 0, *end


LOOKS: list[Words] = [
    ("KL.HOLDS", "hall"),
    ("KL.HOLDS", "door"),
    ("KL.INTERSECT", "hall", "state", 0),
    ("KL.INTERSECT", "hall", "state", 0, "FREE"),
    ("KL.SEEK", "door:1"),
]


def play(seed: int) -> None:
    source = random.Random(f"twins {seed}")
    one, other, customer = Twin(), Twin(), Customer(source)
    told: list[str] = []
    for step in range(STEPS):
        chance = source.random()
        if chance < 0.35:
            one.shop.checkpoint()
            told.append("checkpoint")
        elif chance < 0.42:
            one.shop.crash()
            told.append("crash")
        asked = [customer.words(), *(LOOKS if step % 5 == 4 else ())]
        for words in asked:
            found, expected = one.tell(words), other.tell(words)
            told.append(f"{words} -> {expected}")
            assert found == expected, f"{found!r} behind restarts; replay: play({seed})\n" + "\n".join(
                told[-40:]
            )
        customer.holds = len(other.tokens)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(3600)
def test_restarts_and_checkpoints_change_no_answer(part: int, figure: Callable[[str, int], None]) -> None:
    for seed in share(SEEDS, part, PARTS):
        play(seed)
        figure("B3 seeds, twins of which one is put away", 1)
