"""What every client plays, and how its replies are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.conftest import pairs_of

CROWD_CLIENTS = 10
PIPELINED = 100
CLAIMS_BEHIND_THE_PROXY = 12
DROPS_EVERY = 8  # replies, handshakes included


@dataclass(frozen=True)
class From:
    """A word of a later command: the reply of an earlier one, or its part."""

    step: str
    part: int | None = None


class Positive:
    """Any integer above 0: a token, a deadline, a time that is left."""

    def __repr__(self) -> str:
        return "a positive integer"


@dataclass(frozen=True)
class Refused:
    """An error: its own first word, or for `ERR`, which clients take off or wrap, what the text contains."""

    text: str


@dataclass(frozen=True)
class Step:
    words: tuple[str | int | From, ...]
    reply: Any
    name: str = ""


def step(line: str, reply: Any, name: str = "") -> Step:
    """A step from a line: `$lock` is the reply of the step of that name, `$hold.0` the first part of it."""
    words: list[str | int | From] = []
    for word in line.split():
        if word.startswith("$"):
            of, _, part = word[1:].partition(".")
            words.append(From(of, int(part) if part else None))
        else:
            words.append(word)
    return Step(tuple(words), reply, name)


ROW = {"rank": 3, "is_booked": 0, "buyer": 0, "note": ""}
SOLD = ROW | {"is_booked": 1, "buyer": 7, "note": "Zoë"}
SCHEMA = "rank U32 INDEX is_booked U8 INDEX buyer U32 note BYTES 8"
CLAIM = "KL.CLAIM seats is_booked 0 rank 3 SET is_booked 1 buyer 8"
VERIFIED = {"rows": 6, "matched": 5, "log_matched": 5, "index_matched": 5, "corrupt": 0, "ok": 1}
DESCRIBED = {
    "schema": [["rank", "U32", 1], ["is_booked", "U8", 1], ["buyer", "U32", 0], ["note", "BYTES 8", 0]],
    "rows": 6,
    "bytes": Positive(),
    "locks": 0,
    "holds": 0,
    "appended": Positive(),
    "durable": Positive(),
}

STORY = [
    step("ECHO Zoë", "Zoë"),
    step(f"KL.CREATE seats SCHEMA {SCHEMA}", "OK"),
    step(f"KL.CREATE seats SCHEMA {SCHEMA}", Refused("EXISTS")),
    step(f"KL.CREATE seats IFNOTEXISTS SCHEMA {SCHEMA}", "OK"),
    *[step(f"KL.INSERT {row} rank 3", 1) for row in range(6)],
    step("KL.INTERSECT seats is_booked 0 rank 3", [0, 1, 2, 3, 4, 5]),
    step("KL.INTERSECT seats rank 9", []),
    step("KL.SEEK 0", ROW),
    step("KL.SEEK {seats}:0 note rank", {"note": "", "rank": 3}),
    step("KL.SEEK 99", None),
    # a lock
    step("KL.TRYLOCK 0 1 PX 60000 OWNER till", Positive(), "lock"),
    step("KL.TRYLOCK 0", None),
    step("KL.INTERSECT seats is_booked 0 rank 3 FREE LIMIT 2", [2, 3]),
    step("KL.LOCKS seats LIMIT 1", [[0, Positive(), "till", Positive()]]),
    step("KL.REPLACE 0 $lock is_booked 1 buyer 7 note Zoë", "OK"),
    step("KL.SEEK 0", SOLD),
    step("KL.REPLACE 2 $lock is_booked 1", Refused("NOLOCK")),
    step("KL.UNLOCK 0 1 $lock", 2),
    step("KL.UNLOCK 0 1 $lock", 0),
    step("KL.TRYLOCK 77", Refused("NOROW")),
    # a sale in one step
    step(f"{CLAIM} COUNT 2 FOR ann MAX 3 REQUEST order-1", [1, 2]),
    step(f"{CLAIM} COUNT 2 FOR ann MAX 3 REQUEST order-1", [1, 2]),
    step(f"{CLAIM} COUNT 1 FOR ann MAX 3 REQUEST order-1", Refused("REQUEST")),
    step(f"{CLAIM} COUNT 2 FOR ann MAX 3 REQUEST order-2", Refused("LIMIT")),
    step(f"{CLAIM} COUNT 50", []),
    # a sale in two
    step(
        "KL.HOLD seats is_booked 0 rank 3 PX 60000 FOR bob COUNT 2", [Positive(), [3, 4], Positive()], "hold"
    ),
    step("KL.EXTEND $hold.0 PX 90000", Positive()),
    step("KL.HOLDS seats FOR bob", [[Positive(), "bob", [3, 4], Positive()]]),
    step("KL.TRYLOCK 3", None),
    step(f"{CLAIM} COUNT 2", Refused("BUSY")),
    step("KL.CONFIRM $hold.0 SET is_booked 1 buyer 9", [3, 4]),
    step("KL.CONFIRM $hold.0 SET is_booked 1 buyer 9", [3, 4]),
    step("KL.RELEASE $hold.0", 0),
    step("KL.EXTEND 1 PX 1000", Refused("NOHOLD")),
    step("KL.HOLD seats is_booked 0 PX 60000 FOR eve", [Positive(), [5], Positive()], "other"),
    step("KL.RELEASE $other.0", 1),
    step("KL.HOLD seats is_booked 0 rank 3 PX 60000 FOR eve COUNT 9", []),
    step("KL.RETURN seats FOR ann 1 SET is_booked 0 buyer 0", 1),
    step(f"{CLAIM} IDS 1 1", [1]),
    # looking on
    step("KL.COUNT seats is_booked 1", 5),
    step("KL.SCAN seats 0 COUNT 1", ["1", [[0, SOLD]]]),
    step("KL.SCAN seats 5", ["0", [[5, ROW]]]),
    step("KL.TABLES", ["seats"]),
    step("KL.INFO seats", DESCRIBED),
    step(
        "KL.HISTORY 5",
        [
            {
                "position": Positive(),
                "unix_ms": Positive(),
                "verb": "insert",
                "token": Positive(),
                "owner": None,
                "request": None,
                "row": ROW,
            }
        ],
    ),
    step("KL.VERIFY seats is_booked 1", VERIFIED),
    # general admission
    step("KL.CREATE tours SCHEMA places COUNTER", "OK"),
    step("KL.INSERT tours:1 places 5", 1),
    step("KL.CLAIM tours IDS 1 1 TAKE 3 FROM places FOR ann", [1]),
    step("KL.CLAIM tours IDS 1 1 TAKE 3 FROM places", []),
    step("KL.DROP tours", 1),
    step("KL.DROP tours", 0),
    # errors of the request
    step("KL.NOPE 1", Refused("unknown command 'KL.NOPE'")),
    step("KL.SEEK", Refused("wrong number of arguments for 'kl.seek' command")),
    step("KL.INTERSECT seats buyer 7", Refused("field 'buyer' is not indexed")),
    step("CLIENT TRACKING ON", Refused("unknown subcommand 'TRACKING'")),
    step("DBSIZE", 6),
]

PIPELINE = [
    step(f"KL.CREATE piped SCHEMA {SCHEMA}", "OK"),
    *[step(f"KL.INSERT piped:{row} rank 5", 1) for row in range(PIPELINED)],
    step("KL.COUNT piped rank 5", PIPELINED),
    step("KL.TRYLOCK piped:1", Positive()),
    step("KL.TRYLOCK piped:1", None),
    step("KL.REPLACE piped:2 1 rank 4", Refused("NOLOCK")),
    step("KL.SEEK piped:2 rank", {"rank": 5}),
    step("KL.INSERT piped:500 rank 6", 1),
    step("KL.DROP piped", 1),
]
SPOILED = [step("KL.INSERT seats:600 rank 5", 1), step("KL.SEEK", None)]

CROWD_BEGINS = [step("KL.CREATE crowd SCHEMA left U8 INDEX", "OK")] + [
    step(f"KL.INSERT crowd:{row} left 1", 1) for row in range(CROWD_CLIENTS // 2)
]
CROWD = "KL.CLAIM crowd left 1 SET left 0"

LOSSY_BEGINS = [step("KL.CREATE lossy SCHEMA left U8 INDEX", "OK")] + [
    step(f"KL.INSERT lossy:{row} left 1", 1) for row in range(2 * CLAIMS_BEHIND_THE_PROXY)
]
LOSSY = [f"KL.CLAIM lossy left 1 SET left 0 REQUEST order-{n}" for n in range(CLAIMS_BEHIND_THE_PROXY)]
LOST = [[row] for row in range(CLAIMS_BEHIND_THE_PROXY)]


def fits(expected: Any, got: Any) -> bool:
    """Whether a reply is what was expected; a map may be a flat list, as RESP2 has it."""
    if isinstance(expected, Positive):
        return type(got) is int and got > 0
    if isinstance(expected, Refused):
        text = got.get("error") if isinstance(got, dict) else None
        if not isinstance(text, str):
            return False
        return text.startswith(expected.text) if expected.text.isupper() else expected.text in text
    if isinstance(expected, dict):
        if not isinstance(got, dict | list) or (isinstance(got, list) and len(got) % 2):
            return False
        pairs = pairs_of(got)
        return list(pairs) == list(expected) and all(fits(expected[name], pairs[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(fits, expected, got))
    return type(expected) is type(got) and bool(expected == got)


def judge(steps: list[Step], replies: Any) -> None:
    """Each reply beside its step."""
    assert isinstance(replies, list), replies
    assert len(replies) == len(steps)
    for one, reply in zip(steps, replies, strict=True):
        assert fits(one.reply, reply), f"{one.words}: {reply!r} is not {one.reply!r}"


def as_commands(steps: list[Step]) -> list[list[Any]]:
    """Commands as JSON has them: a word that is `{"reply": i, "part": j}` stands for an earlier reply."""
    place = {one.name: number for number, one in enumerate(steps) if one.name}

    def word(of: str | int | From) -> Any:
        if isinstance(of, From):
            return {"reply": place[of.step], "part": of.part}
        return str(of)

    return [[word(of) for of in one.words] for one in steps]


def job(lossy_port: int) -> dict[str, Any]:
    """What a player reads: it answers with a list of replies under each of these names."""
    return {
        "story": as_commands(STORY),
        "pipeline": as_commands(PIPELINE),
        "transaction": as_commands(PIPELINE),
        "spoiled": as_commands(SPOILED),
        "crowd": {
            "clients": CROWD_CLIENTS,
            "begins": as_commands(CROWD_BEGINS),
            "command": CROWD.split(),
        },
        "lossy": {
            "port": lossy_port,
            "begins": as_commands(LOSSY_BEGINS),
            "commands": [line.split() for line in LOSSY],
        },
    }
