"""What is done to a conversation in Redis at one go. See `redis_keys` for the keys."""

from typing import Final

# KEYS: meta, turns, marks, sessions, principals, expiring. ARGV: mark, id, at, ttl in ms or
# empty, session, place, principal, then the turns. Members of `turns` begin with their index.
APPEND: Final = """
local meta, turns, marks, sessions, principals, expiring = unpack(KEYS)
local mark, id, at, ttl, session, place, principal = unpack(ARGV, 1, 7)
if redis.call('SISMEMBER', marks, mark) == 1 then return redis.call('ZCARD', turns) end
if redis.call('EXISTS', meta) == 0 then
  redis.call('HSET', meta, 'next', 0, 'created', at, 'etag', id, 'ttl', 0)
end
local index = tonumber(redis.call('HGET', meta, 'next'))
for n = 8, #ARGV do
  redis.call('ZADD', turns, index, index .. ':' .. ARGV[n])
  index = index + 1
end
redis.call('HSET', meta, 'next', index, 'updated', at)
redis.call('SADD', marks, mark)
local lists = {sessions}
if principal ~= '' then lists[2] = principals end
local new = {}
for n, list in ipairs(lists) do new[n] = redis.call('EXISTS', list) == 0 end
redis.call('ZADD', sessions, 0, session)
if principal ~= '' then redis.call('ZADD', principals, 0, place) end
if ttl == '' then ttl = redis.call('HGET', meta, 'ttl') end
redis.call('HSET', meta, 'ttl', ttl)
if tonumber(ttl) > 0 then
  local time = redis.call('TIME')
  local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ttl
  redis.call('HSET', meta, 'ends', ends / 1000)
  for n = 1, 3 do redis.call('PEXPIREAT', KEYS[n], ends) end
  redis.call('ZADD', expiring, ends, place)
  -- A list lives as long as the longest of what is in it: no name outlives its turns.
  for n, list in ipairs(lists) do
    local left = redis.call('PTTL', list)
    if new[n] or (left >= 0 and left < tonumber(ttl)) then
      redis.call('PEXPIREAT', list, ends)
    end
  end
else
  redis.call('HDEL', meta, 'ends')
  for n = 1, 3 do redis.call('PERSIST', KEYS[n]) end
  redis.call('ZREM', expiring, place)
  for _, list in ipairs(lists) do redis.call('PERSIST', list) end
end
return redis.call('ZCARD', turns)
"""

# KEYS: meta, turns, marks, sessions, expiring. ARGV: session, place.
CLEAR: Final = """
local count = redis.call('ZCARD', KEYS[2])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[2])
return count
"""

# KEYS: meta. ARGV: etag that it must have, new etag, summary, until.
SUMMARISE: Final = """
if redis.call('HGET', KEYS[1], 'etag') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'etag', ARGV[2], 'summary', ARGV[3], 'until', ARGV[4])
return 1
"""

# KEYS: turns. ARGV: index, old member, new member, and so on.
REPLACE: Final = """
for n = 1, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[n + 1]) == 1 then
    redis.call('ZADD', KEYS[1], ARGV[n], ARGV[n + 2])
  end
end
"""

# KEYS: meta, turns, marks, sessions, expiring. ARGV: etag, session, place, then members of
# turns to remove, each with its run. A new etag: a summary that is being made just now may
# not come back.
REMOVE: Final = """
local count = 0
for n = 4, #ARGV, 2 do
  if redis.call('ZREM', KEYS[2], ARGV[n]) == 1 then
    count = count + 1
    redis.call('SREM', KEYS[3], ARGV[n + 1])
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HDEL', KEYS[1], 'summary', 'until')
  redis.call('HSET', KEYS[1], 'etag', ARGV[1])
end
if redis.call('ZCARD', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('ZREM', KEYS[5], ARGV[3])
end
return count
"""

# KEYS: meta, sessions, expiring. ARGV: session, place. For one that has expired.
DROP: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[3], ARGV[2])
"""

# KEYS: turns, principals. ARGV: place, principal. For one who has no turn there any more.
UNLIST: Final = """
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local body = cjson.decode(string.sub(member, string.find(member, ':') + 1))
  if body[2] == ARGV[2] then return 0 end
end
return redis.call('ZREM', KEYS[2], ARGV[1])
"""
