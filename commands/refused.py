"""What Redis 7.4 has and this server has not, on purpose, by group: the overview in docs/ says why."""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    group: str
    why: str
    names: str


_NO_DATA = "rows of fixed fields are all the data there is"

REFUSED = (
    Refused(
        "keys",
        "KL.INSERT and KL.CREATE make rows and tables, KL.DROP removes a table; no row expires: a lock's "
        "lease and a hold's PX do. SCAN goes through all keys, KL.BACKUP copies, `klani-resp check "
        "--export` reads",
        "COPY DEL DUMP EXPIRE EXPIREAT EXPIRETIME KEYS MIGRATE MOVE PERSIST PEXPIRE PEXPIREAT PEXPIRETIME "
        "RANDOMKEY RENAME RENAMENX RESTORE RESTORE-ASKING SORT SORT_RO TOUCH UNLINK",
    ),
    Refused(
        "strings",
        f"{_NO_DATA}: KL.SEEK reads, KL.CLAIM sells, KL.REPLACE writes, a COUNTER field counts down",
        "APPEND DECR DECRBY GET GETDEL GETEX GETRANGE GETSET INCR INCRBY INCRBYFLOAT LCS MGET MSET MSETNX "
        "PSETEX SET SETEX SETNX SETRANGE STRLEN SUBSTR",
    ),
    Refused(
        "hashes",
        "a row is read as a hash (HGETALL, HGET, HMGET, HSCAN), and written by KL commands alone",
        "HDEL HEXPIRE HEXPIREAT HEXPIRETIME HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT "
        "HPEXPIRETIME HPTTL HRANDFIELD HSET HSETNX HTTL",
    ),
    Refused(
        "lists",
        f"{_NO_DATA}, and nothing waits in the server",
        "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX LRANGE "
        "LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX",
    ),
    Refused(
        "sets",
        f"{_NO_DATA}: an indexed field has a set of rows for each value, KL.INTERSECT and KL.COUNT join them",
        "SADD SCARD SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE SPOP "
        "SRANDMEMBER SREM SSCAN SUNION SUNIONSTORE",
    ),
    Refused(
        "sorted sets",
        _NO_DATA,
        "BZMPOP BZPOPMAX BZPOPMIN ZADD ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD ZINTERSTORE "
        "ZLEXCOUNT ZMPOP ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE "
        "ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX "
        "ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION ZUNIONSTORE",
    ),
    Refused(
        "streams",
        f"{_NO_DATA}: KL.HISTORY tells what happened to a row",
        "XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE "
        "XSETID XTRIM",
    ),
    Refused(
        "bitmaps, HyperLogLog, geo",
        _NO_DATA,
        "BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS GETBIT SETBIT PFADD PFCOUNT PFDEBUG PFMERGE PFSELFTEST "
        "GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO "
        "GEOSEARCH GEOSEARCHSTORE",
    ),
    Refused(
        "scripts",
        "what a script would decide, one KL command decides; several take effect as one in MULTI",
        "EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO FUNCTION SCRIPT",
    ),
    Refused(
        "pub/sub",
        "nothing is pushed. valkey-glide's `pubsub_subscriptions` must be left out: it asks again without a "
        "pause until its connection attempt times out",
        "PSUBSCRIBE PUBLISH PUBSUB PUNSUBSCRIBE SPUBLISH SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE",
    ),
    Refused(
        "replicas, clusters",
        "one server, and one log: clients for Sentinel or a cluster will not do, plain ones do. A reply "
        "waits for the disk by itself, as WAITAOF would",
        "ASKING CLUSTER FAILOVER PSYNC READONLY READWRITE REPLCONF REPLICAOF ROLE SENTINEL SLAVEOF SYNC "
        "WAIT WAITAOF",
    ),
    Refused(
        "all data at once",
        "one slip must not empty the hall: KL.DROP names its table",
        "FLUSHALL FLUSHDB SWAPDB",
    ),
    Refused(
        "server", "there are no modules, as HELLO says, and nothing to debug with", "DEBUG LOLWUT MODULE"
    ),
)
