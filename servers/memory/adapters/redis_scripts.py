"""What is done to a conversation in Redis at one go. See `redis_keys` for the keys.

A list of names has an entry for each session; what of it ends with its session is in `expiring`,
as the list's key, a blank and the entry. Each write removes some of what is over.
"""

from typing import Final

# Of one session: out of all lists, and gone. Needs `meta` and the other keys as locals.
_FORGET: Final = """
local function unlist(list, entry)
  redis.call('ZREM', list, entry)
  redis.call('ZREM', expiring, list .. ' ' .. entry)
end
local function forget(session, place)
  for _, list in ipairs(redis.call('SMEMBERS', people)) do unlist(list, place) end
  unlist(sessions, session)
  redis.call('DEL', meta, turns, marks, people)
end
"""

_PRUNE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pruned = redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, 20)
for _, over in ipairs(pruned) do
  local blank = string.find(over, ' ', 1, true)
  redis.call('ZREM', string.sub(over, 1, blank - 1), string.sub(over, blank + 1))
  redis.call('ZREM', expiring, over)
end
"""

# Answers of one piece are much quicker to read than lists: a turn never has a line's end in it.

# KEYS: turns, meta. ARGV: how many of those that are not in the summary. Says on the first line
# how many turns there are, and the summary, as JSON; then the newest first.
UNSUMMARISED: Final = """
local total = redis.call('ZCARD', KEYS[1])
if total == 0 then return '' end
local summary, past = unpack(redis.call('HMGET', KEYS[2], 'summary', 'until'))
local turns = redis.call(
  'ZRANGE', KEYS[1], '+inf', past or '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[1])
return cjson.encode({total, summary or ''}) .. '\\n' .. table.concat(turns, '\\n')
"""

# KEYS: turns. ARGV: the index before which they are, or +inf, and how many. Says how many turns
# there are on the first line, then the newest first.
NEWEST: Final = """
local turns = redis.call(
  'ZRANGE', KEYS[1], ARGV[1], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[2])
if #turns == 0 then return '' end
return redis.call('ZCARD', KEYS[1]) .. '\\n' .. table.concat(turns, '\\n')
"""

# KEYS: turns. ARGV: the index behind which they are, and how many. The oldest first.
PAGE: Final = """
return table.concat(redis.call(
  'ZRANGE', KEYS[1], '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2]), '\\n')
"""

# KEYS: expiring. Says how many entries it has removed; again, while it is any.
PRUNE: Final = f"""
local expiring = KEYS[1]
{_PRUNE}
return #pruned
"""

# KEYS: meta, turns, marks, people, sessions, expiring, and his list of places, if he has a name.
# ARGV: mark, id, at, ttl in ms or empty, session, place, then the turns. Members of `turns`
# begin with their index.
APPEND: Final = f"""
local meta, turns, marks, people, sessions, expiring, his = unpack(KEYS)
local mark, id, at, ttl, session, place = unpack(ARGV, 1, 6)
{_PRUNE}
if redis.call('SISMEMBER', marks, mark) == 1 then return redis.call('ZCARD', turns) end
if redis.call('EXISTS', meta) == 0 then
  redis.call('HSET', meta, 'next', 0, 'created', at, 'etag', id, 'ttl', 0)
end
local index = tonumber(redis.call('HGET', meta, 'next'))
for n = 7, #ARGV do
  redis.call('ZADD', turns, index, index .. ':' .. ARGV[n])
  index = index + 1
end
if ttl == '' then ttl = redis.call('HGET', meta, 'ttl') end
redis.call('HSET', meta, 'next', index, 'updated', at, 'ttl', ttl)
redis.call('SADD', marks, mark)
if his then redis.call('SADD', people, his) end

local ends = tonumber(ttl) > 0 and now + tonumber(ttl) or 0
if ends > 0 then redis.call('HSET', meta, 'ends', ends / 1000)
else redis.call('HDEL', meta, 'ends') end
for n = 1, 4 do
  if ends > 0 then redis.call('PEXPIREAT', KEYS[n], ends) else redis.call('PERSIST', KEYS[n]) end
end

-- A list lives as long as the longest of what is in it: no name outlives its turns.
local function enlist(list, entry)
  local new = redis.call('EXISTS', list) == 0
  redis.call('ZADD', list, 0, entry)
  local left = redis.call('PTTL', list)
  if ends == 0 then redis.call('PERSIST', list)
  elseif new or (left >= 0 and now + left < ends) then redis.call('PEXPIREAT', list, ends) end
  if ends > 0 then redis.call('ZADD', expiring, ends, list .. ' ' .. entry)
  else redis.call('ZREM', expiring, list .. ' ' .. entry) end
end
enlist(sessions, session)
for _, list in ipairs(redis.call('SMEMBERS', people)) do enlist(list, place) end
return redis.call('ZCARD', turns)
"""

# KEYS: meta, turns, marks, people, sessions, expiring. ARGV: session, place.
CLEAR: Final = f"""
local meta, turns, marks, people, sessions, expiring = unpack(KEYS)
{_FORGET}
local count = redis.call('ZCARD', turns)
forget(ARGV[1], ARGV[2])
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

# KEYS: meta, turns, marks, people, sessions, expiring. ARGV: etag, session, place, then members
# of turns to remove, each with its run. A new etag: a summary that is being made just now may
# not come back.
REMOVE: Final = f"""
local meta, turns, marks, people, sessions, expiring = unpack(KEYS)
{_FORGET}
local count = 0
for n = 4, #ARGV, 2 do
  if redis.call('ZREM', turns, ARGV[n]) == 1 then
    count = count + 1
    redis.call('SREM', marks, ARGV[n + 1])
  end
end
if redis.call('EXISTS', meta) == 1 then
  redis.call('HDEL', meta, 'summary', 'until')
  redis.call('HSET', meta, 'etag', ARGV[1])
end
if redis.call('ZCARD', turns) == 0 then forget(ARGV[2], ARGV[3]) end
return count
"""

# KEYS: turns, people, expiring, his list. ARGV: place, principal. For one who has no turn
# there any more.
UNLIST: Final = """
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local body = cjson.decode(string.sub(member, string.find(member, ':') + 1))
  if body[2] == ARGV[2] then return 0 end
end
redis.call('SREM', KEYS[2], KEYS[4])
redis.call('ZREM', KEYS[3], KEYS[4] .. ' ' .. ARGV[1])
return redis.call('ZREM', KEYS[4], ARGV[1])
"""
