"""What is checked before anything is read: Origin, Host, and tokens where none belongs (SPEC I8, SEC-05, SEC-23)."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from proxy import errors
from proxy.errors import Refusal
from proxy.exchange import Header
from proxy.wire.fields import fact_of, index_of
from registry.models import Listen

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Entry(Struct, frozen=True):
    """A head at the door: why it is refused, and what lets a browser read whatever is answered."""

    refusal: Refusal | None
    cors: Sequence[Header]


class Door:
    """Knows by which names clients may call us, and from which origins browsers may."""

    def __init__(self, public_url: str, listen: Listen) -> None:
        public, port = urlsplit(public_url), listen.port
        self.forwarders = Forwarders(listen.trusted_forwarders)
        hosts = {*_names(public), *(host.lower() for host in listen.allowed_hosts)}
        if public.hostname in {"localhost", "127.0.0.1", "::1"}:
            hosts |= {f"{name}:{public.port or port}" for name in _LOOPBACK} | {f"{name}:{port}" for name in _LOOPBACK}
        self._hosts = frozenset(host.encode("latin-1") for host in hosts)
        own = {f"{public.scheme}://{host}" for host in hosts} if public.hostname else set[str]()
        self._origins = frozenset(o.lower().encode("latin-1") for o in {*own, *listen.allowed_origins})

    def enter(self, headers: Sequence[Header]) -> Entry:
        """Judge a head by both of what follows, once where it repeats."""
        return fact_of(headers, self, self._judge)

    def _judge(self, headers: Sequence[Header]) -> Entry:
        return Entry(self.check(headers), self.cors(headers))

    def check(self, headers: Sequence[Header]) -> Refusal | None:
        """Return the refusal for a wrong or repeated Host or Origin. An absent Origin is no browser's and fine."""
        found = index_of(headers)
        hosts = found.get(b"host", ())
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            reason = "the Host header does not name this proxy (proxy.public_url, proxy.allowed_hosts)"
            return Refusal("wire.host", 421, errors.INVALID_REQUEST, reason)
        origins = found.get(b"origin", ())
        if len(origins) > 1 or (origins and origins[0].lower() not in self._origins):
            return Refusal(
                "wire.origin",
                403,
                errors.INVALID_REQUEST,
                "the Origin header is not an allowed one (proxy.allowed_origins)",
            )
        return None

    def cors(self, headers: Sequence[Header]) -> list[Header]:
        """Headers that let an allowed browser origin read an answer."""
        origins = index_of(headers).get(b"origin")
        origin = origins[0] if origins is not None else b""
        if origins is None or origin.lower() not in self._origins:
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


def _names(public: SplitResult) -> set[str]:
    """Return how clients write the host: the default port may stand there or not (RFC 9110 §4.2.3)."""
    written, default = public.netloc.lower(), f":{_DEFAULT_PORTS.get(public.scheme, 0)}"
    if public.port is not None and not written.endswith(default):
        return {written}
    return {written.removesuffix(default), written.removesuffix(default) + default}


class Forwarders:
    """The configured proxies in front of us: only they may say whose request they forward, and nothing is guessed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(ip_network(text, strict=False) for text in networks)

    def client_of(self, peer: str, headers: Sequence[Header]) -> str:
        """Return the address of the client: the rightmost one in X-Forwarded-For that is none of ours."""
        if not self._networks or not self._trusts(peer):
            return peer
        listed = [part.strip() for name, value in headers if name == b"x-forwarded-for" for part in value.split(b",")]
        address = peer
        for part in reversed(listed):
            address = part.decode("latin-1")[:64]
            if not self._trusts(address):
                return address
        return address

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        # A socket that serves both families shows IPv4 peers so.
        known = (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
        return any(known in network for network in self._networks)
