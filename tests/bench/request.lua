-- The same request over and over: METHOD BYTES [check]
-- With `check` it counts the answers by status, which costs wrk time.

require "report"

function init(arguments)
   wrk.method = arguments[1]
   local bytes = tonumber(arguments[2])
   if bytes > 0 then
      wrk.body = string.rep("x", bytes)
   end
   if arguments[3] == "check" then
      response = saw
   end
end
