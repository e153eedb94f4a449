// Adds request headers to every request of the conformance suite that goes to one origin; the suite itself cannot.
//
//   CONFORMANCE_ORIGIN=http://localhost:5000 CONFORMANCE_HEADERS='{"authorization":"Bearer …"}' \
//     node --import ./inject-auth.mjs …/conformance/dist/index.js server …
//
// The suite speaks through the global fetch and undici's request, which both end in undici's global dispatcher, and
// through node's own http.request. A header that a scenario sets itself is left alone.
import http from "node:http";
import { createRequire } from "node:module";

const origin = process.env.CONFORMANCE_ORIGIN;
const added = Object.entries(JSON.parse(process.env.CONFORMANCE_HEADERS ?? "{}"));

function pairsOf(headers) {
  if (!headers) return [];
  if (Array.isArray(headers)) {
    const pairs = [];
    for (let i = 0; i < headers.length; i += 2) pairs.push([String(headers[i]), headers[i + 1]]);
    return pairs;
  }
  return typeof headers[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers);
}

function withAdded(headers) {
  const pairs = pairsOf(headers);
  const present = new Set(pairs.map(([name]) => name.toLowerCase()));
  return [...pairs, ...added.filter(([name]) => !present.has(name))].flat();
}

if (origin && added.length > 0) {
  const { Agent, setGlobalDispatcher } = createRequire(process.argv[1])("undici");
  const inject = (dispatch) => (options, handler) =>
    dispatch(String(options.origin) === origin ? { ...options, headers: withAdded(options.headers) } : options, handler);
  setGlobalDispatcher(new Agent().compose(inject));

  const { hostname, port } = new URL(origin);
  const request = http.request;
  http.request = (options, ...rest) => {
    const isOurs = options.hostname === hostname && String(options.port) === port;
    return request(isOurs ? { ...options, headers: { ...Object.fromEntries(added), ...options.headers } } : options, ...rest);
  };
}
