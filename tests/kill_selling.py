"""A1's session of selling verbs: claims, holds and their ends, refunds, units of a counter.

Beyond the rows it is read who holds what, and how much each owner has (MAX says it and changes nothing).
After a death whatever was answered is sent again and must get the same answer, what may have been done must
be done once, and the rest of the session goes on; then each row's history has the writes that it had to get.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.engine import EngineOptions
from storage.recovery import Opening
from storage.schema import Schema
from tests.kill_scripts import Ask, Named, Script, Step, Words, kill
from tests.store import Contents, contents
from tests.zygote import SEGMENT_BYTES

HALL = b"hall"
LINE = 10  # seats of a row of the hall
SEATS = range(5 * LINE)
DOOR = 100  # sold by units
UNITS = 20
SCHEMA = [
    ["state", "U8", 1],
    ["seat", "U16", 0],
    ["line", "U8", 0],
    ["left", "COUNTER", 0],
    ["note", "BYTES 12", 0],
]
SHORT_MS, LONG_MS = 600_000, 3_600_000
OWNERS = (b"ann", b"bob", b"cid", b"dan")


def is_known_again(step: Step) -> bool:
    """Whether a resend gets the first answer to the letter."""
    return all(words[0] == "KL.CONFIRM" or "REQUEST" in words for words in step.commands)


class Desk:
    """Puts the session together, and is the model of what it does."""

    def __init__(self, script: Script, seed: int) -> None:
        self.script = script
        self.random = random.Random(seed)
        self.rows = {n: dict(values) for n, values in (script.begin or {})[HALL].items()}
        self.holds: dict[Named, tuple[bytes, list[int], int, bool]] = {}  # owner, rows, units, extended
        self.owned: Counter[bytes] = Counter()
        self.writes: dict[int, list[tuple[bytes, bytes | None]]] = {n: [] for n in self.rows}  # verb, owner
        self._requests = 0

    # --- steps ----------------------------------------------------------------------------------------

    def claim(self, owner: bytes, count: int, *options: object) -> None:
        self._step(self._claimed(owner, count, *options))

    def two_claims(self, owner: bytes) -> None:
        one, other = self._claimed(owner, 1), self._claimed(owner, 2)
        self._step((one[0][0], other[0][0]), None, lambda reply, again: reply == [one[1], other[1]])

    def _claimed(self, owner: bytes, count: int, *options: object) -> tuple[tuple[Words, ...], list[int]]:
        ids, note = self._lowest(count), b"n%d" % self.random.randrange(1000)
        for number in ids:
            self._write(number, b"claim", owner, state=1, note=note)
        self.owned[owner] += count
        words = ("KL.CLAIM", HALL, "state", 0, "SET", "state", 1, "note", note, "COUNT", count, *options)
        return ((*words, "FOR", owner, "MAX", 50, *self._request()),), ids

    def hold(self, name: Named, owner: bytes, ids: list[int] | int, *options: object) -> None:
        """Chosen rows, or so many."""
        chosen = ids if isinstance(ids, list) else self._lowest(ids)
        choice = ("IDS", len(chosen), *chosen) if isinstance(ids, list) else ("COUNT", ids)
        words = ("KL.HOLD", HALL, "state", 0, "PX", SHORT_MS, "FOR", owner, *choice, *options)
        self.holds[name] = (owner, chosen, 0, False)
        self._step(((*words, *self._request()),), name, _holds(chosen))

    def replace(self, old: Named, new: Named, count: int) -> None:
        owner, *_ = self.holds.pop(old)
        self.hold(new, owner, count, "REPLACING", old)

    def keep_units(self, name: Named, owner: bytes, units: int) -> None:
        words = ("KL.HOLD", HALL, "IDS", 1, DOOR, "TAKE", units, "FROM", "left", "PX", SHORT_MS, "FOR", owner)
        self.holds[name] = (owner, [DOOR], units, False)
        self._step(((*words, *self._request()),), name, _holds([DOOR]))

    def take_units(self, owner: bytes, units: int) -> None:
        self._write(DOOR, b"claim", owner, left=int(self.rows[DOOR][b"left"]) - units)
        self.owned[owner] += units
        words = ("KL.CLAIM", HALL, "IDS", 1, DOOR, "TAKE", units, "FROM", "left", "FOR", owner)
        self._step((((*words, *self._request()),), [DOOR]))

    def extend(self, name: Named) -> None:
        owner, ids, units, _ = self.holds[name]
        self.holds[name] = (owner, ids, units, True)
        self._step((("KL.EXTEND", name, "PX", LONG_MS),), None, lambda reply, again: isinstance(reply, int))

    def confirm(self, name: Named) -> None:
        owner, ids, units, _ = self.holds.pop(name)
        for number in ids:
            left = int(self.rows[number][b"left"]) - units
            sold = {} if units else {"state": 1}
            self._write(number, b"confirm", owner, left=left, note=b"paid", **sold)
        self.owned[owner] += units or len(ids)
        changes = ("note", "paid") if units else ("state", 1, "note", "paid")
        self._step(((("KL.CONFIRM", name, "SET", *changes),), ids))

    def release(self, name: Named) -> None:
        _, ids, units, _ = self.holds.pop(name)
        may_answer = units or len(ids), 0
        self._step((("KL.RELEASE", name),), None, lambda reply, again: reply in may_answer[: 1 + again])

    def bring_back(self, owner: bytes, ids: list[int]) -> None:
        for number in ids:
            self._write(number, b"return", owner, state=0, note=b"")
        self.owned[owner] -= len(ids)
        words = ("KL.RETURN", HALL, "FOR", owner, *ids, "SET", "state", 0, "note", "", *self._request())
        self._step(((words,), len(ids)))

    def bring_back_units(self, owner: bytes, units: int) -> None:
        self._write(DOOR, b"return", owner, left=int(self.rows[DOOR][b"left"]) + units)
        self.owned[owner] -= units
        words = ("KL.RETURN", HALL, "FOR", owner, DOOR, "TAKE", units, "FROM", "left", *self._request())
        self._step(((words,), units))

    def verify(self) -> None:
        """A checkpoint comes with it."""
        self._step((("KL.VERIFY", HALL, "state", 1),), None, lambda reply, again: is_ok(reply))

    # --- their parts ----------------------------------------------------------------------------------

    def _step(
        self,
        asked: Any,
        named: Named | None = None,
        fits: Callable[[Any, bool], bool] | None = None,
    ) -> None:
        if fits is None:
            asked, right = asked

            def fits(reply: Any, again: bool) -> bool:
                return bool(reply == right)

        self.script.steps.append(Step(asked, self.now(), named, fits))

    def now(self) -> Contents:
        totals = Counter(self.owned)
        for owner, ids, units, _ in self.holds.values():
            totals[owner] += units or len(ids)
        holds = sorted((owner, ids, extended) for owner, ids, _, extended in self.holds.values())
        rows = {number: dict(values) for number, values in self.rows.items()}
        return {HALL: rows, **shown(holds, {owner: totals[owner] for owner in OWNERS})}

    def look_back(self, ask: Ask) -> None:
        """Behind the whole session: each write came to be once. The inserts' log may be gone."""
        for number, writes in self.writes.items():
            if not writes:
                continue
            (entries,) = ask(("KL.HISTORY", _key(number)))
            told = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in entries]
            found = [(one[b"verb"], one[b"owner"]) for one in told if one[b"verb"] != b"insert"]
            assert found == writes, f"row {number} was written by {found}, not by {writes}"
        (verdict,) = ask(("KL.VERIFY", HALL, "state", 1))
        assert is_ok(verdict), verdict

    def _request(self) -> tuple[object, ...]:
        self._requests += 1
        return "REQUEST", f"r{self._requests}"

    def _lowest(self, count: int) -> list[int]:
        held = {row for _, ids, units, _ in self.holds.values() if not units for row in ids}
        return [n for n in SEATS if self.rows[n][b"state"] == 0 and n not in held][:count]

    def _write(self, number: int, verb: bytes, owner: bytes, **changes: int | bytes) -> None:
        self.rows[number] |= {name.encode(): value for name, value in changes.items()}
        self.writes[number].insert(0, (verb, owner))


def _holds(ids: list[int]) -> Callable[[Any, bool], bool]:
    return lambda reply, again: len(reply) == 3 and reply[1] == ids


def is_ok(reply: Any) -> bool:
    return bool(dict(zip(reply[::2], reply[1::2], strict=True))[b"ok"] == 1)


def shown(holds: list[tuple[bytes, list[int], bool]], owned: dict[bytes, int]) -> Contents:
    """As tables of their own, so that all is compared as one."""
    return {b"'s holds": {0: {b"": repr(holds).encode()}}, b"'s owners": {0: {**owned}}}


def read(ask: Ask) -> Contents:
    """Also: what is held is not for sale."""
    (listed,) = ask(("KL.HOLDS", HALL))
    for _, _, ids, _ in listed:
        if ids == [DOOR]:
            (values,) = ask(("KL.SEEK", _key(DOOR), "left"))
            sale: Words = ("KL.CLAIM", HALL, "IDS", 1, DOOR, "TAKE", values[1], "FROM", "left")
        else:
            sale = ("KL.CLAIM", HALL, "state", 0, "SET", "state", 1, "IDS", len(ids), *ids)
            locks = ask(*(("KL.TRYLOCK", _key(row)) for row in ids))
            assert locks == [None] * len(ids), "what is held can be locked"
        (refused,) = ask(sale)
        assert refused[:5] == b"-BUSY", f"{ids} are held, and {sale} is answered {refused!r}"
    holds = sorted((owner, ids, ms_left > SHORT_MS) for _, owner, ids, ms_left in listed)
    return shown(holds, {owner: _owned(ask, owner) for owner in OWNERS})


def _owned(ask: Ask, owner: bytes) -> int:
    """`LIMIT the owner has 5 of at most 0 here`: nobody may have one more."""
    (refused,) = ask(("KL.CLAIM", HALL, "state", 0, "SET", "state", 1, "FOR", owner, "MAX", 0))
    assert refused[:6] == b"-LIMIT", refused
    return int(refused.split()[4])


def _key(row: int) -> bytes:
    return b"%b:%d" % (HALL, row)


def selling(seed: int) -> Script:
    """A start after a crash; all selling verbs, a checkpoint and changes of the log's segment among them."""
    script = Script("selling", "main", BEGIN, TEMPLATE, read=read)
    desk = Desk(script, seed)
    few = desk.random.randint(1, 4)
    ann, bob, cid, dan = OWNERS
    cart, group, places, next_group, look = map(Named, ("cart", "group", "places", "next group", "look"))
    desk.claim(ann, few)
    desk.claim(bob, 3, "ADJACENT", "seat", "WITHIN", "line")
    desk.hold(cart, ann, [20 + few, 30 + few])
    desk.keep_units(places, bob, 3)
    desk.extend(cart)
    desk.verify()
    desk.take_units(ann, 2 + few)
    desk.hold(group, cid, few)
    desk.replace(group, next_group, few + 1)
    desk.confirm(cart)
    desk.hold(look, dan, 2)
    desk.bring_back(bob, [row for row in SEATS if desk.writes[row][:1] == [(b"claim", bob)]][:2])
    desk.bring_back_units(ann, few)
    desk.confirm(places)
    desk.release(look)
    desk.two_claims(dan)
    desk.confirm(next_group)
    script.at_end = desk.look_back
    return script


def make_begin(directory: Path) -> Contents:
    """A store that was killed, with batches that nothing names behind its checkpoint."""
    opening = Opening(directory, EngineOptions(segment_bytes=SEGMENT_BYTES))
    for _ in opening:
        pass
    engine = opening.engine
    engine.create(HALL, Schema.from_description(SCHEMA), False)
    table = engine.table(HALL)
    for number in SEATS:
        seat = {b"seat": number % LINE, b"line": number // LINE}
        engine.insert(table, number, {b"state": 0, **seat})
    engine.wal.commit()
    plan = engine.begin_checkpoint()
    plan.write()
    engine.end_checkpoint(plan)
    engine.insert(table, DOOR, {b"state": 2, b"left": UNITS})
    engine.wal.commit()
    found = contents(engine)
    kill(engine)
    return found


_PLACE = tempfile.TemporaryDirectory(prefix="klani-hall-")
TEMPLATE = Path(_PLACE.name) / "data"
_ROWS = make_begin(TEMPLATE)
BEGIN = {**_ROWS, **shown([], dict.fromkeys(OWNERS, 0))}
