-- Whole meetings, one after the other: a session is created, polled and
-- written in turns, and ended. PUTS POLLS
-- wrk does not say on which connection a request goes, so each connection
-- wants a thread of its own.

require "report"

local created = { POST = 201, GET = 200, PUT = 202, DELETE = 204 }
local payload = string.rep("x", 511)
local steps = {}
local step = 1
local round = 0
local common, create, session, tag, seen

function init(arguments)
   local puts, polls = tonumber(arguments[1]), tonumber(arguments[2])
   local before = puts > 0 and math.floor(polls / puts) or 0
   steps = { "POST" }
   for _ = 1, puts do
      for _ = 1, before do
         table.insert(steps, "GET")
      end
      table.insert(steps, "PUT")
   end
   for _ = 1, polls - puts * before do
      table.insert(steps, "GET")
   end
   table.insert(steps, "DELETE")

   create = wrk.path
   common = " HTTP/1.1\r\n"
   for name, value in pairs(wrk.headers) do
      common = common .. name .. ": " .. value .. "\r\n"
   end
end

-- wrk asks once more than it sends, so asking changes nothing.
function request()
   local method = steps[step]
   if method == "GET" then
      return "GET " .. session .. common .. "If-None-Match: " .. seen .. "\r\n\r\n"
   elseif method == "DELETE" then
      return "DELETE " .. session .. common .. "\r\n"
   end
   local head = method .. " " .. (method == "PUT" and session or create) .. common
   if method == "PUT" then
      head = head .. "If-Match: " .. tag .. "\r\n"
   end
   -- The predecessor's tag is a hash: each payload differs from the last.
   return head .. "Content-Type: text/plain\r\nContent-Length: 512\r\n\r\n" .. round % 10 .. payload
end

function response(status, headers, body)
   saw(status)
   local method = steps[step]
   if status ~= created[method] and not (method == "GET" and status == 304) then
      step = 1
      return
   end
   tag = headers["ETag"] or headers["etag"] or tag
   if method == "POST" then
      session = headers["Location"] or headers["location"] or body:match('"url":"https?://[^/]*([^"]*)"')
      if session:sub(1, 1) ~= "/" then
         session = create .. "/" .. session
      end
      seen = tag
   elseif method == "GET" then
      -- A poll that has something new comes once after each write, which the
      -- other device made.
      seen = tag
   end
   round = round + 1
   step = step % #steps + 1
end
