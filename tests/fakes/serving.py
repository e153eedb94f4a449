"""How the fixture servers are served: stdio, or streamable HTTP on a port of the loopback."""

import logging
import sys
import warnings
from collections.abc import Callable

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import EventStore
from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.types import ASGIApp


def run(
    server: MCPServer,
    port: int | None,
    *,
    event_store: EventStore | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
) -> None:
    """Serve until the end: stdio without a port; port 0 takes a free one.

    The address goes to stderr as `listening on http://127.0.0.1:PORT/mcp` as soon as connections are accepted.
    """
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    logging.disable(logging.INFO)
    if port is None:
        anyio.run(server.run_stdio_async)
        return
    app: ASGIApp = server.streamable_http_app(event_store=event_store, retry_interval=200 if event_store else None)
    anyio.run(_serve_http, wrap(app) if wrap else app, port)


async def _serve_http(app: ASGIApp, port: int) -> None:
    # h11 takes the white space off header values, as the conformance suite wants; httptools leaves it at the end.
    http = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", http="h11"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(http.serve)
        while not http.started and not http.should_exit:  # noqa: ASYNC110 - uvicorn has a flag, not an event
            await anyio.sleep(0.01)
        if http.started:
            address = http.servers[0].sockets[0].getsockname()
            sys.stderr.write(f"listening on http://127.0.0.1:{address[1]}/mcp\n")
            sys.stderr.flush()
