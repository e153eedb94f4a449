-- Load for wrk: one request, made of the files named in the environment; the result as one line of JSON.
local function read(name)
  local file = assert(io.open(os.getenv(name), "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

wrk.method = "POST"
wrk.body = read("BENCH_BODY")
for line in read("BENCH_HEADERS"):gmatch("[^\n]+") do
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end

-- With BENCH_SESSIONS every request is of the next session of that file, round and round, after the first BENCH_TURN.
local sessions, turn = {}, tonumber(os.getenv("BENCH_TURN") or 0)
if os.getenv("BENCH_SESSIONS") then
  for line in read("BENCH_SESSIONS"):gmatch("[^\n]+") do
    sessions[#sessions + 1] = line
  end
  function request()
    turn = turn % #sessions + 1
    wrk.headers["mcp-session-id"] = sessions[turn]
    return wrk.format()
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers":%d,"duration_us":%d,"p50_us":%.0f,"p99_us":%.0f,"mean_us":%.1f,"statuses":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.mean,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
