"""What Redis has and this server has not, on purpose: the overview in docs/ says why."""

from __future__ import annotations

_DATA = "GET SET MGET MSET DEL INCR EXPIRE HSET KEYS LPUSH SADD ZADD XADD"
_OTHERS = "REPLICAOF SLAVEOF PSYNC SYNC WAIT FAILOVER ROLE READONLY CLUSTER SENTINEL"

REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        tuple(_DATA.split()),
        "there are rows of fixed fields and no other data: KL.SEEK reads, KL.CLAIM sells, KL.REPLACE writes",
    ),
    (
        ("EVAL", "EVALSHA", "SCRIPT", "FUNCTION", "FCALL"),
        "what a script would decide, one KL command decides; several take effect as one in MULTI",
    ),
    (("FLUSHALL", "FLUSHDB", "SWAPDB", "MOVE"), "one slip must not empty the hall: KL.DROP names its table"),
    (("DEBUG", "MIGRATE", "RESTORE", "DUMP"), "KL.BACKUP copies, `klani-resp check --export` reads"),
    (
        tuple(_OTHERS.split()),
        "one server, and one log: clients for Sentinel or a cluster will not do, plain ones do",
    ),
    (
        ("SUBSCRIBE", "PUBLISH", "PSUBSCRIBE", "BLPOP"),
        (
            "nothing is pushed, and nothing waits in the server. valkey-glide's `pubsub_subscriptions` must "
            "be left out: it asks again without a pause until its connection attempt times out"
        ),
    ),
    (("MODULE",), "there are none; HELLO says so"),
    (("RANDOMKEY",), "SCAN goes through all keys"),
)
