"""A stdio MCP server on the standard library alone: starts in 50 ms and does on request what real servers do by accident.

    python -m tests.fakes.tiny [--era dual|modern|legacy|silent] [--stubborn] [--journal FILE] [--start-delay-s S]

--era dual locks to the era of the first request, as the SDK's servers do; legacy answers -32601 to everything modern;
silent never answers what it does not know. --stubborn ignores SIGTERM and the end of its input. The journal gets a
line `WORD REST` for what happened: cancelled, term, exit.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"
HEADER_SCHEMA: Final = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
}


class RpcError(Exception):
    """A JSON-RPC error for the caller."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Tiny:
    """Requests are served in threads, so that several are in flight."""

    def __init__(self, era: str, journal: Path | None, *, is_stubborn: bool) -> None:
        self.era = era
        self.journal = journal
        self.is_stubborn = is_stubborn
        self.locked: str | None = None if era in {"dual", "silent"} else era
        self.writing = threading.Lock()
        self.cancelled: dict[Any, threading.Event] = {}
        self.answers: dict[str, Json] = {}
        self.answered = threading.Condition()
        self.listening: list[Any] = []
        self.tools: dict[str, Callable[[Json, Json], object]] = {
            "echo": self.echo,
            "seen": self.seen,
            "sleep": self.sleep,
            "log": self.log,
            "ask": self.ask,
            "change": self.change,
            "large": lambda arguments, _: "x" * arguments["size"],
            "garbage": self.garbage,
            "crash": lambda arguments, _: os.kill(os.getpid(), signal.SIGKILL),
            "spawn": self.spawn,
            "environment": lambda arguments, _: dict(os.environ),
            "mirror": self.echo,
        }

    def note(self, word: str, rest: object = "") -> None:
        if self.journal is not None:
            with self.journal.open("a") as journal:
                journal.write(f"{word} {rest}\n")

    def send(self, message: Json) -> None:
        with self.writing:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            sys.stdout.flush()

    def notify(self, method: str, params: Json) -> None:
        self.send({"method": method, "params": params})

    def serve(self) -> None:
        for line in sys.stdin:
            message: Json = json.loads(line)
            if "method" not in message:
                with self.answered:
                    self.answers[str(message["id"])] = message
                    self.answered.notify_all()
            elif "id" not in message:
                self.take_notification(message)
            else:
                self.cancelled[message["id"]] = threading.Event()
                threading.Thread(target=self.answer, args=(message,), daemon=True).start()
        self.note("eof")
        while self.is_stubborn:
            time.sleep(1)

    def take_notification(self, message: Json) -> None:
        params = message.get("params") or {}
        if message["method"] == "notifications/cancelled":
            self.note("cancelled", params.get("requestId"))
            event = self.cancelled.get(params.get("requestId"))
            if event is not None:
                event.set()

    def answer(self, message: Json) -> None:
        try:
            result = self.dispatch(message)
        except RpcError as error:
            problem: Json = {"code": error.code, "message": str(error)}
            self.send({"id": message["id"], "error": problem | ({"data": error.data} if error.data else {})})
            return
        if result is not None and not self.cancelled[message["id"]].is_set():
            self.send({"id": message["id"], "result": result})

    def dispatch(self, message: Json) -> Json | None:
        method, params = message["method"], message.get("params") or {}
        is_modern = VERSION_KEY in (params.get("_meta") or {})
        self.check_era(is_modern=is_modern, method=method)
        if method == "initialize":
            capabilities = {"tools": {"listChanged": True}, "logging": {}}
            return {
                "protocolVersion": LEGACY,
                "capabilities": capabilities,
                "serverInfo": {"name": "tiny", "version": "1"},
            }
        if method == "server/discover":
            return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
        if method == "ping":
            return {}
        if method == "tools/list":
            schemas: Json = {name: {"type": "object"} for name in self.tools} | {"mirror": HEADER_SCHEMA}
            return {"tools": [{"name": name, "inputSchema": schema} for name, schema in schemas.items()]}
        if method == "subscriptions/listen":
            return self.listen(message)
        if method == "tools/call" and params.get("name") in self.tools:
            value = self.tools[params["name"]](params.get("arguments") or {}, message)
            text = value if isinstance(value, str) else json.dumps(value)
            return {"content": [{"type": "text", "text": text}], "resultType": "complete"}
        if self.era == "silent":
            return None
        raise RpcError(-32601, f"unknown: {method} {params.get('name')}")

    def check_era(self, *, is_modern: bool, method: str) -> None:
        if self.era == "silent" and is_modern:
            time.sleep(3600)
        asked = "modern" if is_modern else "legacy"
        self.locked = self.locked or asked
        if self.locked == "modern" and asked == "legacy":
            raise RpcError(-32022, "modern only", {"supported": [MODERN], "requested": LEGACY})
        if self.locked == "legacy" and asked == "modern":
            raise RpcError(-32601 if self.era == "legacy" else -32600, f"legacy only: {method}")

    def echo(self, arguments: Json, message: Json) -> str:
        return f"{arguments.get('text', '')} {os.getpid()}"

    def seen(self, arguments: Json, message: Json) -> Json:
        return {"id": message["id"], "token": (message["params"].get("_meta") or {}).get("progressToken")}

    def sleep(self, arguments: Json, message: Json) -> str:
        self.note("start", arguments.get("text", ""))
        token = (message["params"].get("_meta") or {}).get("progressToken")
        if token is not None:
            self.notify("notifications/progress", {"progressToken": token, "progress": 1})
        if self.cancelled[message["id"]].wait(arguments["seconds"]):
            return "cancelled"
        self.note("end", arguments.get("text", ""))
        return f"slept {arguments.get('text', '')}"

    def log(self, arguments: Json, message: Json) -> str:
        self.notify("notifications/message", {"level": "info", "data": arguments["text"]})
        time.sleep(arguments.get("seconds", 0))
        return "logged"

    def ask(self, arguments: Json, message: Json) -> object:
        """Ask the client by a request, and return what it said."""
        question = f"question-{message['id']}"
        self.send({"id": question, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
        with self.answered:
            self.answered.wait_for(lambda: question in self.answers, timeout=arguments.get("seconds", 10))
        return self.answers.get(question, {"error": "no answer"})

    def change(self, arguments: Json, message: Json) -> str:
        """Tell every listener, and the world without a subscription id too."""
        for number in self.listening:
            self.notify("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION_KEY: number}})
        self.notify("notifications/tools/list_changed", {})
        return "changed"

    def listen(self, message: Json) -> None:
        meta = {SUBSCRIPTION_KEY: message["id"]}
        self.listening.append(message["id"])
        self.notify("notifications/subscriptions/acknowledged", {"notifications": {}, "_meta": meta})

    def garbage(self, arguments: Json, message: Json) -> str:
        with self.writing:
            sys.stdout.write("Server ready!\n[1, 2]\n{}\n\n")
        return "after garbage"

    def spawn(self, arguments: Json, message: Json) -> str:
        """Start a grandchild in a session of its own that ignores SIGTERM and keeps the output open."""
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        return str(subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.tiny")
    parser.add_argument("--era", choices=["dual", "modern", "legacy", "silent"], default="dual")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--journal", type=Path, default=None)
    parser.add_argument("--start-delay-s", type=float, default=0.0)
    options = parser.parse_args()
    server = Tiny(options.era, options.journal, is_stubborn=options.stubborn)
    if options.stubborn:
        signal.signal(signal.SIGTERM, lambda number, frame: server.note("term"))
    time.sleep(options.start_delay_s)
    sys.stderr.write("tiny is ready\n")
    server.serve()


if __name__ == "__main__":
    main()
