"""A till with selling verbs, in front of the store on a disk that fails.

What is remembered of each command that was accepted is all that the store holds behind it: rows, owners,
holds, requests and their answers. So nothing that was answered is lost, and nothing is there by half.
"""

from __future__ import annotations

from functools import partial

from tests.fake_disk import FakeDisk
from tests.store import Contents, contents
from tests.till import NOTE, REFUSED, Asked, Step, Till

HOUR_MS = 3_600_000
SEATS, LINE, DOOR = 16, 8, 100
SCHEMA = ("state", "U8", "INDEX", "seat", "U16", "line", "U8", "left", "COUNTER", "note", "BYTES", 12)
Word = bytes | str | int
TAKE = ("IDS", 1, DOOR, "TAKE")


class SellingTill(Till):
    counted = b"hall"

    def __init__(self, disk: FakeDisk) -> None:
        super().__init__(disk)
        self.known: Contents = {}
        self.answers: list[Asked] = []
        self.doubtful: list[Asked] = []  # of a process that has ended
        self._tokens: dict[str, str] = {}

    # --- the book -------------------------------------------------------------------------------------

    def expect(self, reply: str, accepted: str, rows: dict[int, int]) -> None:
        count = len(self.asked)
        super().expect(reply, accepted, rows)
        if len(self.asked) > count:
            self.asked[-1].after = self._shown()

    def answered(self, asked: Asked) -> None:
        super().answered(asked)
        self.known = asked.after
        self.answers.append(asked)

    def _shown(self) -> Contents:
        """A table that is empty may be there or not: nothing was sold from it."""
        return {name: rows for name, rows in contents(self.engine).items() if rows}

    def take_over(self, before: Till) -> None:
        super().take_over(before)
        assert isinstance(before, SellingTill)
        self.known, self.answers = before.known, list(before.answers)
        self.doubtful = list(before.asked)

    def judge(self) -> None:
        shown = self._shown()
        allowed = [self.known, *(asked.after for asked in self.asked)]
        assert shown in allowed, f"{shown} is none of {allowed}"
        self.known = shown
        super().judge()

    def look_again(self) -> None:
        """Whatever was answered is answered alike, what may have been done is done once; holds keep rows."""
        for asked in self.answers:
            self._ask_again(asked)
        assert self._shown() == self.known, "a resend changes something"
        for asked in self.doubtful:
            if "REQUEST" in asked.words:
                asked.reply = self.ask(*asked.words)
                assert asked.reply[0] in ":*", f"{asked.words} sent again: {asked.reply}"
                self.known = self._shown()
                self._ask_again(asked)
                assert self._shown() == self.known, "a resend is done twice"
        self.commit()
        hall = self.engine.tables.get(b"hall")
        for hold in [] if hall is None else self.engine.selling.live_holds(hall, None):
            if not hold.units:
                assert self.ask("KL.TRYLOCK", *(f"hall:{row}" for row in hold.ids)) == "$-1\r\n"

    def _ask_again(self, asked: Asked) -> None:
        verb = asked.words[:1]
        if "REQUEST" in asked.words or verb == ("KL.CONFIRM",):
            assert self.ask(*asked.words) == asked.reply
        elif verb == ("KL.RELEASE",):
            assert self.ask(*asked.words) == ":0\r\n"

    # --- what is asked --------------------------------------------------------------------------------

    def stock(self, first: int, last: int) -> None:
        """Seats of the hall, and the door."""
        self.ask("KL.CREATE", "hall", "IFNOTEXISTS", "SCHEMA", *SCHEMA)
        self.commit()
        if b"hall" not in self.engine.tables:
            return
        replies = self.ask("MULTI")
        for row in range(first, last):
            place = ("seat", row % LINE, "line", row // LINE)
            replies += self.ask("KL.INSERT", f"hall:{row}", "state", 0, *place, "note", NOTE)
        replies += self.ask("KL.INSERT", f"hall:{DOOR}", "state", 2, "left", 50)
        replies += self.ask("EXEC")
        if REFUSED in replies:
            self.refused += 1
        else:
            self.expect(replies[-4:], ":1\r\n", {})
            self.commit()

    def deal(self, *words: Word, name: str = "") -> None:
        """A selling verb; a word `<name>` is the token that was answered under this name."""
        names = [word[1:-1] for word in words if isinstance(word, str) and word[:1] == "<"]
        if b"hall" not in self.engine.tables or not all(one in self._tokens for one in names):
            return  # the disk was full when it was asked for
        words = tuple(
            self._tokens[word[1:-1]] if isinstance(word, str) and word[:1] == "<" else word for word in words
        )
        before = self._shown()
        reply = self.ask(*words)
        if reply.startswith(REFUSED):
            assert words[0] not in ("KL.CONFIRM", "KL.RELEASE"), "there is room kept back for it"
            assert self._shown() == before, "a refusal changes something"
            self.refused += 1
            return
        assert reply[0] in ":*", f"{words}: {reply}"
        if self._shown() != before:
            self.asked.append(Asked(self.session.hold, {}, self._shown(), words, reply))
        if name and reply.startswith("*3"):
            self._tokens[name] = reply.split("\r\n")[1][1:]
        self.commit()

    def story(self) -> list[Step]:
        return selling_story()


def deal(*words: Word, name: str = "") -> Step:
    def step(till: Till) -> None:
        assert isinstance(till, SellingTill)
        till.deal(*words, name=name)

    return step


def claim(owner: str, *options: Word) -> Step:
    return deal("KL.CLAIM", "hall", "state", 0, "SET", "state", 1, "note", owner, "FOR", owner, *options)


def hold(owner: str, *options: Word, name: str) -> Step:
    return deal("KL.HOLD", "hall", "state", 0, "PX", HOUR_MS, "FOR", owner, *options, name=name)


def confirm(name: str) -> Step:
    return deal("KL.CONFIRM", f"<{name}>", "SET", "state", 1, "note", "paid")


def stock(first: int, last: int) -> Step:
    def step(till: Till) -> None:
        assert isinstance(till, SellingTill)
        till.stock(first, last)

    return step


def selling_story() -> list[Step]:
    """Every selling verb, with checkpoints and a restart among them."""
    door = ("KL.HOLD", "hall", *TAKE, 3, "FROM", "left", "PX", HOUR_MS, "FOR", "bob", "REQUEST", "h2")
    refund = ("KL.RETURN", "hall", "FOR")
    return [
        Till.start,
        stock(0, SEATS),
        claim("ann", "COUNT", 2, "MAX", 5, "REQUEST", "c1"),
        claim("bob", "COUNT", 3, "ADJACENT", "seat", "WITHIN", "line", "REQUEST", "c2"),
        Till.checkpoint,
        hold("ann", "IDS", 2, 10, 11, "REQUEST", "h1", name="cart"),
        deal(*door, name="door"),
        deal("KL.EXTEND", "<cart>", "PX", 2 * HOUR_MS),
        Till.verify,
        deal("KL.CLAIM", "hall", *TAKE, 2, "FROM", "left", "FOR", "ann", "REQUEST", "c3"),
        confirm("cart"),
        hold("cid", "COUNT", 2, "REQUEST", "h3", name="group"),
        hold("cid", "COUNT", 3, "REPLACING", "<group>", "REQUEST", "h4", name="larger"),
        Till.checkpoint,
        deal(*refund, "bob", 2, 3, "SET", "state", 0, "REQUEST", "r1"),
        deal(*refund, "ann", DOOR, "TAKE", 1, "FROM", "left", "REQUEST", "r2"),
        deal("KL.RELEASE", "<door>"),
        Till.stop,
        Till.start,
        confirm("larger"),
        hold("dan", "REQUEST", "h5", name="look"),
        partial(Till.sell, row=1, state=7),
        claim("dan", "REQUEST", "c4"),
        Till.stop,
    ]
