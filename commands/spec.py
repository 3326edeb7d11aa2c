"""How a command declares itself: once, in its own file, next to the function that carries it out.

From the declaration come arity, argument conversion, key positions, the reply's form on the wire and the
reference in docs/. A handler is a plain function of a `Context` and the converted arguments; it answers a
Python value, or raises `CommandError`. It knows nothing of RESP, sockets or trio.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import TYPE_CHECKING, Any, Protocol

from storage.engine import Engine

if TYPE_CHECKING:
    from commands.access import AccessControl
    from commands.family import Family
    from commands.watching import LatencyFacts, SlowLogFacts

REDACTED = b"(redacted)"


# Of a command's arguments, or a subcommand's: which of them are secrets.
Secrets = Callable[[list[bytes]], Iterable[int]]


class CommandError(Exception):
    """A refusal that the client sees: the text's first word is the error's name, as in `NOROW ...`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def syntax_error() -> CommandError:
    return CommandError("ERR syntax error")


class Flags(IntFlag):
    NONE = 0
    WRITE = 1
    READONLY = 2
    FAST = 4
    ADMIN = 8
    LOADING = 16  # allowed while the store is still loading
    NO_MULTI = 32  # refused between MULTI and EXEC
    CONNECTION = 64  # acts on the connection only: its reply shows no stored state
    NOTES_OWN_POSITION = 128  # the engine notes precisely what the reply depends on
    ON_FULL_DISK = 256  # a WRITE that is allowed there: it lets go, or ends what was begun
    NO_AUTH = 512  # allowed to all, before AUTH too
    SECRET = 1024  # arguments of it are shown nowhere, not in a log, not to who looks on: `Secrets`, or all


class Reply(Enum):
    """The form of a reply: which encoder turns the handler's value into bytes."""

    STATUS = "status"  # str -> +OK
    INTEGER = "integer"  # int
    INTEGER_OR_NULL = "integer or null"  # int | None
    IDS = "array of row ids"  # Sequence[int]
    ROW = "row map or null"  # (names template key, values) as RowView | None
    # By type: None, bool, int, str and bytes (bulk), Status, Text, list and tuple, Unordered, dict (map).
    ANY = "any"
    RAW_TEXT = "text"  # str: verbatim text: RESP3 `=`txt, RESP2 bulk (INFO and its like)


class Status(str):
    """A str that goes out as a simple string (`+OK`) wherever ANY meets it."""

    __slots__ = ()


class Text(str):
    """A str that goes out as verbatim text (`=..txt:`) in RESP3 wherever ANY meets it."""

    __slots__ = ()


class Unordered(list[Any]):
    """A list that goes out as a set (`~`) in RESP3, where Redis has one."""

    __slots__ = ()


class Arg(Enum):
    """What a positional argument is converted to."""

    TABLE = "table"  # -> storage.engine.Table; `-ERR unknown table 'x'` when there is none
    TABLE_NAME = "table name"  # -> bytes as they came, of a table that need not be there
    KEY = "key"  # -> Table and row id, two values
    HOLD = "hold"  # -> bytes as they came: a hold's token, and permission for it is that for its table
    INTEGER = "integer"  # -> int >= 0, at most 32 digits, below 2**63
    BYTES = "bytes"  # -> bytes as they came
    REST = "rest"  # -> list[bytes]: all that follow; only as the last one


class Mute(Enum):
    """What CLIENT REPLY makes of a connection's replies."""

    OFF = "off"
    SKIP = "skip"  # the next one
    SKIPPING = "skipping"  # the one that is under way


class Client(Protocol):
    """What a command may do to a connection, mostly its own; klani_resp.sessions has the one that does it."""

    id: int
    name: bytes
    library_name: bytes
    library_version: bytes
    protocol: int

    @property
    def user_name(self) -> bytes: ...
    @property
    def address(self) -> str: ...
    @property
    def local_address(self) -> str: ...
    @property
    def age_seconds(self) -> int: ...
    def mute(self, mode: Mute | None) -> None: ...
    @property
    def in_transaction(self) -> bool: ...
    def set_protocol(self, version: int) -> None: ...
    def close_after_reply(self) -> None: ...
    def end(self) -> None: ...
    def took_long(self) -> None: ...
    def reset(self) -> None: ...
    def begin_transaction(self) -> None: ...
    def discard_transaction(self) -> None: ...
    def execute_transaction(self) -> RawReply: ...
    def watch(self, keys: list[bytes]) -> None: ...
    def unwatch(self) -> None: ...
    def describe(self) -> str: ...


class ServerSettings(Protocol):
    """What CONFIG may do to the settings; klani_resp.settings is the one that does it."""

    def shown(self) -> dict[str, str]: ...
    def change(self, pairs: list[tuple[str, str]]) -> None: ...
    def rewriting(self) -> Callable[[], None]: ...


class ServerControl(Protocol):
    """What SHUTDOWN and BGSAVE may do to the process; klani_resp.control is the one that does it."""

    @property
    def is_saving(self) -> bool: ...
    def save_soon(self) -> None: ...
    def shut_down(self, *, with_checkpoint: bool) -> None: ...


class ServerFacts(Protocol):
    """What INFO, CONFIG and CLIENT LIST may ask of the process."""

    @property
    def access(self) -> AccessControl: ...
    @property
    def settings(self) -> ServerSettings: ...
    @property
    def control(self) -> ServerControl: ...
    @property
    def slowlog(self) -> SlowLogFacts: ...
    @property
    def latency(self) -> LatencyFacts: ...
    def histograms(self, names: Collection[str]) -> dict[str, tuple[int, dict[int, int]]]:
        """Of these commands, their subcommands included, or of all: calls, and of these by at most so many
        us, for powers of two."""
        ...

    def monitor(self, client: Client, *, is_on: bool) -> None: ...
    def reset_statistics(self) -> None: ...
    def sections(self) -> Mapping[str, Callable[[], Mapping[str, str | int | float]]]: ...
    def clients(self) -> list[Client]: ...


class RawReply(bytes):
    """Bytes that are on the wire's form already: what EXEC gathered from the session."""


@dataclass(slots=True)
class Constant:
    """A value within a reply that is always the same: it is encoded once, not at each call."""

    value: Any
    encoded: dict[int, bytes] = field(default_factory=dict)  # by protocol; the encoder's


@dataclass(slots=True)
class Context:
    """What a handler may use: the store, the client it serves, the process around it."""

    engine: Engine
    client: Client
    server: ServerFacts


@dataclass(slots=True)
class Job:
    """Long work that runs beside the other connections: the handler's way to say "not now".

    On the loop `start`; then, once the log is durable up to `position` (which `start` may set), `run` in a
    worker thread, which must touch no live state; then `finish` on the loop, which answers the reply's
    value. An `exclusive` job has the row files to itself: no checkpoint runs beside it.

    Python in a thread still stops the loop. So a long array is `items` in place of `run`: each is made, and
    encoded, in the thread, and the iterator is to give way in between (storage.pace). One of row ids is
    `slices`, and nothing else: each slice is made on the loop and the others have their turn in between. What
    it shows must not change meanwhile. Inside EXEC all slices are made at once.
    """

    run: Callable[[], Any] = lambda: None
    finish: Callable[[Any], Any] = lambda outcome: outcome
    start: Callable[[], None] | None = None
    items: Callable[[], Iterator[Any]] | None = None
    position: int = 0
    exclusive: bool = False
    slices: Iterator[list[int]] | None = None
    count: int = 0  # of all ids in the slices


@dataclass(frozen=True, slots=True)
class Page:
    """What a command's page in docs/commands/ says beyond its declaration.

    `answers`: kinds (klani_resp.reference.KINDS), and what each of them says. `errors`: first words and when;
    those that any command may answer are added. `examples`: lines as one types them into redis-cli; their
    replies come from a server when the page is made.
    """

    text: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)  # `<name>` or KEYWORD
    answers: tuple[tuple[str, str], ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    partly: str = ""  # what Redis's command of this name does and this one does not


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    summary: str
    handler: Callable[..., Any]
    args: tuple[tuple[str, Arg], ...]
    reply: Reply
    flags: Flags
    complexity: str
    arity: int  # as Redis counts: the name included, negative for "at least"
    syntax: str
    since: str
    group: str
    keys: tuple[int, int, int]  # first, last, step, as in COMMAND: a negative last counts from the end
    keys_end: frozenset[bytes]  # words at which keys end that are as many as the client likes
    family: Family | None = None  # of its subcommands
    page: Page = Page()
    categories: tuple[str, ...] = ()  # of ACL, beside those that its flags and its group say
    secrets: Secrets | None = None  # with SECRET; None is all arguments

    def places_of(self, *kinds: Arg) -> list[int]:
        """Where arguments of these kinds are; the name is 0."""
        return [i for i, (_, kind) in enumerate(self.args, 1) if kind in kinds]

    def flags_of(self, argv: list[bytes]) -> Flags:
        """Those of the subcommand, too, when it is one that exists; `argv` has the name."""
        member = self.family.get(argv[1]) if self.family is not None and len(argv) > 1 else None
        return self.flags if member is None else self.flags | member.flags

    def called(self, argv: list[bytes]) -> str:
        """`CONFIG|GET` where that is a subcommand, else the command's own name; `argv` has the name."""
        if self.family is None or len(argv) < 2 or self.family.get(argv[1]) is None:
            return self.name
        return f"{self.name}|{argv[1].decode().upper()}"

    def shown(self, argv: list[bytes]) -> list[bytes]:
        """What may be shown of a call to whoever looks on; `argv` has the name."""
        if self.flags & Flags.SECRET:
            return redacted(argv, 1, self.secrets)
        if self.family is None or len(argv) < 2:
            return argv
        member = self.family.get(argv[1])
        if member is None:  # behind a mistyped SETUSER stands a password
            return redacted(argv, 2, None)
        if member.flags & Flags.SECRET:
            return redacted(argv, 2, member.secrets)
        return argv

    @property
    def wants_room(self) -> bool:
        """Whether a full disk refuses it."""
        return bool(self.flags & Flags.WRITE) and not self.flags & Flags.ON_FULL_DISK

    def keys_of(self, argv: list[bytes]) -> list[bytes]:
        """Those of the arguments that are keys; `argv` has the name, and the arity fits."""
        first, last, step = self.keys
        if not first:
            return []
        end = last + 1 if last >= 0 else len(argv) + last + 1
        if self.keys_end:
            behind = range(first + 1, len(argv))
            end = next((i for i in behind if argv[i].upper() in self.keys_end), len(argv))
        return argv[first:end:step]


def redacted(argv: list[bytes], first: int, secrets: Secrets | None) -> list[bytes]:
    """The request without its secrets, of the arguments from `first` on."""
    arguments = argv[first:]
    hidden = set(range(len(arguments)) if secrets is None else secrets(arguments))
    return argv[:first] + [REDACTED if i in hidden else word for i, word in enumerate(arguments)]


REGISTERED: dict[str, Command] = {}


def command(
    name: str,
    *,
    summary: str,
    syntax: str = "",
    args: tuple[tuple[str, Arg], ...] = (),
    reply: Reply = Reply.ANY,
    flags: Flags = Flags.NONE,
    complexity: str = "O(1)",
    since: str = "0.1.0",
    group: str = "inventory",
    optional: int = 0,
    least: int | None = None,
    keys: tuple[int, int, int] | None = None,
    keys_end: tuple[bytes, ...] = (),
    family: Family | None = None,
    page: Page | None = None,
    categories: tuple[str, ...] = (),
    secrets: Secrets | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares the function below it as the command `name`.

    `syntax` has a line for each form (commands.syntax). `args` are positional, in order; the last `optional`
    of them may be absent (the handler's own defaults serve); REST takes what remains and needs nothing unless
    `least` (arguments beyond the name) says so. The first KEY is the one key, unless `keys` (positions, as
    COMMAND has them) says more, or `keys_end` that keys follow it up to one of these words.
    """

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        has_rest = bool(args) and args[-1][1] is Arg.REST
        needed = len(args) - optional - has_rest if least is None else least
        open_ended = has_rest or optional > 0
        first = next((i for i, (_, kind) in enumerate(args, 1) if kind is Arg.KEY), 0)
        REGISTERED[name] = Command(
            name=name,
            summary=summary,
            handler=handler,
            args=args,
            reply=reply,
            flags=flags,
            complexity=complexity,
            arity=-(needed + 1) if open_ended else needed + 1,
            syntax=syntax,
            since=since,
            group=group,
            keys=keys or ((first, first, 1) if first else (0, 0, 0)),
            keys_end=frozenset(keys_end),
            family=family,
            page=page or Page(),
            categories=categories,
            secrets=secrets,
        )
        return handler

    return register
