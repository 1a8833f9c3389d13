#!lua name=featureflow_DIGEST
-- What Redis has to do in one step, as a function library; DIGEST is that of this file, so that two versions of
-- FeatureFlow do not meet. The hashes of a call travel as arguments, not as keys: Cluster lets a call name keys
-- of one slot only, but a function touch any key of its node, and a call for every key halves the rate.

local VERSION = 'v'  -- the field that holds a hash's version
local NONE = ('\0'):rep(8)  -- as the version that is expected
local SCANNED = 1000
local EMPTIED = 'EMPTIED it was emptied while in use'

-- Whether one count without leading zeros is less than another: exact, where numbers of Lua end at 2^53.
local function is_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Let a hash live for at least `ms` more. A 64th is added: it need not be prolonged again till then.
local function prolong(key, is_new, ms)
  local left = is_new or redis.call('PTTL', key)
  if is_new or (left >= 0 and left < ms) then
    redis.call('PEXPIRE', key, string.format('%.0f', ms + math.floor(ms / 64)))
  end
end

-- The key of the server's birth, and a name for it, which it gets unless it has one -> the one that it has.
local function born(keys, args)
  redis.call('HSETNX', keys[1], '.', args[1])
  return redis.call('HGET', keys[1], '.')
end

-- Whether the server has another birth by now, or none: it was emptied, which ends no connection.
local function is_another(key, birth)
  return redis.call('HGET', key, '.') ~= birth
end

-- The key of the server's birth, and its name. Then for each hash its key, a heading, and the fields with their values;
-- the heading is the version expected (zeros: none is there), for how many ms it is to live (infinity: for ever), and
-- how many arguments the fields and values are.
-- -> a 1 for each that was written, a 0 where it had moved.
local function write(_, args)
  if is_another(args[1], args[2]) then return redis.error_reply(EMPTIED) end
  local at, answers = 3, {}
  while args[at] do
    local key, first = args[at], at + 2
    local expected, life, count = struct.unpack('<c8dH', args[at + 1])
    at = first + count
    local held = redis.call('HGET', key, VERSION)
    if (held or NONE) ~= expected then
      answers[#answers + 1] = '0'
    else
      redis.call('HSET', key, unpack(args, first, at - 1))
      if life ~= math.huge then
        prolong(key, not held, life)
      elseif held then
        redis.call('PERSIST', key)
      end
      answers[#answers + 1] = '1'
    end
  end
  return table.concat(answers)
end

-- cursor, pattern, field, and the least moment of its newest event ('': any) -> the next cursor, and keys.
local function holding(_, args)
  local cursor, keys = unpack(redis.call('SCAN', args[1], 'MATCH', args[2], 'COUNT', SCANNED))
  local found, since = {cursor}, tonumber(args[4])
  for _, key in ipairs(keys) do
    if since then
      local value = redis.call('HGET', key, args[3])
      if value and struct.unpack('<i8', value) >= since then found[#found + 1] = key end
    elseif redis.call('HEXISTS', key, args[3]) == 1 then
      found[#found + 1] = key
    end
  end
  return found
end

-- field, then keys of hashes: they lose the field, and go where it was the last one.
local function drop(_, args)
  for at = 2, #args do
    if redis.call('HDEL', args[at], args[1]) == 1 and redis.call('HLEN', args[at]) == 1 then
      redis.call('UNLINK', args[at])
    end
  end
end

-- The marker's key, and that of the server's birth; its name; partition, end, …
local function mark(keys, args)
  if is_another(keys[2], args[1]) then return redis.error_reply(EMPTIED) end
  redis.call('HSETNX', keys[1], '.', '')
  for at = 2, #args, 2 do
    local held = redis.call('HGET', keys[1], args[at])
    if not held or is_less(held, args[at + 1]) then redis.call('HSET', keys[1], args[at], args[at + 1]) end
  end
end

-- Of a field's ranks, those that are `gone(feature, grid)`.
local function forget(key, gone)
  for _, name in ipairs(redis.call('HKEYS', key)) do
    local feature, grid = name:match('^(.*)@(-?%d+)$')
    if feature and gone(feature, tonumber(grid)) then redis.call('HDEL', key, name) end
  end
end

-- The ranks' key; withdrawals expected, feature, grid point, population, the first grid point to keep.
local function publish(keys, args)
  if (redis.call('HGET', keys[1], '#') or '0') ~= args[1] then return end
  local kept = tonumber(args[5])
  redis.call('HSETNX', keys[1], args[2] .. '@' .. args[3], args[4])
  forget(keys[1], function(feature, grid) return feature == args[2] and grid < kept end)
end

-- The ranks' key; the last grid point to keep.
local function withdraw(keys, args)
  local last = tonumber(args[1])
  forget(keys[1], function(_, grid) return grid > last end)
  redis.call('HINCRBY', keys[1], '#', 1)
end

redis.register_function{function_name = 'write_DIGEST', callback = write, flags = {'allow-cross-slot-keys'}}
redis.register_function{function_name = 'drop_DIGEST', callback = drop, flags = {'allow-cross-slot-keys'}}
redis.register_function{function_name = 'holding_DIGEST', callback = holding, flags = {'no-writes', 'allow-cross-slot-keys'}}
redis.register_function('born_DIGEST', born)
redis.register_function('mark_DIGEST', mark)
redis.register_function('publish_DIGEST', publish)
redis.register_function('withdraw_DIGEST', withdraw)
