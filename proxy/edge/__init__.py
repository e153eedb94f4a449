"""HTTP/1.1 towards clients, below ASGI: half of what a request costs in uvicorn is the way through ASGI.

`listener` holds the connections of a worker, `connection` parses what one client sends, `exchange` is one request and
its answer, `head` is pure, `repeated` knows heads that came before, `upgrade` reads on where a client would rather
speak another protocol, `asgi` lets Starlette serve what is not MCP. llhttp judges the syntax, strictly: a length next
to a transfer coding, two lengths, folded lines, bare line feeds and white space before a colon never get through.
"""

from proxy.edge.exchange import HttpExchange
from proxy.edge.listener import Listener

__all__ = ["HttpExchange", "Listener"]
