"""Fetch one small document from an address that a configuration names, without being led anywhere else (SEC-25)."""

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import httpx2 as httpx

IpAddress = IPv4Address | IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


class FetchError(Exception):
    """The document cannot be had; the message says why and names no secret."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch may cost. `allow_private` admits loopback and private networks, and plain http to them."""

    timeout_s: float
    max_bytes: int
    allow_private: bool = False


async def fetch(url: str, limits: Limits, trust: ssl.SSLContext | None = None) -> bytes:
    """Return the body of `url`: no redirect, no proxy, no compression, no address that was not checked."""
    try:
        async with asyncio.timeout(limits.timeout_s):
            address = await _resolve(url, limits)
            return await _get(url, address, limits, trust)
    except TimeoutError as error:
        raise FetchError(f"no answer within {limits.timeout_s:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise FetchError(f"{type(error).__name__} while fetching") from error


async def _resolve(url: str, limits: Limits) -> IpAddress:
    """Return the first address of the host; every address must be admissible, so that none can be slipped in."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None:
        raise FetchError("the address is not a plain https URL")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    if not addresses or not all(is_admissible(address, allow_private=limits.allow_private) for address in addresses):
        raise FetchError("the host has an address that may not be called (allow_private)")
    if parts.scheme == "http" and any(embedded(address).is_global for address in addresses):
        raise FetchError("plain http is for private addresses only")
    return addresses[0]


def embedded(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and (address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1)):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def is_admissible(address: IpAddress, *, allow_private: bool) -> bool:
    """Whether an address may be called. Link-local (where cloud metadata lives) and multicast never."""
    real = embedded(address)
    if real.is_link_local or real.is_multicast or real.is_unspecified:
        return False
    return real.is_global or allow_private


async def _get(url: str, address: IpAddress, limits: Limits, trust: ssl.SSLContext | None) -> bytes:
    original = httpx.URL(url)
    pinned = original.copy_with(host=str(address))
    headers = {
        "host": original.netloc.decode("ascii"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "postern",
    }
    extensions = {"sni_hostname": original.raw_host.decode("ascii")}
    # Reading the trusted certificates takes tens of milliseconds, which other requests should not wait for.
    verify = trust or await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, verify=verify, timeout=limits.timeout_s) as client,
        client.stream("GET", pinned, headers=headers, extensions=extensions) as response,
    ):
        return await _read(response, limits.max_bytes)


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise FetchError(f"the answer has status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchError("the answer is compressed though it was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"the answer exceeds {max_bytes} bytes")
    return bytes(body)
