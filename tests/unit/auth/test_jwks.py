"""Published keys: which are used, when they are fetched, and how long they are believed."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxy.auth.guarded_fetch import FetchError, Limits
from proxy.auth.identity import Authenticated
from proxy.auth.jwk import KeySetError, parse_key, parse_key_set
from proxy.auth.jwks import STALE_LIMIT_S, KeySource, KeysUnavailableError
from proxy.errors import Refusal
from registry.models import Jwks
from tests.unit.auth.making import NOW, auth, bearer, token, with_notes

RSA = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)
P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(private: Any, kid: Any = "k1", **more: Any) -> dict[str, Any]:
    public = private.public_key()
    kinds = {"R": RSAAlgorithm, "E": ECAlgorithm}
    algorithm = OKPAlgorithm if isinstance(private, ed25519.Ed25519PrivateKey) else kinds[type(private).__name__[0]]
    named = {} if kid is None else {"kid": kid}
    return {**algorithm.to_jwk(public, as_dict=True), **named, "use": "sig", "key_ops": ["verify"], **more}


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """An issuer whose document can be changed, withheld, delayed and counted; time is a number."""

    def __init__(self, body: bytes) -> None:
        self.body: bytes | None = body
        self.now = 1000.0
        self.fetches = 0
        self.changes = 0
        self.gate: asyncio.Event | None = None

    async def get(self, _url: str, _limits: Limits) -> bytes:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.body is None:
            raise FetchError("away")
        return self.body

    def changed(self) -> None:
        self.changes += 1

    def source(self, **settings: Any) -> KeySource:
        return KeySource(Jwks(url="https://as.example/jwks", **settings), self.changed, lambda: self.now, self.get)


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        *((RSA, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (P256, "ES256"),
        (P384, "ES384"),
        (P521, "ES512"),
        (ED, "EdDSA"),
    ],
)
async def test_every_algorithm_is_verified_by_its_own_kind_of_key(private: Any, algorithm: str):
    issuer = Issuer(key_set(jwk(private)))
    door = auth(with_notes(algorithms=[algorithm], keys=[], jwks={"url": "https://as.example/jwks"}))
    door._jwks = issuer.source()
    found = await door.authenticate(bearer(token(private, algorithm, {"kid": "k1"})), NOW)
    assert isinstance(found, Authenticated), found


@pytest.mark.parametrize(
    "unusable",
    [
        {"kty": "oct", "k": "AAAA", "kid": "k1"},
        jwk(WEAK),
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(RSA, key_ops="verify"),
        jwk(RSA, d="AQAB"),
        jwk(RSA, alg="RSA-OAEP"),
        jwk(RSA, alg="HS256"),
        jwk(RSA, alg=7),
        jwk(RSA, kid=7),
        jwk(RSA, kid="k" * 300),
        jwk(ED, crv="Ed448"),
        jwk(P256, x="AA"),
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        "RSA",
        None,
    ],
)
def test_an_unusable_key_is_passed_over(unusable: Any):
    assert parse_key(unusable) is None
    assert len(parse_key_set(key_set(unusable, jwk(RSA, "k2")))) == 1


def test_a_declared_algorithm_narrows_the_key():
    rsa_key, ed_key = parse_key(jwk(RSA, alg="PS256")), parse_key(jwk(ED, alg="Ed25519"))
    assert rsa_key is not None
    assert ed_key is not None
    assert (rsa_key.algorithms, ed_key.algorithms) == ({"PS256"}, {"EdDSA"})


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff", b"[" * 9999, key_set(*[jwk(RSA)] * 65)]
)
def test_a_document_that_is_no_key_set_is_an_error(body: bytes):
    with pytest.raises(KeySetError):
        parse_key_set(body)


async def test_many_callers_share_one_fetch_and_none_of_them_can_cancel_it():
    issuer = Issuer(key_set(jwk(RSA)))
    issuer.gate = asyncio.Event()
    source = issuer.source()
    callers = [asyncio.create_task(source.find("k1", "RS256")) for _ in range(20)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    issuer.gate.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert issuer.fetches == 1
    assert [len(keys) for keys in found if not isinstance(keys, BaseException)] == [1] * 19


async def test_an_unknown_kid_fetches_once_and_then_waits_for_the_cool_down():
    issuer = Issuer(key_set(jwk(RSA)))
    source = issuer.source(cooldown_s=30)
    assert await source.find("k1", "RS256")
    for _ in range(50):
        assert await source.find("k2", "RS256") == ()
    assert issuer.fetches == 1
    issuer.body = key_set(jwk(RSA), jwk(RSA, "k2"))
    issuer.now += 31
    assert len(await source.find("k2", "RS256")) == 1
    assert issuer.fetches == 2


async def test_old_keys_serve_while_the_issuer_is_away_but_not_for_ever():
    issuer = Issuer(key_set(jwk(RSA)))
    source = issuer.source(cache_s=300, cooldown_s=30)
    await source.find("k1", "RS256")
    issuer.body = None
    issuer.now += 301
    assert await source.find("k1", "RS256")
    assert await source.find("k1", "RS256")
    assert issuer.fetches == 2
    assert 0 < source.fresh_for_s() <= 30
    issuer.now += STALE_LIMIT_S
    with pytest.raises(KeysUnavailableError):
        await source.find("k1", "RS256")


async def test_without_any_keys_nobody_is_let_in_and_the_issuer_is_not_hammered():
    issuer = Issuer(b"")
    source = issuer.source()
    for _ in range(10):
        with pytest.raises(KeysUnavailableError):
            await source.find("k1", "RS256")
    assert issuer.fetches == 1
    door = auth(with_notes(algorithms=["RS256"], keys=[], jwks={"url": "https://as.example/jwks"}))
    door._jwks = source
    found = await door.authenticate(bearer(token(RSA, "RS256", {"kid": "k1"})), NOW)
    assert isinstance(found, Refusal)
    assert (found.code, found.status) == ("auth.keys_unavailable", 503)


async def test_keys_are_refreshed_ahead_without_anybody_waiting():
    issuer = Issuer(key_set(jwk(RSA)))
    source = issuer.source(cache_s=100, cooldown_s=1)
    await source.find("k1", "RS256")
    issuer.now += 81
    issuer.gate = asyncio.Event()
    assert await source.find("k1", "RS256")
    await asyncio.sleep(0)
    assert issuer.fetches == 2
    await source.aclose()


async def test_changed_keys_are_announced_once():
    issuer = Issuer(key_set(jwk(RSA)))
    source = issuer.source(cache_s=10, cooldown_s=1)
    for _ in range(3):
        await source.find("k1", "RS256")
        issuer.now += 11
    assert (issuer.fetches, issuer.changes) == (3, 1)
    issuer.body = key_set(jwk(P256, "k9"))
    assert await source.find("k1", "RS256") == ()
    assert issuer.changes == 2


async def test_a_withdrawn_key_ends_the_tokens_that_were_remembered():
    issuer = Issuer(key_set(jwk(RSA)))
    door = auth(with_notes(algorithms=["RS256"], keys=[], jwks={"url": "https://as.example/jwks"}))
    source = KeySource(Jwks(url="https://as.example/jwks"), door._verified.clear, lambda: issuer.now, issuer.get)
    door._jwks = source
    headers = bearer(token(RSA, "RS256", {"kid": "k1"}))
    assert isinstance(await door.authenticate(headers, NOW), Authenticated)
    assert door.cached(headers[1][1], NOW + 299) is not None
    assert door.cached(headers[1][1], NOW + 300) is None
    issuer.body = key_set(jwk(P256, "k9"))
    issuer.now += 300
    found = await door.authenticate(headers, NOW + 300)
    assert isinstance(found, Refusal)
    assert found.code == "auth.key"


@pytest.mark.parametrize("pick", [lambda: (RSA, "RS256", P256), lambda: (P256, "ES256", RSA)])
async def test_a_key_of_another_kind_is_not_a_candidate(pick: Callable[[], tuple[Any, str, Any]]):
    private, algorithm, published = pick()
    issuer = Issuer(key_set(jwk(published)))
    door = auth(with_notes(algorithms=["RS256", "ES256"], keys=[], jwks={"url": "https://as.example/jwks"}))
    door._jwks = issuer.source()
    found = await door.authenticate(bearer(token(private, algorithm, {"kid": "k1"})), NOW)
    assert isinstance(found, Refusal)
    assert found.code == "auth.key"


async def test_without_a_kid_only_an_unambiguous_key_is_used():
    issuer = Issuer(key_set(jwk(RSA, None), jwk(P256, "k2")))
    source = issuer.source()
    assert len(await source.find(None, "RS256")) == 1
    issuer = Issuer(key_set(jwk(RSA, None), jwk(RSA, "k2")))
    assert await issuer.source().find(None, "RS256") == ()
