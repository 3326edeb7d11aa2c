"""Cancellation that redis-py loses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def cancellable(answer: Awaitable[T]) -> T:
    """The answer, or CancelledError if the task was cancelled meanwhile.

    redis-py 8.1 swallows a cancellation that comes while it connects, and asyncio.timeout with it; the task
    still counts it.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await answer
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
