/**
 * Every Lua script of the live state. Each touches the keys of one hash tag only (Redis Cluster), and each may be
 * repeated with the same arguments without harm: a caller whose command timed out does not know whether it ran.
 *
 * Lua numbers are doubles and print as `1e+15` beyond 14 digits, cjson.encode rounds likewise. Counts below 2^53
 * compare exactly as numbers; they are only ever written as text that the caller sent, or with `%.0f`.
 */

/**
 * KEYS 1 claim
 * ARGV 1 ClaimRecord JSON, 2 ttl ms, 3 allocationId of that record, 4 allocationId that may be displaced, or ''
 * Returns {1, ''} when the claim is now held by the allocation (it was free, its own already, or that of the
 * displaced one); the ttl is never shortened. Else {0, the holder's ClaimRecord JSON}. A value that cannot be read
 * counts as free. Also the renewal: a holder re-asserts its claim after Redis came back empty.
 */
const claimTake = `
local held = redis.call('GET', KEYS[1])
local ttl = tonumber(ARGV[2])
if held then
  local ok, record = pcall(cjson.decode, held)
  local holder = ok and type(record) == 'table' and record.allocationId or nil
  if holder and holder ~= ARGV[3] and holder ~= ARGV[4] then return {0, held} end
  if holder == ARGV[3] then
    local left = redis.call('PTTL', KEYS[1])
    if left > ttl then ttl = left end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', string.format('%.0f', ttl))
return {1, ''}
`;

/**
 * KEYS 1 claim
 * ARGV 1 allocationId
 * Returns 1 when the claim was held by the allocation and is now free, else 0.
 */
const claimRelease = `
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
local ok, record = pcall(cjson.decode, held)
if not ok or type(record) ~= 'table' or record.allocationId ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
`;

/**
 * KEYS 1 sticky
 * ARGV 1 StickyRecord JSON, 2 ttl ms, 3 deviceId of that record, 4 deviceId that the session had, or ''
 * Returns '' when the session goes out through that device from now on; else the StickyRecord JSON of somebody who was
 * faster. A value that cannot be read counts as none.
 */
const stickyTake = `
local held = redis.call('GET', KEYS[1])
if held then
  local ok, record = pcall(cjson.decode, held)
  local device = ok and type(record) == 'table' and record.deviceId or nil
  if device and device ~= ARGV[3] and device ~= ARGV[4] then return held end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
`;

/**
 * KEYS 1 meters, 2 dirty meters (one gateway's)
 * ARGV six for each meter: key, bytesUp, bytesDown, final 0/1, allocationEnded 0/1, MeterReport JSON
 * Keeps the larger of each count and whatever was final or ended (reports may arrive late, twice or out of order);
 * marks a meter dirty when that changed it. Returns how many changed.
 */
const reportMeters = `
local changed = 0
for i = 1, #ARGV, 6 do
  local key, json = ARGV[i], ARGV[i + 5]
  local up, down = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local final, ended = ARGV[i + 3] == '1', ARGV[i + 4] == '1'
  local stored = redis.call('HGET', KEYS[1], key)
  local ok, old = false, nil
  if stored then ok, old = pcall(cjson.decode, stored) end
  if ok and type(old) == 'table' and type(old.bytesUp) == 'number' and type(old.bytesDown) == 'number' then
    local oldFinal, oldEnded = old.final == true, old.allocationEnded == true
    local newer = up > old.bytesUp or down > old.bytesDown or (final and not oldFinal) or (ended and not oldEnded)
    local older = up < old.bytesUp or down < old.bytesDown or (oldFinal and not final) or (oldEnded and not ended)
    if not newer then
      json = nil
    elseif older then
      json = string.gsub(json, '"bytesUp":%d+', '"bytesUp":' .. string.format('%.0f', math.max(up, old.bytesUp)))
      json = string.gsub(json, '"bytesDown":%d+', '"bytesDown":' .. string.format('%.0f', math.max(down, old.bytesDown)))
      json = string.gsub(json, '"final":%a+', '"final":' .. tostring(final or oldFinal))
      json = string.gsub(json, '"allocationEnded":%a+', '"allocationEnded":' .. tostring(ended or oldEnded))
    end
  end
  if json then
    redis.call('HSET', KEYS[1], key, json)
    redis.call('SADD', KEYS[2], key)
    changed = changed + 1
  end
end
return changed
`;

/**
 * KEYS 1 meters, 2 dirty meters, 3 settled (one gateway's)
 * ARGV four for each meter: key, bytesUp, bytesDown, final 0/1 as Postgres has committed them
 * Writes the SettledMark (the larger of each, like a report). A meter with nothing beyond the mark is no longer
 * dirty; once its FINAL is committed, its report is deleted. Returns for each meter 1 when nothing is left to book.
 */
const settleMeters = `
local clean = {}
for i = 1, #ARGV, 4 do
  local key = ARGV[i]
  local up, down = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local final = ARGV[i + 3] == '1'
  local settled = redis.call('HGET', KEYS[3], key)
  if settled then
    local ok, old = pcall(cjson.decode, settled)
    if ok and type(old) == 'table' and type(old.bytesUp) == 'number' and type(old.bytesDown) == 'number' then
      up, down = math.max(up, old.bytesUp), math.max(down, old.bytesDown)
      final = final or old.final == true
    end
  end
  redis.call('HSET', KEYS[3], key, string.format('{"bytesUp":%.0f,"bytesDown":%.0f,"final":%s}', up, down, tostring(final)))
  local done = true
  local stored = redis.call('HGET', KEYS[1], key)
  if stored then
    local ok, report = pcall(cjson.decode, stored)
    if ok and type(report) == 'table' and type(report.bytesUp) == 'number' and type(report.bytesDown) == 'number' then
      done = report.bytesUp <= up and report.bytesDown <= down and (final or report.final ~= true)
    end
    if done and final then redis.call('HDEL', KEYS[1], key) end
  end
  if done then redis.call('SREM', KEYS[2], key) end
  clean[#clean + 1] = done and 1 or 0
end
return clean
`;

/**
 * KEYS 1 meters, 2 dirty meters (one gateway's)
 * ARGV meter keys
 * Takes those without a report out of the dirty set. Returns how many.
 */
const dropOrphanMeters = `
local dropped = 0
for i = 1, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then dropped = dropped + redis.call('SREM', KEYS[2], ARGV[i]) end
end
return dropped
`;

/**
 * KEYS 1 wallet asks (one gateway's)
 * ARGV five for each wallet: field, wantGranted, renounced, withdrawn, finished 0/1
 * Keeps the larger of each number and whatever was finished. Returns how many changed.
 */
const askWallets = `
local changed = 0
for i = 1, #ARGV, 5 do
  local want, renounced, withdrawn = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local finished = ARGV[i + 4] == '1'
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  local ok, old = false, nil
  if stored then ok, old = pcall(cjson.decode, stored) end
  if ok and type(old) == 'table' then
    want = math.max(want, tonumber(old.wantGranted) or 0)
    renounced = math.max(renounced, tonumber(old.renounced) or 0)
    withdrawn = math.max(withdrawn, tonumber(old.withdrawn) or 0)
    finished = finished or old.finished == true
  end
  local json = string.format('{"wantGranted":"%.0f","renounced":"%.0f","withdrawn":"%.0f","finished":%s}', want, renounced, withdrawn, tostring(finished))
  if json ~= stored then
    redis.call('HSET', KEYS[1], ARGV[i], json)
    changed = changed + 1
  end
end
return changed
`;

/**
 * KEYS 1 wallets (one gateway's)
 * ARGV five for each wallet: field, granted, answered, state as Postgres has committed them, beyond (may be empty)
 * Keeps the larger granted; state and beyond are those of the later answer. Two control planes may write in the wrong
 * order.
 */
const showWallets = `
for i = 1, #ARGV, 5 do
  local granted, answered, state = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  local beyond = ARGV[i + 4]
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  local ok, old = false, nil
  if stored then ok, old = pcall(cjson.decode, stored) end
  if ok and type(old) == 'table' then
    local oldGranted, oldAnswered = tonumber(old.granted) or 0, tonumber(old.answered) or 0
    if oldAnswered > answered or (oldAnswered == answered and oldGranted > granted) then
      answered = oldAnswered
      if old.state == 'open' or old.state == 'wait' or old.state == 'exhausted' then state = old.state end
      beyond = ''
    end
    if beyond == '' and type(old.beyond) == 'string' then beyond = old.beyond end
    granted = math.max(granted, oldGranted)
  end
  local json = string.format('{"granted":"%.0f","answered":"%.0f","state":"%s"', granted, answered, state)
  if string.match(beyond, '^%d+$') then json = json .. ',"beyond":"' .. beyond .. '"' end
  redis.call('HSET', KEYS[1], ARGV[i], json .. '}')
end
return #ARGV / 5
`;

/**
 * KEYS 1 device
 * ARGV 1 DevicePresence JSON with `"sinceMs":n`, 2 ttl ms, 3 its gatewayId, 4 that n, 5 whether the tunnel was just opened 0/1
 * Writes the presence, unless another gateway's is of a newer tunnel. One just opened is newer than what is there: its sinceMs is
 * raised above that. Returns the sinceMs written as text, or '' when another one stays.
 */
const keepDevice = `
local held = redis.call('GET', KEYS[1])
local json, since = ARGV[1], tonumber(ARGV[4])
-- Its own record is the usual case, and decoding is most of what this costs.
if held and not string.find(held, '"gatewayId":"' .. ARGV[3] .. '"', 1, true) then
  local ok, record = pcall(cjson.decode, held)
  if ok and type(record) == 'table' and type(record.sinceMs) == 'number' then
    if ARGV[5] == '1' then
      since = math.max(since, record.sinceMs + 1)
    elseif record.sinceMs > since then
      return ''
    end
  end
end
local text = string.format('%.0f', since)
if text ~= ARGV[4] then json = string.gsub(json, '"sinceMs":%d+', '"sinceMs":' .. text) end
redis.call('SET', KEYS[1], json, 'PX', ARGV[2])
return text
`;

/**
 * KEYS 1 gateway
 * ARGV 1 GatewayPresence JSON, 2 ttl ms, 3 its epoch, 4 its startedAtMs
 * Writes it, unless a process that began later has the id: then returns that one's JSON, else ''.
 */
const keepGateway = `
local held = redis.call('GET', KEYS[1])
if held then
  local ok, record = pcall(cjson.decode, held)
  if ok and type(record) == 'table' and record.epoch ~= ARGV[3] then
    if type(record.startedAtMs) == 'number' and record.startedAtMs > tonumber(ARGV[4]) then return held end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
`;

/**
 * KEYS 1 a record as JSON
 * ARGV 1 field, 2 value
 * Deletes it when the field has the value. Returns 1 when it did, else 0.
 */
const dropOwn = `
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
local ok, record = pcall(cjson.decode, held)
if not ok or type(record) ~= 'table' or record[ARGV[1]] ~= ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])
`;

/**
 * KEYS 1 use of limits (one owner's)
 * ARGV 1 gatewayId, 2 ms that its record is good for, 3 live streams there, 4 connections a second that the owner may make
 * over all gateways or -1, 5 as many as are asked for there, 6 bytes a second that it may move or -1, 7 as many as it would
 * move there, 8 the weight of that
 * Writes the gateway's record and drops those that have expired by this server's clock. Returns {streams at the others, its
 * portion of the connections, of the bytes (each -1 without a limit), gateways with a record}.
 *
 * Portions are whole numbers whose sum is the limit: an eighth in equal parts, so that nobody is left without; of the rest
 * everybody gets what it wants, by weight where that is too much; what nobody wants in equal parts; remainders go to the
 * largest fractions, the first id among equals. No more is given than the others leave: of what each was given last, as much
 * as it wants, so that nobody waits for what another one has and does not need. That, and an equal part of the
 * eighth for one that comes, is all by which gateways may hold more than the limit until they have asked once more each.
 */
const shareLimits = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local me = ARGV[1]
local ids, streams, latest = {me}, 0, now + tonumber(ARGV[2])
local rates = {want = {tonumber(ARGV[5])}, weight = {tonumber(ARGV[5]) + 1}, held = {0}}
local bytes = {want = {tonumber(ARGV[7])}, weight = {tonumber(ARGV[8])}, held = {0}}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= me then
    local till, live, rate, rateHeld, byte, weight, byteHeld =
      string.match(all[i + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
    till = tonumber(till)
    -- A clock that was set back must not keep the dead for long.
    if not till or till <= now or till > now + 600000 then
      redis.call('HDEL', KEYS[1], all[i])
    else
      streams = streams + live
      local n = #ids + 1
      ids[n] = all[i]
      rates.want[n], rates.weight[n], rates.held[n] = tonumber(rate), rate + 1, tonumber(rateHeld)
      bytes.want[n], bytes.weight[n], bytes.held[n] = tonumber(byte), tonumber(weight), tonumber(byteHeld)
      if till > latest then latest = till end
    end
  end
end

-- In whole numbers wherever the order counts in which they are added: every gateway's portions are made of the same ones.
local function portion(limit, of)
  local n = #ids
  if limit < 0 then return -1 end
  if n == 1 then return limit end
  local floor = math.floor(limit / 8 / n)
  if floor < 1 and limit >= n then floor = 1 end
  local free, rest, open, wanted, more, done = limit, limit - floor * n, 0, 0, {}, {}
  for i = 1, n do
    more[i] = math.max(0, math.min(of.want[i], limit) - floor)
    wanted, open = wanted + more[i], open + of.weight[i]
    if i > 1 then free = free - math.min(of.held[i], math.max(of.want[i], floor)) end
  end
  local isShort, again = wanted > rest, wanted > rest
  while again do
    again = false
    local restNow, openNow = rest, open
    for i = 1, n do
      if not done[i] and more[i] * openNow <= restNow * of.weight[i] then
        done[i], again = true, true
        rest, open = rest - more[i], open - of.weight[i]
      end
    end
  end
  local mine, fraction, left, before = 0, 0, limit, 0
  for i = 1, n do
    local part = floor
    if not isShort then part = part + more[i] + (rest - wanted) / n
    elseif done[i] then part = part + more[i]
    else part = part + rest * of.weight[i] / open end
    local whole = math.floor(part)
    left = left - whole
    if i == 1 then mine, fraction = whole, part - whole
    elseif part - whole > fraction or (part - whole == fraction and ids[i] < me) then before = before + 1 end
  end
  if before < left then mine = mine + 1 end
  return math.max(math.min(mine, free), floor)
end

local rate, byte = portion(tonumber(ARGV[4]), rates), portion(tonumber(ARGV[6]), bytes)
redis.call('HSET', KEYS[1], me, string.format('%.0f %s %s %.0f %s %s %.0f',
  now + tonumber(ARGV[2]), ARGV[3], ARGV[5], math.max(rate, 0), ARGV[7], ARGV[8], math.max(byte, 0)))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', latest - now))
return {streams, rate, byte, #ids}
`;

/**
 * Marks the live state of one server complete, if the rebuild that says so began here after it was last emptied.
 * KEYS: ready, rebuilding. ARGV: mark. Returns 1, or 0 when it did not.
 */
const markReady = `
if redis.call('DEL', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
`;

/** For ioredis' `scripts` option. */
export const scripts = {
  claimTake: { numberOfKeys: 1, lua: claimTake },
  claimRelease: { numberOfKeys: 1, lua: claimRelease },
  stickyTake: { numberOfKeys: 1, lua: stickyTake },
  reportMeters: { numberOfKeys: 2, lua: reportMeters },
  settleMeters: { numberOfKeys: 3, lua: settleMeters },
  dropOrphanMeters: { numberOfKeys: 2, lua: dropOrphanMeters },
  askWallets: { numberOfKeys: 1, lua: askWallets },
  showWallets: { numberOfKeys: 1, lua: showWallets },
  keepDevice: { numberOfKeys: 1, lua: keepDevice },
  keepGateway: { numberOfKeys: 1, lua: keepGateway },
  dropOwn: { numberOfKeys: 1, lua: dropOwn },
  shareLimits: { numberOfKeys: 1, lua: shareLimits },
  markReady: { numberOfKeys: 2, lua: markReady },
};

/** The scripts as methods. Call them through `claims.ts`, `meters.ts`, `wallets.ts`, `presence.ts`, `sticky.ts`, `limit-use.ts` and `store.ts`. */
export interface ScriptCommands {
  claimTake(
    claim: string,
    recordJson: string,
    ttlMs: string,
    allocationId: string,
    displaces: string,
  ): Promise<[0 | 1, string]>;
  claimRelease(claim: string, allocationId: string): Promise<0 | 1>;
  stickyTake(
    sticky: string,
    recordJson: string,
    ttlMs: string,
    deviceId: string,
    deviceIdBefore: string,
  ): Promise<string>;
  reportMeters(meters: string, dirty: string, ...args: string[]): Promise<number>;
  settleMeters(meters: string, dirty: string, settled: string, ...args: string[]): Promise<Array<0 | 1>>;
  dropOrphanMeters(meters: string, dirty: string, ...keys: string[]): Promise<number>;
  askWallets(asks: string, ...args: string[]): Promise<number>;
  showWallets(wallets: string, ...args: string[]): Promise<number>;
  keepDevice(
    device: string,
    presenceJson: string,
    ttlMs: string,
    gatewayId: string,
    sinceMs: string,
    came: '0' | '1',
  ): Promise<string>;
  keepGateway(
    gateway: string,
    presenceJson: string,
    ttlMs: string,
    epoch: string,
    startedAtMs: string,
  ): Promise<string>;
  dropOwn(key: string, field: string, value: string): Promise<0 | 1>;
  shareLimits(limitUse: string, ...args: string[]): Promise<[number, number, number, number]>;
  markReady(ready: string, rebuilding: string, mark: string): Promise<0 | 1>;
}
