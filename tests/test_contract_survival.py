"""What the selling verbs promised is there after a stop, a kill -9 and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from klani_resp.__main__ import main
from tests.conftest import frame
from tests.hall import (
    MINUTE_MS,
    Ask,
    answer_of,
    claim,
    confirm,
    ended,
    free,
    give_back,
    held,
    hold,
    make_hall,
    states,
)

if TYPE_CHECKING:
    from bench.harness.launch import Server
    from tests.conftest import Wire

Start = Callable[..., "Server"]
WAYS = ("stop", "kill", "checkpoint, kill", "checkpoint, stop", "kill, kill", "checkpoint, checkpoint, kill")
HOLD_MS = 30_000


class Life:
    """A server that dies and comes back, and the one client that asks it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._open()

    def _open(self) -> None:
        self.server = self._start()
        self.client: Any = redis.Redis(port=self.server.port)
        self.ask: Ask = self.client.execute_command

    def end(self, *ways: str) -> None:
        """Each of them, and a start behind each death; what lies on disk is sound every time."""
        for way in ways:
            if way == "checkpoint":
                verdict = self.ask("KL.VERIFY", "hall", "state", 0)
                assert verdict[b"ok"] == 1
                continue
            self.client.close()
            if way == "kill":
                self.server.process.kill()
                self.server.process.wait()
            else:
                assert self.server.stop() == 0
            assert main(["check", str(self.server.directory)]) == 0
            self._open()


@pytest.fixture
def life(start: Start) -> Any:
    one = Life(start)
    yield one
    one.client.close()


def new_hall(life: Life) -> Ask:
    return make_hall(lambda *words: life.ask(*words))


@pytest.mark.parametrize("way", WAYS)
def test_holds_survive(life: Life, way: str) -> None:
    """Live ones, ended ones, released, replaced and paid ones: each is after it what it was before."""
    hall = new_hall(life)
    late, _ = ended(hall, "IDS", 1, 9)
    resold, _ = ended(hall, "IDS", 1, 10)
    assert hall(*claim("IDS", 1, 10)) == [10]
    live, ids, deadline = hall(*hold("COUNT", 2, px=HOLD_MS))
    assert ids == [1, 2]
    released, _ = held(hall, "IDS", 1, 3)
    assert hall("KL.RELEASE", released) == 1
    replaced, _ = held(hall, "IDS", 1, 4)
    cart, _ = held(hall, "IDS", 2, 4, 5, "REPLACING", replaced, owner="ann")
    paid, _ = held(hall, "IDS", 1, 6, owner="bob")
    assert hall(*confirm(paid, "buyer", 7)) == [6]
    extended, _ = held(hall, "IDS", 1, 7, owner="bob", px=20_000)
    assert hall("KL.EXTEND", extended, "PX", 80_000_000) > deadline
    life.end(*way.split(", "))
    shown = sorted(hall("KL.HOLDS", "hall"))
    assert [one[:3] for one in shown] == [
        [live, b"ann", [1, 2]],
        [cart, b"ann", [4, 5]],
        [extended, b"bob", [7]],
    ]
    assert shown[2][3] > 79_000_000
    assert free(hall) == [3, 8, 9]
    assert states(hall) == [6, 10]
    assert answer_of(hall, claim("IDS", 1, 1)) == "BUSY"
    assert hall("KL.TRYLOCK", "hall:1") is None
    for token in (released, replaced):
        assert answer_of(hall, confirm(token)) == "NOHOLD"
    assert answer_of(hall, confirm(resold)) == "RESOLD"
    assert hall(*confirm(paid, "buyer", 7)) == [6]
    assert answer_of(hall, confirm(paid, "buyer", 8)) == "REQUEST"
    assert hall(*confirm(late)) == [9], "a late payment"
    assert hall(*confirm(live)) == [1, 2]
    assert hall("KL.RELEASE", cart) == 2
    assert answer_of(hall, claim("FOR", "ann", "MAX", 3)) == "LIMIT", "3 of hers are sold"
    token, ids = held(hall, "MAX", 4)
    assert ids == [3]
    assert token > extended


@pytest.mark.parametrize("way", WAYS)
def test_requests_and_owners_survive(life: Life, way: str) -> None:
    hall = new_hall(life)
    bought = claim("COUNT", 2, "FOR", "ann", "MAX", 2, "REQUEST", "r1")
    assert hall(*bought) == [1, 2]
    cart = hold("COUNT", 2, "REQUEST", "r2", owner="bob", px=HOLD_MS)
    first = hall(*cart)
    assert first[1] == [3, 4]
    assert hall(*claim("FOR", "eve")) == [5]
    refund = give_back(5, owner="eve", more=("REQUEST", "r3"))
    assert hall(*refund) == 1
    sold_out = claim("IDS", 1, 99, "REQUEST", "r4")
    assert hall(*sold_out) == []
    life.end(*way.split(", "))
    assert hall(*bought) == [1, 2]
    assert hall(*cart) == first, "to the letter, whatever its deadline is now"
    assert hall(*refund) == 1
    assert states(hall) == [1, 2]
    for other in (claim("REQUEST", "r1"), claim("REQUEST", "r2"), hold("REQUEST", "r3")):
        assert answer_of(hall, other) == "REQUEST"
    assert hall(*sold_out) == []
    assert hall(*claim("REQUEST", "r4")) == [5], "an empty answer is not remembered"
    assert answer_of(hall, claim("FOR", "ann", "MAX", 2)) == "LIMIT"
    assert hall(*give_back(1, 2, 3)) == 2
    assert hall(*give_back(5, owner="eve")) == 0
    assert hall(*claim("COUNT", 2, "FOR", "ann", "MAX", 2)) == [1, 2]
    life.end("kill")
    assert hall(*bought) == [1, 2]
    assert hall(*cart) == first


@pytest.mark.parametrize("way", WAYS[:3])
def test_counters_survive(life: Life, way: str) -> None:
    ask: Ask = lambda *words: life.ask(*words)  # noqa: E731
    ask("KL.CREATE", "hall", "SCHEMA", "left", "COUNTER", "state", "U8", "INDEX")
    ask("KL.INSERT", "hall:1", "left", 10)
    units = ("KL.CLAIM", "hall", "IDS", 1, 1, "TAKE")
    more = ("PX", MINUTE_MS, "FOR", "ann")
    assert ask(*units, 2, "FROM", "left", "FOR", "ann", "REQUEST", "r") == [1]
    token, _, _ = ask("KL.HOLD", "hall", "IDS", 1, 1, "TAKE", 3, "FROM", "left", *more)
    paid, _, _ = ask("KL.HOLD", "hall", "IDS", 1, 1, "TAKE", 1, "FROM", "left", *more)
    assert ask("KL.CONFIRM", paid, "SET", "state", 1) == [1]
    life.end(*way.split(", "))
    assert life.client.execute_command("KL.SEEK", "hall:1", "left") in ({b"left": 7}, [b"left", 7])
    assert ask(*units, 2, "FROM", "left", "FOR", "ann", "REQUEST", "r") == [1]
    assert answer_of(ask, (*units, 5, "FROM", "left")) == "BUSY"
    assert answer_of(ask, (*units, 8, "FROM", "left")) == []
    assert answer_of(ask, (*units, 1, "FROM", "left", "FOR", "ann", "MAX", 6)) == "LIMIT"
    assert ask("KL.CONFIRM", paid, "SET", "state", 1) == [1]
    assert ask(*units, 4, "FROM", "left") == [1]
    assert ask("KL.RELEASE", token) == 3
    assert ask("KL.RETURN", "hall", "FOR", "ann", 1, "TAKE", 3, "FROM", "left", "SET", "state", 0) == 3
    assert ask(*units, 6, "FROM", "left") == [1]
    assert ask(*units, 1, "FROM", "left") == []


def _ms() -> float:
    return time.monotonic() * 1000


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_hold_is_never_shorter_than_told(life: Life, way: str) -> None:
    """What is left behind a restart is at least what was told, less the time that the server was up."""
    hall = new_hall(life)
    began = _ms()
    token, _, _ = hall(*hold(px=HOLD_MS))
    life.client.close()
    if way == "kill":
        life.server.process.kill()
        life.server.process.wait()
    else:
        assert life.server.stop() == 0
    up = _ms() - began
    began = _ms()
    life._open()
    (shown,) = hall("KL.HOLDS", "hall")
    up += _ms() - began
    assert shown[0] == token
    assert HOLD_MS - up - 2 <= shown[3] <= HOLD_MS + 1


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_transaction_of_claims_survives_whole_or_not_at_all(
    life: Life, wire: Callable[..., Wire], checkpoint: bool
) -> None:
    """Sent and killed at once: claims, holds and returns of one EXEC are all there, or none of them."""
    hall = new_hall(life)
    assert hall(*claim("IDS", 1, 10, "FOR", "ann")) == [10]
    if checkpoint:
        life.end("checkpoint")
    one = wire(life.server.port)
    words = [claim("REQUEST", "r"), hold("COUNT", 2, "REQUEST", "s"), claim("COUNT", 3, "FOR", "bob")]
    words.append(give_back(10))
    one.send_bytes(frame("MULTI") + b"".join(frame(*each) for each in words) + frame("EXEC"))
    life.end("kill")
    done = states(hall) == [1, 4, 5, 6]
    if not done:
        assert states(hall) == [10]
    assert len(hall("KL.HOLDS", "hall")) == done
    assert free(hall) == ([7, 8, 9, 10] if done else [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert hall(*claim("REQUEST", "r")) == [1]
    assert hall(*hold("COUNT", 2, "REQUEST", "s"))[1] == [2, 3]
    assert hall(*give_back(10)) == (not done)
    assert hall(*give_back(4, 5, 6, owner="bob")) == 3 * done


def test_drop_stays_dropped(life: Life) -> None:
    hall = new_hall(life)
    words = claim("COUNT", 2, "REQUEST", "r")
    token, _ = held(hall)
    late, _ = ended(hall, "IDS", 1, 2)
    assert hall(*words) == [2, 3]
    assert hall("KL.DROP", "hall") == 1
    life.end("kill")
    new_hall(life)
    life.end("checkpoint", "kill")
    for old in (token, late):
        assert answer_of(hall, confirm(old)) == "NOHOLD"
        assert hall("KL.RELEASE", old) == 0
    assert hall("KL.HOLDS", "hall") == []
    assert hall(*words) == [1, 2]


def test_check_says_so_of_a_directory_with_holds(life: Life, tmp_path: Path) -> None:
    hall = new_hall(life)
    held(hall, "COUNT", 2)
    assert hall(*claim("FOR", "ann", "REQUEST", "r")) == [3]
    assert life.server.stop() == 0
    assert main(["check", str(tmp_path / "data")]) == 0
