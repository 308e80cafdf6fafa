-- Asks one target, or parts of it, with given headers; prints one line of figures for load.py.
-- Arguments: size of the file, size of a part (0 0: no parts), then "Name: value" headers.

local requests, turn = {}, 0

function init(args)
   local size, part = tonumber(args[1]), tonumber(args[2])
   for i = 3, #args do
      local name, value = args[i]:match("^([^:]+): (.*)$")
      wrk.headers[name] = value
   end
   if part > 0 then
      math.randomseed(4711)
      for i = 1, 512 do
         local start = math.random(0, size - part)
         wrk.headers["Range"] = string.format("bytes=%d-%d", start, start + part - 1)
         requests[i] = wrk.format()
      end
   else
      requests[1] = wrk.format()
   end
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("FIGURES %d %d %d %d %d %d\n",
      summary.requests, summary.duration, summary.bytes,
      e.connect + e.read + e.write + e.timeout, e.status, latency:percentile(99)))
end
