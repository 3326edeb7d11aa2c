"""What redis-server needs scripts for: the steps of a sale that must not come apart."""

from __future__ import annotations

from bench.horde.options import Goods

# KEYS: lock, row, free set. ARGV: token, rank, seat_no, buyer, id, 1 to let go of the lock.
REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('NOLOCK the lease is over') end
redis.call('HSET', KEYS[2], 'rank', ARGV[2], 'seat_no', ARGV[3], 'is_booked', 1, 'buyer', ARGV[4])
redis.call('SREM', KEYS[3], ARGV[5])
if ARGV[6] == '1' then redis.call('DEL', KEYS[1]) end
return redis.status_reply('OK')
"""
UNLOCK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def claim_script(table: str, buyer: str) -> str:
    """KEYS: free set. ARGV: buyer. Answers as KL.CLAIM does, so that one client reads both."""
    return f"""
local id = redis.call('SPOP', KEYS[1])
if not id then return {{}} end
redis.call('HSET', '{table}:' .. id, 'is_booked', 1, '{buyer}', ARGV[1])
return {{id}}
"""


def scripts(goods: Goods) -> tuple[str, str, str]:
    return REPLACE, UNLOCK, claim_script(goods.table, goods.buyer)
