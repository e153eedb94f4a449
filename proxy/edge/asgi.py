"""An ASGI application behind an exchange: what is not MCP is Starlette's business."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from proxy.edge.exchange import HttpExchange, refuse_plainly
from proxy.exchange import BodyTooLargeError, BrokenRequestError, ClientGoneError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 1024
_DISCONNECT = "http.disconnect"
_log = logging.getLogger("postern.edge")


async def serve_asgi(application: Application, exchange: HttpExchange) -> None:
    """Let the application answer; a body beyond `MAX_BODY_BYTES` is refused before it is asked.

    Where it raises, the log has the traceback, and the client what it was sent so far, or else a plain 500.
    """
    try:
        body = await exchange.read_body(MAX_BODY_BYTES)
    except BodyTooLargeError:
        await refuse_plainly(exchange, 413, "the body is too large")
        return
    except BrokenRequestError as error:
        await refuse_plainly(exchange, 400, str(error))
        return
    except ClientGoneError:
        return
    bridge = _Bridge(exchange, body)
    try:
        await application(scope_of(exchange), bridge.receive, bridge.send)
    except Exception:  # noqa: BLE001 -- the outermost loop of a request that is not MCP
        _log.exception("%s %s met a defect", exchange.method, exchange.path)


def scope_of(exchange: HttpExchange) -> dict[str, Any]:
    """Return what ASGI calls the request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.0" if exchange.is_legacy else "1.1",
        "method": exchange.method,
        "scheme": exchange.scheme,
        "path": exchange.path,
        "query_string": exchange.query,
        "root_path": "",
        "headers": list(exchange.headers),
        "client": (exchange.remote, 0),
        "server": None,
    }


class _Bridge:
    """The two callables of ASGI."""

    def __init__(self, exchange: HttpExchange, body: bytes) -> None:
        self._exchange = exchange
        self._body: bytes | None = body
        self._head: Message = {}

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        gone = asyncio.Event()
        self._exchange.on_gone(gone.set)
        await gone.wait()
        return {"type": _DISCONNECT}

    async def send(self, message: Message) -> None:
        """Answer at once where the body comes in one piece, otherwise as a stream."""
        exchange = self._exchange
        if message["type"] == "http.response.start":
            self._head = message
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        headers = [(name.lower(), value) for name, value in self._head["headers"] if name.lower() != b"content-length"]
        if is_last and not exchange.has_begun:
            await exchange.answer(self._head["status"], headers, body)
            return
        if not exchange.has_begun:
            await exchange.open(self._head["status"], headers)
        await exchange.write(body)
        if is_last:
            await exchange.close()
