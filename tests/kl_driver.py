"""The helper's two front ends behind one face, so that a test is written once: what is awaited is run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from klani_resp.client import KL, AsyncKL

Front = Any  # KL, or what looks like it


@contextmanager
def sync_front(**options: Any) -> Iterator[Front]:
    with redis.Redis(**options) as client:
        yield KL(client)


@contextmanager
def async_front(**options: Any) -> Iterator[Front]:
    with asyncio.Runner() as runner:
        client: Any = redis.asyncio.Redis(**options)
        try:
            yield _Driven(AsyncKL(client), runner)
        finally:
            runner.run(client.aclose() if hasattr(client, "aclose") else client.close())


FRONTS: dict[str, Callable[..., Any]] = {"sync": sync_front, "asyncio": async_front}
RETRIES: dict[str, Any] = {"sync": redis.retry.Retry, "asyncio": redis.asyncio.retry.Retry}


def retries(front: str, count: int) -> Any:
    """redis-py's own resends for such a front, one right after the other; 0 as version 5 has them unasked."""
    return RETRIES[front](NoBackoff(), count)


class _Driven:
    """What is awaited is run; asynchronous iterators and contexts become plain ones."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._target, name)
        return self._call(member) if callable(member) else member

    def __getitem__(self, name: str) -> Any:
        return self._target[name]

    def __len__(self) -> int:
        return len(self._target)

    def __eq__(self, other: object) -> bool:
        return bool(self._target == other)

    def _call(self, member: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            return self._settled(member(*args, **named))

        return call

    def _settled(self, answer: Any) -> Any:
        if inspect.iscoroutine(answer):
            return self._runner.run(answer)
        if inspect.isasyncgen(answer):
            return self._iterated(answer)
        if hasattr(answer, "__aenter__"):
            return _Driven(answer, self._runner)
        return answer

    def _iterated(self, iterator: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._runner.run(anext(iterator))
            except StopAsyncIteration:
                return

    def __enter__(self) -> Any:
        entered = self._runner.run(self._target.__aenter__())
        if isinstance(entered, tuple):
            return tuple(_Driven(one, self._runner) for one in entered)
        return _Driven(entered, self._runner)

    def __exit__(self, *error: Any) -> None:
        self._runner.run(self._target.__aexit__(*error))
