"""What one writes in an hour: Starlette in front, httpx2 behind, no governance at all.

python -m tests.bench.forwarder --upstream URL
"""

import argparse
import asyncio

import httpx2
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.serving import announce, listen

HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive"})


def build(upstream: str) -> Starlette:
    """Return the application; its one client keeps connections alive and has no limit of its own."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    client = httpx2.AsyncClient(limits=limits, trust_env=False, timeout=30)

    async def forward(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in HOP}
        answer = await client.request(request.method, upstream, headers=headers, content=await request.body())
        kept = {name: value for name, value in answer.headers.items() if name not in HOP}
        return Response(answer.content, answer.status_code, kept)

    return Starlette(routes=[Route("/mcp", forward, methods=["POST"])])


async def serve(upstream: str, port: int) -> None:
    with listen(port) as listener:
        config = uvicorn.Config(
            build(upstream), http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning"
        )
        config.load()
        server = uvicorn.Server(config)
        announce(listener)
        await server.serve(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.forwarder")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.upstream, options.port))


if __name__ == "__main__":
    main()
