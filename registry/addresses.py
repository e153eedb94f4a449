"""What kind of place a URL leads to, as far as the text alone can tell; names are not looked up here."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Reach = Literal["loopback", "private", "public"]

_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "metadata.azure.internal"}
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class Address:
    """A usable http(s) URL: `reach` says where its host lies."""

    scheme: Literal["http", "https"]
    host: str
    reach: Reach
    path: str


def canonical_audience(value: str) -> str:
    """Lower-case scheme and host of a URL, and nothing else (RFC 8707 §2, RFC 3986 §6.2.2.1)."""
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value
    host, slash, path = rest.partition("/")
    if "@" in host or "?" in host or "#" in host:
        return value
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"


def read_url(text: str) -> Address | str:
    """Return what an http(s) URL leads to, or why it is not one."""
    if text != text.strip() or not text.isprintable() or "\\" in text or " " in text:
        return "contains a space, a backslash or a control character"
    if not text.isascii():
        return "contains a letter that is not ASCII: a host is written as xn--…, a path with %…"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return str(error).lower()
    if parts.scheme not in {"http", "https"}:
        return "must begin with https://"
    if not host or port == 0:
        return "names no host" if not host else "has port 0"
    if parts.username is not None or parts.password is not None:
        return "contains a user name or password"
    if parts.fragment or "#" in text:
        return "has a fragment"
    return Address("https" if parts.scheme == "https" else "http", host, reach_of(host), parts.path)


def reach_of(host: str) -> Reach:
    """Return where a host name or address lies; also in the short and numeric spellings that resolvers accept."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    if name in _METADATA_NAMES:
        return "private"
    address = _address(name)
    if address is None:
        return "public"
    if address.is_loopback:
        return "loopback"
    return "public" if address.is_global and not address.is_multicast else "private"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return _numeric(name)
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _numeric(name: str) -> ipaddress.IPv4Address | None:
    """Read `2130706433`, `0x7f.1` and `127.1` as the C library does."""
    if not name[:1].isdigit():
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, UnicodeError):
        return None
