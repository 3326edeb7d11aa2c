"""The way for services: typed verbs over a redis-py client, sync and asyncio.

    kl = KL(redis.Redis(port=7700))
    kl.claim("seats", {"is_booked": 0}, {"is_booked": 1}, count=2, owner="ann")

docs/client.md has the rest. This package needs redis-py and nothing of the server.
"""

from klani_resp.client.errors import (
    Busy,
    ConnectionLost,
    DiskFull,
    Exists,
    KLError,
    Limit,
    Locked,
    NoHold,
    NoLock,
    NoRow,
    RequestReused,
    RequestsFull,
    Resold,
    TimedOut,
    Unanswered,
    of_kl,
)
from klani_resp.client.front import KL, AsyncKL
from klani_resp.client.locking import AsyncLock, AsyncLockedRow, Lock, LockedRow
from klani_resp.client.pipelines import AsyncPipeline, Pipeline
from klani_resp.client.values import (
    Column,
    Fields,
    Hold,
    Id,
    Key,
    LiveHold,
    LiveLock,
    Page,
    Row,
    TableInfo,
    Verdict,
    Word,
    Write,
)
from klani_resp.client.words import FRESH, Name

__all__ = [
    "FRESH",
    "KL",
    "AsyncKL",
    "AsyncLock",
    "AsyncLockedRow",
    "AsyncPipeline",
    "Busy",
    "Column",
    "ConnectionLost",
    "DiskFull",
    "Exists",
    "Fields",
    "Hold",
    "Id",
    "KLError",
    "Key",
    "Limit",
    "LiveHold",
    "LiveLock",
    "Lock",
    "Locked",
    "LockedRow",
    "Name",
    "NoHold",
    "NoLock",
    "NoRow",
    "Page",
    "Pipeline",
    "RequestReused",
    "RequestsFull",
    "Resold",
    "Row",
    "TableInfo",
    "TimedOut",
    "Unanswered",
    "Verdict",
    "Word",
    "Write",
    "of_kl",
]
