"""The verbs, listed once: each is a method of the front ends, which send it and answer as they do.

A verb is a function that makes a command. As an attribute of KL it answers the typed value, of AsyncKL an
awaitable of it, of a pipeline that pipeline: names, arguments and types of all three are the function's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, overload

from redis.client import NEVER_DECODE

from klani_resp.client import selling_verbs, table_verbs
from klani_resp.client.words import Command

P = ParamSpec("P")
T = TypeVar("T")
QueueT = TypeVar("QueueT", bound="Queues")


class _Bound:
    """A front end's method; `inspect.signature` shows that of the verb."""

    __slots__ = ("__wrapped__", "_run")

    def __init__(self, build: Callable[..., Command[Any]], run: Callable[[Command[Any]], Any]) -> None:
        self.__wrapped__ = build
        self._run = run

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._run(self.__wrapped__(*args, **named))


class Verb(Generic[P, T]):
    def __init__(self, build: Callable[P, Command[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, front: None, owner: type) -> Callable[P, Command[T]]: ...
    @overload
    def __get__(self, front: Answers, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, front: Awaits, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, front: QueueT, owner: type) -> Callable[P, QueueT]: ...
    def __get__(self, front: Verbs | None, owner: type) -> Callable[P, Any]:
        return self.build if front is None else _Bound(self.build, front.run)


class Verbs(ABC):
    """All that the server does for a shop."""

    claim = Verb(selling_verbs.claim)
    hold = Verb(selling_verbs.hold)
    confirm = Verb(selling_verbs.confirm)
    release = Verb(selling_verbs.release)
    extend = Verb(selling_verbs.extend)
    holds = Verb(selling_verbs.holds)
    give_back = Verb(selling_verbs.give_back)

    seek = Verb(table_verbs.seek)
    intersect = Verb(table_verbs.intersect)
    count = Verb(table_verbs.count)
    trylock = Verb(table_verbs.trylock)
    replace = Verb(table_verbs.replace)
    unlock = Verb(table_verbs.unlock)

    create = Verb(table_verbs.create)
    drop = Verb(table_verbs.drop)
    tables = Verb(table_verbs.tables)
    info = Verb(table_verbs.info)
    insert = Verb(table_verbs.insert)
    scan_page = Verb(table_verbs.scan_page)
    locks = Verb(table_verbs.locks)
    verify = Verb(table_verbs.verify)
    history = Verb(table_verbs.history)
    backup = Verb(table_verbs.backup)

    def __init__(self, client: Any) -> None:
        self._execute_command: Callable[..., Any] = client.execute_command
        self._set_response_callback: Callable[..., None] = client.set_response_callback
        self._registered: set[Any] = set()

    @abstractmethod
    def run(self, command: Command[Any]) -> Any:
        """Sends it, each front end in its own way."""

    def _execute(self, command: Command[Any]) -> Any:
        name = command.words[0]
        if name not in self._registered:
            self._set_response_callback(name, _parsed)
            self._registered.add(name)
        return self._execute_command(*command.words, kl_command=command, **_UNDECODED)


class Answers(Verbs):
    """Front ends whose verbs answer values."""


class Awaits(Verbs):
    """Front ends whose verbs are awaited."""


class Queues(Verbs):
    """Pipelines: a verb is queued, and answers the pipeline."""


_UNDECODED = {NEVER_DECODE: True}


def _parsed(reply: Any, *, kl_command: Command[Any] | None = None, **options: Any) -> Any:
    """redis-py's callback for each KL command. Without a command of ours the caller's own code has sent it
    through the same client: then the reply stays as it came."""
    return reply if kl_command is None else kl_command.parse(reply)
