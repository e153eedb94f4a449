"""A very small MCP server on raw asyncio that can misbehave: `python -m tests.fakes.tiny_mcp --port N [--mode MODE]`.

It starts in a few tens of milliseconds, so that tests can start fifty of them. Modes, several joined by commas:

    legacy             knows no server/discover
    forgetful          loses every session after its second request
    no-term            ignores SIGTERM
    grandchild         forks a child that calls setsid and ignores SIGTERM
    daemonize          forks, and the parent exits
    late               binds after a second
    other-port         binds the port after the next one
    anywhere           binds every address
    exit               exits 0 at once
    crash              dies two seconds after the start
    mute               accepts connections and says nothing
    not-mcp            answers 200 with a web page
    too-many           answers 429
    elsewhere          answers 404
    proxy              answers everything with 200, as the health addresses of the proxy do, and refuses every reload
    moody              misbehaves as the file MOOD_FILE says: empty for well, `hang`, `500`

PID_FILE, if it is set, gets the pid of every process started, one a line.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

TOOLS = [{"name": "echo", "inputSchema": {"type": "object"}}, {"name": "add", "inputSchema": {"type": "object"}}]
CAPABILITIES = {"tools": {}}


class TinyServer:
    def __init__(self, modes: set[str]) -> None:
        self.modes = modes
        self.sessions = self.hangups = 0
        self.uses: dict[str, int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if "mute" in self.modes:
                    await asyncio.sleep(3600)
                status, extra, answer = await self.answer(body)
                if "forgetful" in self.modes and self.forgets(headers.get("mcp-session-id")):
                    status, extra, answer = 404, [], b""
                payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode() if answer else b""
                lines = [
                    f"HTTP/1.1 {status} X",
                    "content-type: application/json",
                    f"content-length: {len(payload)}",
                    *extra,
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
                await writer.drain()
        writer.close()

    def hang_up(self) -> None:
        self.hangups += 1

    def forgets(self, session: str | None) -> bool:
        if session is None:
            return False
        self.uses[session] = self.uses.get(session, 0) + 1
        return self.uses[session] > 3

    async def answer(self, body: bytes) -> tuple[int, list[str], object]:
        if "proxy" in self.modes:
            refused = f"the last reload was refused ({self.hangups})" if self.hangups else "current"
            return 200, [], {"registry": refused}
        mood = await self.mood()
        if "too-many" in self.modes or mood == "429":
            return 429, ["retry-after: 60"], b""
        if "elsewhere" in self.modes:
            return 404, [], b"<html>not here</html>"
        if "not-mcp" in self.modes:
            return 200, [], b"<html>hello</html>"
        if mood == "500":
            return 500, [], b""
        message = json.loads(body) if body else {}
        if "id" not in message:
            return 202, [], b""
        return self.respond(message["method"], message["id"])

    async def mood(self) -> str:
        if "moody" not in self.modes:
            return ""
        said = read_mood()
        if said == "hang":
            await asyncio.sleep(3600)
        return said

    def respond(self, method: str, number: object) -> tuple[int, list[str], object]:
        results: dict[str, object] = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": CAPABILITIES,
                "serverInfo": {"name": "tiny", "version": "1"},
            },
            "ping": {},
            "tools/list": {"tools": TOOLS},
        }
        if "legacy" not in self.modes:
            results["server/discover"] = {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES}
        extra: list[str] = []
        if method == "initialize":
            self.sessions += 1
            extra = [f"mcp-session-id: tiny-{os.getpid()}-{self.sessions}"]
        if method not in results:
            error = {"code": -32601, "message": "Method not found"}
            return 200, [], {"jsonrpc": "2.0", "id": number, "error": error}
        return 200, extra, {"jsonrpc": "2.0", "id": number, "result": results[method]}


def read_mood() -> str:
    file = Path(os.environ["MOOD_FILE"])
    return file.read_text().strip() if file.exists() else ""


def tell_pid() -> None:
    if file := os.environ.get("PID_FILE"):
        with Path(file).open("a") as pids:
            pids.write(f"{os.getpid()}\n")


def fork_grandchild() -> None:
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell_pid()
        time.sleep(3600)
        os._exit(0)


def daemonize() -> None:
    if os.fork() != 0:
        os._exit(0)
    os.setsid()


async def main(port: int, modes: set[str]) -> None:
    if "late" in modes:
        await asyncio.sleep(1.0)
    tiny = TinyServer(modes)
    host = "0.0.0.0" if "anywhere" in modes else "127.0.0.1"
    await asyncio.start_server(tiny.serve, host, port + 1 if "other-port" in modes else port)
    if "crash" in modes:
        asyncio.get_running_loop().call_later(2.0, os._exit, 7)
    if "proxy" in modes:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, tiny.hang_up)
    stopped = asyncio.Event()
    if "no-term" not in modes:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", default="")
    options = parser.parse_args()
    chosen = set(options.mode.split(","))
    if "exit" in chosen:
        sys.exit(0)
    if "no-term" in chosen:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "daemonize" in chosen:
        daemonize()
    if "grandchild" in chosen:
        fork_grandchild()
    tell_pid()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(options.port, chosen))
