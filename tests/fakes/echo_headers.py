"""An MCP server over HTTP whose one tool returns the headers of its own request: what did the upstream really get?

    python -m tests.fakes.echo_headers --port N [--required-header NAME=VALUE]

`echo_headers()` returns a JSON object of lower-case names to lists of values, in the order of the lines. With
--required-header every request without exactly that header line is refused with 401, for tests of upstream credentials.
"""

import argparse
import json
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.fakes.serving import run


def build_server() -> MCPServer:
    server = MCPServer("echo-headers", version="1")

    @server.tool(structured_output=False)
    async def echo_headers(ctx: Context) -> str:
        """Return the headers of this request."""
        request: Any = ctx.request_context.request
        seen: dict[str, list[str]] = {}
        if isinstance(request, Request):
            for name, value in request.headers.raw:
                seen.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return json.dumps(seen)

    return server


class RequireHeader:
    """Refuses what does not carry the header."""

    def __init__(self, app: ASGIApp, name: str, value: str) -> None:
        self.app = app
        self.line = (name.lower().encode(), value.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.line in scope["headers"]:
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.echo_headers")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--required-header", default=None)
    options = parser.parse_args()
    name, _, value = (options.required_header or "").partition("=")
    run(build_server(), options.port, wrap=(lambda app: RequireHeader(app, name, value)) if name else None)


if __name__ == "__main__":
    main()
