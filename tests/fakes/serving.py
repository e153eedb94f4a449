"""How the fixture servers are served: stdio, or streamable HTTP on a port of the loopback."""

import logging
import sys
import warnings

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import EventStore
from mcp.shared.exceptions import MCPDeprecationWarning


def run(server: MCPServer, port: int | None, *, event_store: EventStore | None = None) -> None:
    """Serve until the end; with a port, the address goes to stderr as soon as it accepts connections."""
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    logging.disable(logging.INFO)
    if port is None:
        anyio.run(server.run_stdio_async)
        return
    app = server.streamable_http_app(event_store=event_store, retry_interval=200 if event_store else None)
    # h11 takes the white space off header values, as the conformance suite wants; httptools leaves it at the end.
    http = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", http="h11"))

    async def announce_and_serve() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(http.serve)
            while not http.started:
                if http.should_exit:
                    return
                await anyio.sleep(0.01)
            address = http.servers[0].sockets[0].getsockname()
            sys.stderr.write(f"listening on http://127.0.0.1:{address[1]}/mcp\n")
            sys.stderr.flush()

    anyio.run(announce_and_serve)
