"""An MCP server with one slow tool that keeps a journal: for tests that kill something in the middle of a call.

    python -m tests.fakes.slow [--port N] [--journal FILE]

stdio without --port. `slow(seconds, tag)` appends `start TAG PID` to the journal (or to $SLOW_JOURNAL) when the call
arrives and `end TAG PID` when it is over, so a test can tell which calls reached the server. `crash()` ends the
process at once; `spawn(seconds)` starts a grandchild in a session of its own and returns its pid.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer

from tests.fakes.serving import run


def build_server(journal: Path | None) -> MCPServer:
    server = MCPServer("slow", version="1")

    def note(word: str, tag: str) -> None:
        if journal is None:
            return
        line = f"{word} {tag} {os.getpid()}\n".encode()
        handle = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    @server.tool()
    async def slow(ctx: Context, seconds: float = 1.0, tag: str = "-") -> str:
        """Sleep, reporting progress every 50 ms."""
        note("start", tag)
        try:
            elapsed = 0.0
            while elapsed < seconds:
                step = min(0.05, seconds - elapsed)
                await anyio.sleep(step)
                elapsed += step
                await ctx.report_progress(elapsed, seconds)
        finally:
            note("end", tag)
        return f"{tag} slept {seconds} s in {os.getpid()}"

    @server.tool()
    async def echo(text: str) -> str:
        """Return the text and the process."""
        return f"{text} {os.getpid()}"

    @server.tool()
    async def large(size_bytes: int) -> str:
        """Return that many letters."""
        return "x" * size_bytes

    @server.tool()
    async def crash() -> str:
        """End the process without an answer."""
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    @server.tool()
    def spawn(seconds: float = 60.0) -> int:
        """Start a grandchild that leaves the process group, and return its pid."""
        argv = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
        return subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL).pid

    @server.tool()
    async def environment() -> dict[str, str]:
        """Return the variables of the process."""
        return dict(os.environ)

    return server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.slow")
    parser.add_argument("--port", type=int, default=None)
    parser.add_argument("--journal", type=Path, default=os.environ.get("SLOW_JOURNAL"))
    options = parser.parse_args()
    run(build_server(Path(options.journal) if options.journal else None), options.port)


if __name__ == "__main__":
    main()
