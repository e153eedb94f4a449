"""An issuer's published keys over real sockets: plain, over TLS with a pinned address, and behind a name that lies."""

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from proxy.auth.guarded_fetch import FetchError, Limits, fetch
from proxy.auth.identity import Authenticated
from proxy.errors import Refusal
from tests.unit.auth.making import auth, bearer, token, with_notes

FIRST, SECOND = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
HERE = Limits(timeout_s=5.0, max_bytes=10_000, allow_private=True)


def key_set(**keys: ec.EllipticCurvePrivateKey) -> bytes:
    listed = [{**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid} for kid, key in keys.items()]
    return json.dumps({"keys": listed}).encode()


class Published:
    """What an issuer publishes now, and how often it was asked."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(self.body) + self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(published: Published, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    server = await asyncio.start_server(published.handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def test_keys_are_fetched_once_rotated_and_a_withdrawn_one_ends():
    published = Published(key_set(k1=FIRST))
    async with serving(published) as port:
        jwks = {"url": f"http://127.0.0.1:{port}/keys", "allow_private": True, "cache_s": 300, "cooldown_s": 0.05}
        door = auth(with_notes(algorithms=["ES256"], keys=[], jwks=jwks))
        now = time()
        times = {"iat": now - 1, "exp": now + 600}
        by_first, by_second = (
            bearer(token(key, "ES256", {"kid": kid}, **times)) for key, kid in ((FIRST, "k1"), (SECOND, "k2"))
        )
        found = await asyncio.gather(*(door.authenticate(by_first, now) for _ in range(20)))
        assert all(isinstance(one, Authenticated) for one in found)
        assert published.asked == 1
        published.body = key_set(k2=SECOND)
        for _ in range(500):
            if isinstance(await door.authenticate(by_second, now), Authenticated):
                break
            await asyncio.sleep(0.01)
        assert isinstance(await door.authenticate(by_second, now), Authenticated)
        refused = await door.authenticate(by_first, now)
        assert isinstance(refused, Refusal)
        assert refused.code == "auth.key"
    await door.aclose()


async def test_an_issuer_on_a_private_address_is_not_asked_unless_allowed():
    published = Published(key_set(k1=FIRST))
    async with serving(published) as port:
        jwks = {"url": f"http://localhost:{port}/keys"}
        door = auth(with_notes(algorithms=["ES256"], keys=[], jwks=jwks))
        now = time()
        refused = await door.authenticate(bearer(token(FIRST, "ES256", {"kid": "k1"}, iat=now, exp=now + 9)), now)
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.status, published.asked) == ("auth.keys_unavailable", 503, 0)
        assert dict(refused.headers)[b"retry-after"]


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A TLS server that calls itself `name`, trusted by `folder`/ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name == "127.0.0.1":
        names = [x509.IPAddress(ipaddress.ip_address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_over_tls_the_certificate_must_be_that_of_the_name_though_the_address_is_pinned(
    tmp_path: Path, host: str
):
    published = Published(key_set(k1=FIRST))
    context = certificate(tmp_path, host)
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with serving(published, context) as port:
        assert await fetch(f"https://{host}:{port}/keys", HERE, trust) == published.body
        other = "127.0.0.1" if host == "localhost" else "localhost"
        with pytest.raises(FetchError):
            await fetch(f"https://{other}:{port}/keys", HERE, trust)
        with pytest.raises(FetchError):
            await fetch(f"https://{host}:{port}/keys", HERE)
