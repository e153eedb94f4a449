// A conversation of the official TypeScript client, led from standard input: node conversation.mjs SDK_DIRECTORY URL TOKEN
//
// Each line is {"tool": NAME, "arguments": {…}}; the answer is one line of JSON: {"text": …} or {"error": …}. It answers
// sampling and elicitation, and prints {"notification": METHOD} for what the server says unasked.

import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, url, token] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(directory, "dist/esm", path)).href);
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const types = await load("types.js");

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const client = new Client({ name: "ts", version: "1" }, { capabilities: { sampling: {}, elicitation: {} } });
client.setRequestHandler(types.CreateMessageRequestSchema, () => ({
  role: "assistant",
  model: "none",
  content: { type: "text", text: "sampled" },
}));
client.setRequestHandler(types.ElicitRequestSchema, () => ({ action: "accept", content: { username: "ada", email: "a@b.c" } }));
client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => say({ notification: "tools/list_changed" }));

const transport = new StreamableHTTPClientTransport(new URL(url), {
  requestInit: { headers: { authorization: `Bearer ${token}` } },
  // The server's own `retry` (200 ms) replaces these delays: only the number of attempts makes the client patient.
  reconnectionOptions: { initialReconnectionDelay: 200, maxReconnectionDelay: 1000, reconnectionDelayGrowFactor: 1.5, maxRetries: 200 },
});
await client.connect(transport);
say({ connected: transport.sessionId });

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  try {
    const result = await client.callTool({ name: asked.tool, arguments: asked.arguments ?? {} });
    say({ text: result.content.map((item) => item.text).join(""), isError: result.isError ?? false });
  } catch (error) {
    say({ error: error.message, code: error.code });
  }
}
await transport.terminateSession();
await client.close();
// A stream that is being opened again would keep this process for as many attempts as are left.
process.exit(0);
