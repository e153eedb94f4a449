"""From a request to the pipeline, or to the few addresses that are not MCP servers."""

import re
from collections.abc import Awaitable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy import admin
from proxy.auth.metadata import WELL_KNOWN, metadata_response
from proxy.edge import HttpExchange
from proxy.edge.asgi import serve_asgi
from proxy.edge.exchange import refuse_plainly
from proxy.metrics import CONTENT_TYPE, render
from proxy.runtime import Runtime

_MCP_PATH = re.compile(r"/[^/]+/mcp(/.*)?", re.DOTALL)


class App:
    """Answers every request. MCP addresses bypass Starlette, whose routing costs as much as the audit row."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._starlette = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route(admin.PATH, self._registry),
                Route(WELL_KNOWN + admin.PATH, self._registry_metadata),
                Route(WELL_KNOWN + "/{name}/mcp", self._resource_metadata),
            ]
        )
        self._starlette.router.redirect_slashes = False

    def __call__(self, exchange: HttpExchange) -> Awaitable[None]:
        """Answer one HTTP request."""
        if _MCP_PATH.fullmatch(exchange.path) is not None:
            return self._runtime.pipeline.handle(exchange)
        return serve_asgi(self._starlette, exchange)

    async def refuse(self, exchange: HttpExchange, status: int, message: str) -> None:
        """Answer what is no HTTP: with a row where it names an MCP address."""
        if _MCP_PATH.fullmatch(exchange.path) is not None:
            await self._runtime.pipeline.refuse_malformed(exchange, status, message)
        else:
            await refuse_plainly(exchange, status, message)

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _readyz(self, _request: Request) -> Response:
        why = self._runtime.unready()
        refused = self._runtime.refused_reload
        body = {
            "status": "ready" if why is None else "unready",
            "reason": why,
            "registry": "current" if refused is None else "the last reload was refused; the older registry is in force",
            "unwell": list(self._runtime.background.unwell()),
        }
        return JSONResponse(body, status_code=200 if why is None else 503)

    async def _resource_metadata(self, request: Request) -> Response:
        return metadata_response(self._runtime.fleet, request.path_params["name"])

    async def _registry(self, request: Request) -> Response:
        return await self._runtime.admin.registry(request)

    async def _registry_metadata(self, request: Request) -> Response:
        return await self._runtime.admin.metadata(request)

    async def _metrics(self, _request: Request) -> Response:
        return Response(render(self._runtime.figures()), media_type=CONTENT_TYPE)
