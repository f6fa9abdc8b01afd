-- A GET of any of the sessions whose paths a file has, a line each: FILE

require "report"

local paths = {}
local rest

function init(arguments)
   for path in io.lines(arguments[1]) do
      table.insert(paths, path)
   end
   rest = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n\r\n"
end

function request()
   return "GET " .. paths[math.random(#paths)] .. rest
end
