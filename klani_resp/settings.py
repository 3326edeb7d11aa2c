"""The settings of a server that runs: CONFIG GET, SET and REWRITE. The one who may change its Config.

What a setting is, is said in klani_resp.config, once. All who read `config.x` when they need it see a change
at once; who made something of it (parsers, the engine) is told. Whoever may refuse is asked before anything
is changed: what was done with a password cannot be undone by doing it with the former one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from commands.server import SECRET_SETTINGS
from commands.spec import CommandError
from klani_resp.config import LIVE, Config, Redis
from klani_resp.rewrite import rewrite
from storage.engine import EngineOptions

Asked = Callable[[Config], None]
Told = Callable[[Config], None]
INTEGER_MAX = (1 << 63) - 1
SHOWN_CHARS_MAX = 128
UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 10**6, "mb": 1 << 20, "g": 10**9, "gb": 1 << 30}
HIDDEN = "********"
# What Redis's clients ask for, and what has only one answer here.
FIXED = {
    "save": "",
    "appendonly": "yes",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": "",
    "client-output-buffer-limit": "normal {config.output_bytes_max} 0 0 slave 0 0 0 pubsub 0 0 0",
}
_integer = re.compile(r"0|-?[1-9][0-9]{0,18}").fullmatch
_decimal = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?").fullmatch
_memory = re.compile(r"([0-9]{1,19})([a-z]{0,2})", re.IGNORECASE).fullmatch


class Refused(CommandError):
    """A value that a setting cannot have, in Redis's words; `name` as the client asked for it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


class Unfit(Exception):
    """A value that the server cannot have at the moment; `name` is that in Config."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of Config."""

    name: str
    is_live: bool
    kind: type
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    names: tuple[str, ...]  # that it is asked for by

    @property
    def is_memory(self) -> bool:
        return self.name.removesuffix("_max").endswith("_bytes")

    def parse(self, text: str, asked: str) -> Any:
        if self.choices:
            if text.lower() not in self.choices:
                raise Refused(asked, f"argument(s) must be one of the following: {', '.join(self.choices)}")
            return text.lower()
        if self.kind is str:
            if not is_utf8(text):  # the TOML file could not have it
                raise Refused(asked, "argument must be UTF-8")
            return text
        if self.kind is bool:
            if text.lower() not in ("yes", "no"):
                raise Refused(asked, "argument must be 'yes' or 'no'")
            return text.lower() == "yes"
        value = self._number(text, asked)
        low = -INTEGER_MAX - 1 if self.low is None else self.low
        high = INTEGER_MAX if self.high is None else self.high
        if not low <= value <= high:
            raise Refused(asked, f"argument must be between {low} and {high} inclusive")
        return value

    def _number(self, text: str, asked: str) -> int | float:
        if self.kind is float:
            if _decimal(text):
                return float(text)
            raise Refused(asked, "argument couldn't be parsed into a number")
        if self.is_memory:
            found = _memory(text)
            if found and found[2].lower() in UNITS:
                return int(found[1]) * UNITS[found[2].lower()]
            raise Refused(asked, "argument must be a memory value")
        if _integer(text):
            return int(text)
        raise Refused(asked, "argument couldn't be parsed into an integer")


def is_utf8(text: str) -> bool:
    """Whether it is that of bytes which were, by `surrogateescape`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _declared() -> dict[str, Setting]:
    """Config's lines, by each of their names."""
    fields = {field.name: field for field in msgspec.inspect.type_info(Config).fields}  # type: ignore[attr-defined]
    found: dict[str, Setting] = {}
    for name, hint in get_type_hints(Config, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        plain = get_args(hint)[0] if marks else hint
        limits = fields[name].type
        names = [name, name.replace("_", "-"), *(mark.name for mark in marks if isinstance(mark, Redis))]
        setting = Setting(
            name=name,
            is_live=LIVE in marks,
            kind=plain if isinstance(plain, type) else str,
            choices=get_args(plain) if get_origin(plain) is Literal else (),
            low=getattr(limits, "ge", None),
            high=getattr(limits, "le", None),
            names=tuple(dict.fromkeys(names)),
        )
        found |= dict.fromkeys(setting.names, setting)
    return found


DECLARED = _declared()


def _told(setting: Setting, value: object) -> str:
    """As Redis tells it; a password never."""
    if setting.name in SECRET_SETTINGS:
        return HIDDEN if value else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


class Settings:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._asked: list[Asked] = []
        self._told: list[Told] = []
        self._told_last: list[Told] = []
        self.has_changed = False  # since the start
        # As they are now: ACL changes them, not CONFIG SET. Whoever keeps them sets it.
        self.users: Callable[[], tuple[str, ...]] = lambda: config.users

    def ask(self, asked: Asked) -> None:
        """`asked` is called with what shall be, before it is. It may raise Unfit."""
        self._asked.append(asked)

    def tell(self, told: Told) -> None:
        """`told` is called after each change, and must not fail."""
        self._told.append(told)

    def tell_last(self, told: Told) -> None:
        """As `tell`, for what cannot be taken back: no other one can fail behind it."""
        self._told_last.append(told)

    def shown(self) -> dict[str, str]:
        """By all names: ours, with dashes, and Redis's."""
        shown = {
            name: _told(setting, getattr(self._config, setting.name)) for name, setting in DECLARED.items()
        }
        return shown | {name: value.format(config=self._config) for name, value in FIXED.items()}

    def change(self, pairs: list[tuple[str, str]]) -> None:
        """All or none of them."""
        chosen: dict[str, tuple[Setting, str, str]] = {}
        for asked, text in pairs:
            name = asked.lower()
            setting = DECLARED.get(name)
            if setting is None and name not in FIXED:
                shown = asked[:SHOWN_CHARS_MAX]
                raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{shown}'")
            if setting is None or not setting.is_live:
                raise Refused(asked, "can't set immutable config")
            if setting.name in chosen:
                raise Refused(asked, "duplicate parameter")
            chosen[setting.name] = (setting, text, name)
        values = {name: setting.parse(text, asked) for name, (setting, text, asked) in chosen.items()}
        wanted = msgspec.structs.replace(self._config, **values)
        try:
            for asked_one in self._asked:
                asked_one(wanted)
        except Unfit as unfit:
            asked = chosen[unfit.name][2] if unfit.name in chosen else unfit.name
            raise Refused(asked, unfit.why) from unfit
        self._put_in_force(values)
        self.has_changed = True

    def _put_in_force(self, values: dict[str, Any]) -> None:
        before = {name: getattr(self._config, name) for name in values}
        self._put(values)
        try:
            self._tell_all()
        except Exception:  # a bug: what is shown shall be what holds
            self._put(before)
            self._tell_all()
            raise

    def _put(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            msgspec.structs.force_setattr(self._config, name, value)

    def _tell_all(self) -> None:
        for told in (*self._told, *self._told_last):
            told(self._config)

    def rewriting(self) -> Callable[[], None]:
        """What writes the settings as they are now to the file of the start; it blocks."""
        if not self._config.config_file:
            raise CommandError("ERR The server is running without a config file")
        values = msgspec.structs.asdict(self._config) | {"users": self.users()}
        path = Path(values.pop("config_file"))
        return lambda: rewrite(path, values)


def engine_options(config: Config) -> EngineOptions:
    return EngineOptions(
        default_table=config.default_table.encode(),
        appendfsync=config.appendfsync,
        lease_ms=config.lease_ms,
        remembered_ns=int(config.remembered_hours * 3_600_000_000_000),
        remembered_bytes_max=config.remembered_bytes_max,
        checkpoint_bytes=config.checkpoint_bytes,
        segment_bytes=config.segment_bytes,
        ballast_bytes=config.ballast_bytes,
        history_keep_days=config.history_keep_days,
        history_bytes_max=config.history_bytes_max,
    )
