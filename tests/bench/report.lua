-- What a run of wrk came to, as one line for load.py. Scripts that look at
-- answers call `saw`, which counts them by status in each thread.

local ffi = require "ffi"
ffi.cdef "struct time { long seconds, nanos; }; int clock_gettime(int, struct time *);"

statuses = {}

local threads = {}
local time = ffi.new("struct time")

-- wrk's own clock starts after the last of its threads has, which with a
-- thread a connection is late.
function saw(status)
   statuses[status] = (statuses[status] or 0) + 1
   ffi.C.clock_gettime(1, time)
   last = tonumber(time.seconds) * 1e6 + tonumber(time.nanos) / 1e3
   first = first or last
end

function setup(thread)
   table.insert(threads, thread)
end

function done(summary, latency)
   local errors = summary.errors
   local sums, from, to = {}, math.huge, 0
   for _, thread in ipairs(threads) do
      for status, count in pairs(thread:get("statuses")) do
         sums[status] = (sums[status] or 0) + count
      end
      from = math.min(from, thread:get("first") or from)
      to = math.max(to, thread:get("last") or to)
   end
   local line = string.format(
      "figures requests=%d microseconds=%d p50=%d p99=%d refused=%d closed=%d broken=%d",
      summary.requests, to > from and to - from or summary.duration,
      latency:percentile(50), latency:percentile(99), errors.status,
      errors.read, errors.connect + errors.write + errors.timeout)
   for status, count in pairs(sums) do
      line = line .. string.format(" status%d=%d", status, count)
   end
   print(line)
end
