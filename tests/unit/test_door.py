"""By which names clients may call the proxy, and from which origins browsers may."""

from typing import Any

import pytest

from proxy.door import Door, Forwarders
from registry.models import Listen


def _door(public_url: str, **listen: Any) -> Door:
    return Door(public_url, Listen(**listen))


@pytest.mark.parametrize(
    ("public_url", "named", "foreign"),
    [
        ("https://gw.example", ["gw.example", "GW.example:443"], ["gw.example:80", "gw.example:8443", "example", ""]),
        ("https://gw.example:443", ["gw.example", "gw.example:443"], ["gw.example:80"]),
        ("https://gw.example:8443", ["gw.example:8443"], ["gw.example", "gw.example:443"]),
        ("https://gw.example:1443", ["gw.example:1443"], ["gw.example", "gw.example:443", "gw.example:1"]),
        ("http://127.0.0.1:9000", ["127.0.0.1:9000", "localhost:9000", "[::1]:9000"], ["127.0.0.1", "127.0.0.1:80"]),
        ("http://127.0.0.1", ["127.0.0.1", "127.0.0.1:80"], ["127.0.0.2"]),
    ],
)
def test_host_is_the_public_one_with_or_without_its_default_port(
    public_url: str, named: list[str], foreign: list[str]
) -> None:
    door = _door(public_url)
    for host in named:
        assert door.check([(b"host", host.encode())]) is None, host
    for host in foreign:
        refusal = door.check([(b"host", host.encode())])
        assert refusal is not None, host
        assert (refusal.code, refusal.status) == ("wire.host", 421)


def test_host_or_origin_that_is_absent_or_doubled() -> None:
    """One Host, at most one Origin."""
    door = _door("https://gw.example", allowed_hosts=["inner.example"], allowed_origins=["https://app.example"])
    host, origin = (b"host", b"inner.example"), (b"origin", b"https://app.example")
    assert door.check([host, origin]) is None
    for headers, code in (([], "wire.host"), ([host, host], "wire.host"), ([host, origin, origin], "wire.origin")):
        refusal = door.check(headers)
        assert refusal is not None
        assert refusal.code == code


@pytest.mark.parametrize(
    ("peer", "listed", "client"),
    [
        ("10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"198.51.100.7, 203.0.113.9", b"10.0.0.2"], "203.0.113.9"),
        ("fd00::1", [b"2001:db8::7, ::ffff:10.0.0.2"], "2001:db8::7"),
        ("203.0.113.9", [b"198.51.100.7"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"unknown"], "unknown"),
        ("unknown", [b"198.51.100.7"], "unknown"),
    ],
)
def test_client_is_the_last_address_that_is_no_forwarders(peer: str, listed: list[bytes], client: str) -> None:
    """What stands to the left of it is the client's own word; who is no forwarder is not listened to at all."""
    headers = [(b"x-forwarded-for", value) for value in listed]
    assert Forwarders(["10.0.0.0/8", "fd00::/8"]).client_of(peer, headers) == client
    assert Forwarders([]).client_of(peer, headers) == peer
