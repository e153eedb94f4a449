"""Where an upstream is and how much of it we take."""

from dataclasses import dataclass
from typing import Literal, Self, assert_never
from urllib.parse import urlsplit

Scheme = Literal["http", "https"]


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """The endpoint of one server; `path` includes a query if there is one, `host` is written without brackets."""

    scheme: Scheme
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Value of the Host header: IPv6 in brackets, no port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read an absolute http(s) URL; ValueError where there is no host, or user information, or a fragment."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("an upstream URL must be absolute and start with http:// or https://")
        if parts.username is not None or parts.fragment:
            raise ValueError("an upstream URL has neither user information nor a fragment")
        scheme: Scheme = "https" if parts.scheme == "https" else "http"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(scheme, parts.hostname, parts.port or _default_port(scheme), path)


def _default_port(scheme: Scheme) -> int:
    match scheme:
        case "http":
            return 80
        case "https":
            return 443
        case _:
            assert_never(scheme)


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Durations in seconds, sizes in bytes.

    `first_byte_s` runs from the written request to the response headers, `idle_s` between two reads of a body (it
    rests while our own reader is slow; math.inf waits for ever), `total_s` from the written request to the end of
    the body (None for a stream that may live as long as it likes). `max_body_bytes` does not bind
    `text/event-stream`, which the event parser bounds event by event.
    """

    acquire_s: float = 5.0
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float | None = 300.0
    keepalive_s: float = 4.0
    max_connections: int = 100
    max_waiting: int = 200
    max_header_bytes: int = 32 * 1024
    max_body_bytes: int = 32 * 1024 * 1024
