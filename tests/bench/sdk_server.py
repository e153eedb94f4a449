"""An MCP server as people write it: the official SDK, stateless, answers as JSON.

python -m tests.bench.sdk_server [--port N]
"""

import argparse
import asyncio
import logging

import uvicorn
import uvloop
from mcp.server.mcpserver import MCPServer

from tests.bench.serving import announce, listen

TEXT = "The quick brown fox jumps over the lazy dog. " * 16


def build() -> MCPServer:
    """Return a server with the one tool."""
    server = MCPServer("bench-sdk", version="1.0.0")

    @server.tool(structured_output=False)
    def echo(text: str, limit: int = 10, tags: tuple[str, ...] = ()) -> str:
        """Answer with a text."""
        return TEXT

    return server


async def serve(port: int) -> None:
    logging.disable(logging.INFO)
    app = build().streamable_http_app(stateless_http=True, json_response=True)
    with listen(port) as listener:
        config = uvicorn.Config(app, http="httptools", ws="none", log_level="warning", access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        announce(listener)
        await server.serve(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sdk_server")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port))


if __name__ == "__main__":
    main()
