"""What Redis does in one step: each script is atomic over all counters of a call.

A counter is a hash of whole numbers; beside it stands a sorted set of leases by the time
when they end, each named "id:nano:tokens". Only HINCRBY computes sums that are kept, with
64 bits; Lua compares, in doubles, which are exact up to 2^53 (see `budgets.amounts`).
"""

from typing import Final

_COMMON: Final = """
local function millis()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function add(counter, kind, sign, nano, tokens)
  if nano ~= '0' then redis.call('HINCRBY', counter, kind .. '_nano', sign .. nano) end
  if tokens ~= '0' then redis.call('HINCRBY', counter, kind .. '_tokens', sign .. tokens) end
end

-- Gives back what a lease has set aside; once only.
local function drop(counter, leases, lease)
  if redis.call('ZREM', leases, lease) == 1 then
    local nano, tokens = string.match(lease, ':(%d+):(%d+)$')
    add(counter, 'reserved', '-', nano, tokens)
  end
end

-- Whose process was killed does not come back to settle.
local function purge(counter, leases, now)
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    drop(counter, leases, lease)
  end
end

local function standing(counter)
  return redis.call('HMGET', counter,
    'spent_nano', 'spent_tokens', 'reserved_nano', 'reserved_tokens')
end
"""

# KEYS: counter, leases, list for each claim.
# ARGV: lease, nano, tokens, milliseconds of the lease; then for each claim: whether it is
# hard, its limits in nano and tokens (-1: none), milliseconds to keep it, its group.
# Gives whether it was taken, and the standings. Taking twice is taking once.
RESERVE: Final = (
    _COMMON
    + """
local now = millis()
local lease, nano, tokens, ends = ARGV[1], ARGV[2], ARGV[3], now + tonumber(ARGV[4])
local claims = #KEYS / 3
local known = redis.call('ZSCORE', KEYS[2], lease)

local function within(limit, value, more)
  return tonumber(limit) < 0 or (tonumber(value or 0) + more <= tonumber(limit))
end

local function short(i)
  local counter, at = KEYS[3 * i - 2], 5 * i
  purge(counter, KEYS[3 * i - 1], now)
  if ARGV[at] ~= '1' then return false end
  local stands = standing(counter)
  local held_nano, held_tokens = tonumber(stands[3] or 0), tonumber(stands[4] or 0)
  return not (within(ARGV[at + 1], stands[1], held_nano + tonumber(nano))
    and within(ARGV[at + 2], stands[2], held_tokens + tonumber(tokens)))
end

local taken = 1
if not known then
  for i = 1, claims do
    if short(i) then taken = 0 end
  end
end

local stands = {}
for i = 1, claims do
  local counter, leases, list, at = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i], 5 * i
  if taken == 1 and not known then
    redis.call('ZADD', leases, ends, lease)
    add(counter, 'reserved', '', nano, tokens)
    redis.call('ZADD', list, now, ARGV[at + 4])
    redis.call('ZREMRANGEBYRANK', list, 0, -1001)
    for _, key in ipairs({counter, leases, list}) do
      redis.call('PEXPIRE', key, ARGV[at + 3])
    end
  end
  stands[i] = standing(counter)
end
return {taken, stands}
"""
)

# KEYS: counter, leases for each claim; then a mark that keeps a settlement that is sent twice
# from being counted twice.
# ARGV: lease, nano and tokens used, milliseconds to keep the mark; then for each claim:
# milliseconds to keep it.
SETTLE: Final = (
    _COMMON
    + """
if not redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', ARGV[4]) then return 0 end
for i = 1, (#KEYS - 1) / 2 do
  local counter, leases = KEYS[2 * i - 1], KEYS[2 * i]
  drop(counter, leases, ARGV[1])
  add(counter, 'spent', '', ARGV[2], ARGV[3])
  redis.call('PEXPIRE', counter, ARGV[4 + i])
  redis.call('PEXPIRE', leases, ARGV[4 + i])
end
return 1
"""
)

# KEYS: counter, leases for each counter. Gives the standings.
STANDINGS: Final = (
    _COMMON
    + """
local now, stands = millis(), {}
for i = 1, #KEYS / 2 do
  purge(KEYS[2 * i - 1], KEYS[2 * i], now)
  stands[i] = standing(KEYS[2 * i - 1])
end
return stands
"""
)
