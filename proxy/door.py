"""What is checked before anything is read: Origin, Host, and tokens where none belongs (SPEC I8, SEC-05, SEC-23)."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from proxy import errors
from proxy.errors import Refusal
from proxy.exchange import Header

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Door:
    """Knows by which names clients may call us, and from which origins browsers may."""

    def __init__(
        self, public_url: str, allowed_hosts: Sequence[str], allowed_origins: Sequence[str], port: int
    ) -> None:
        public = urlsplit(public_url)
        hosts = {public.netloc.lower(), *(host.lower() for host in allowed_hosts)}
        if public.hostname in {"localhost", "127.0.0.1", "::1"}:
            hosts |= {f"{name}:{public.port or port}" for name in _LOOPBACK} | {f"{name}:{port}" for name in _LOOPBACK}
        self._hosts = frozenset(host.encode("latin-1") for host in hosts)
        own = {f"{public.scheme}://{host}" for host in hosts} if public.hostname else set[str]()
        self._origins = frozenset(o.lower().encode("latin-1") for o in {*own, *allowed_origins})

    def check(self, headers: Sequence[Header]) -> Refusal | None:
        """Return the refusal for a wrong or repeated Host or Origin. An absent Origin is no browser's and fine."""
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            reason = "the Host header does not name this proxy (proxy.public_url, proxy.allowed_hosts)"
            return Refusal("wire.host", 421, errors.INVALID_REQUEST, reason)
        origins = [value.lower() for name, value in headers if name == b"origin"]
        if len(origins) > 1 or (origins and origins[0] not in self._origins):
            return Refusal("wire.origin", 403, errors.INVALID_REQUEST, "the Origin header is not an allowed one")
        return None

    def cors(self, headers: Sequence[Header]) -> list[Header]:
        """Headers that let an allowed browser origin read an answer."""
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None or origin.lower() not in self._origins:
            return []
        exposed = b"mcp-session-id, www-authenticate, mcp-protocol-version, x-postern-execution-id"
        return [
            (b"access-control-allow-origin", origin),
            (b"vary", b"origin"),
            (b"access-control-expose-headers", exposed),
        ]

    def preflight(self, headers: Sequence[Header]) -> list[Header]:
        """Headers of the answer to a preflight."""
        allowed = next((value for name, value in headers if name == b"access-control-request-headers"), b"")
        return [
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", allowed),
            (b"access-control-max-age", b"600"),
        ]
