"""Identities that a trusted proxy asserts: verified, never believed."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from proxy.auth.assertion import Presented
from proxy.auth.bearer import ServerAuth
from proxy.auth.http_signature import COMPONENTS, parse_signature, signature_base
from proxy.auth.identity import Authenticated
from proxy.auth.jwks import KeySource
from proxy.auth.jwt_scheme import JwtScheme
from proxy.auth.proxy_keys import ed25519_verifier, hmac_verifier
from proxy.auth.rfc9421_scheme import request_values
from proxy.auth.signature import Signed, parse_mark
from proxy.auth.signer import Outgoing, Signer, new_nonce
from proxy.errors import Refusal
from registry.models import Jwks
from tests.unit.auth.making import (
    AUDIENCE,
    NOW,
    PROXY_SECRET,
    Literal,
    UsedNonces,
    auth,
    bearer,
    fleet,
    token,
    trusting,
)

VECTORS = Path(__file__).parents[2] / "vectors"
SIGNER = Signer.hmac("sso-1", PROXY_SECRET.encode())
CALL = Outgoing("POST", "/notes/mcp", AUDIENCE, "alice", ("notes:use", "notes:read"), b"{}")


def present(request: Outgoing, headers: Mapping[str, str] | list[tuple[bytes, bytes]]) -> Presented:
    path, _, query = request.target.partition("?")
    sent = headers if isinstance(headers, list) else [(n.encode(), v.encode()) for n, v in headers.items()]
    return Presented(request.method, path, query.encode(), [(b"host", b"gw.example"), *sent], request.body)


async def ask(door: ServerAuth, presented: Presented, now: float = NOW) -> Authenticated | Refusal:
    found = await door.authenticate(presented.headers, now, presented)
    assert isinstance(found, Authenticated | Refusal)
    return found


async def code_of(door: ServerAuth, presented: Presented, now: float = NOW) -> str:
    found = await ask(door, presented, now)
    return found.code if isinstance(found, Refusal) else "accepted"


def signed(request: Outgoing = CALL, signer: Signer = SIGNER, now: float = NOW) -> Presented:
    return present(request, signer.postern(request, now, new_nonce()))


def seeded(document: dict[str, Any]) -> Signer:
    key = document["key"]
    if key["algorithm"] == "hmac-sha256":
        return Signer.hmac(key["kid"], key["secret"].encode())
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["private_seed_hex"]))
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Signer.ed25519(key["kid"], pem)


DOCUMENTS = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("proxy_signature_*.json"))}
NAMED = [(f"{name}: {case['name']}", doc, case) for name, doc in DOCUMENTS.items() for case in doc["cases"]]
CASES = [pytest.param(doc, case, id=name) for name, doc, case in NAMED]
GOOD = [pytest.param(doc, case, id=name) for name, doc, case in NAMED if "canonical" in case]


@pytest.mark.parametrize(("document", "case"), CASES)
async def test_every_vector_gets_the_answer_that_it_names(document: dict[str, Any], case: dict[str, Any]):
    declared = {name: document["key"][name] for name in document["key"] if name != "private_seed_hex"}
    found = trusting(
        key=declared, scheme=document["scheme"], window_s=document["window_s"], permissions=["notes:write"]
    )
    headers = [(name.encode(), value.encode()) for name, value in case["headers"].items()]
    presented = Presented(case["method"], case["path"], case["query"].encode(), headers, case["body"].encode())
    assert await code_of(auth(found, nonces=UsedNonces()), presented, case["now"]) == case["expect"]


@pytest.mark.parametrize(("document", "case"), GOOD)
def test_every_vector_is_what_the_signer_makes(document: dict[str, Any], case: dict[str, Any]):
    headers = case["headers"]
    target = case["path"] + (f"?{case['query']}" if case["query"] else "")
    permissions = tuple(headers["x-user-permissions"].split())
    request = Outgoing(
        case["method"], target, document["audience"], headers["x-user-id"], permissions, case["body"].encode()
    )
    signer = seeded(document)
    sign = signer.postern if document["scheme"] == "postern" else signer.rfc9421
    assert sign(request, document["timestamp"], document["nonce"]) == headers


@pytest.mark.parametrize(("document", "case"), GOOD)
def test_every_vectors_canonical_string_is_what_is_signed(document: dict[str, Any], case: dict[str, Any]):
    key, headers = document["key"], case["headers"]
    if key["algorithm"] == "hmac-sha256":
        verify = hmac_verifier(key["secret"].encode())
    else:
        verify = ed25519_verifier(b64decode(key["public_key"]))
    if document["scheme"] == "postern":
        mark = parse_mark(headers["x-proxy-verified"].encode())
        assert mark is not None
        signature = mark.signature
    else:
        said = parse_signature(headers["signature-input"].encode(), headers["signature"].encode())
        assert said is not None
        signature = said.signature
    assert verify(case["canonical"].encode(), signature)


async def test_a_good_signature_proves_whom_the_proxy_vouches_for():
    found = await ask(auth(trusting(), nonces=UsedNonces()), signed())
    assert isinstance(found, Authenticated)
    assert (found.method, found.issuer, found.subject) == ("proxy-signature", "trusted-proxy:sso", "alice")
    assert (found.client, found.asserted_by) == (None, "sso")
    assert found.scopes == {"notes:use", "notes:read"}
    assert found.expires > NOW


async def test_a_signature_counts_once_for_all_workers():
    nonces, request = UsedNonces(), signed()
    one, other = auth(trusting(), nonces=nonces), auth(trusting(), nonces=nonces)
    answers = await asyncio.gather(*(code_of(door, request) for door in (one, other, one, other)))
    assert sorted(answers) == ["accepted", *["auth.identity_replayed"] * 3]
    assert set(nonces.used.values()) == {NOW + 60}


async def test_what_does_not_pass_uses_no_nonce_up():
    nonces, request = UsedNonces(), signed()
    door = auth(trusting(), nonces=nonces)
    forged = replace(request, body=b"[]")
    assert await code_of(door, forged) == "auth.identity_signature"
    assert nonces.used == {}
    assert await code_of(door, request) == "accepted"


async def test_without_a_store_nothing_can_be_proven_fresh():
    nonces = UsedNonces()
    nonces.away = True
    for door in (auth(trusting(), nonces=nonces), auth(trusting())):
        found = await ask(door, signed())
        assert isinstance(found, Refusal)
        assert (found.code, found.status) == ("auth.identity_store", 503)


@pytest.mark.parametrize(
    ("code", "status", "changes"),
    [
        ("auth.identity_server", 403, {"servers": ["clock"]}),
        ("auth.identity_server", 403, {"servers": []}),
        ("auth.identity_ceiling", 403, {"permissions": ["notes:use"]}),
        ("auth.identity_ceiling", 403, {"permissions": []}),
        ("accepted", 0, {"servers": ["*"]}),
        ("accepted", 0, {"permissions": ["admin", "notes:use"]}),
    ],
)
async def test_a_proxy_speaks_only_for_its_servers_and_within_its_ceiling(
    code: str, status: int, changes: dict[str, Any]
):
    found = await ask(auth(trusting(**changes), nonces=UsedNonces()), signed())
    assert (found.code if isinstance(found, Refusal) else "accepted") == code
    assert isinstance(found, Authenticated) or found.status == status


async def test_a_key_ends_and_its_successor_goes_on():
    old = {"kid": "sso-1", "algorithm": "hmac-sha256", "secret": PROXY_SECRET, "not_after": "2027-01-15T08:05:00Z"}
    new = {"kid": "sso-2", "algorithm": "hmac-sha256", "secret": "next-" * 8}
    door = auth(trusting(keys=[old, new]), nonces=UsedNonces())
    assert await code_of(door, signed()) == "accepted"
    assert await code_of(door, signed(now=NOW + 300), NOW + 300) == "auth.identity_key"
    assert await code_of(door, signed(signer=Signer.hmac("sso-2", b"next-" * 8))) == "accepted"


UNTRUSTED = [
    [("x-user-id", "alice")],
    [("x-user-permissions", "admin")],
    [("x-proxy-verified", "true")],
    [("x-proxy-verified", "true"), ("x-user-id", "alice"), ("x-user-permissions", "admin")],
    [("x_proxy_verified", "v1")],
]


@pytest.mark.parametrize("headers", UNTRUSTED)
@pytest.mark.parametrize("found", [fleet(), trusting()])
async def test_an_unsigned_identity_is_refused_whoever_is_trusted(headers: list[tuple[str, str]], found: Any):
    presented = present(CALL, [(name.encode(), value.encode()) for name, value in headers])
    assert await code_of(auth(found, nonces=UsedNonces()), presented) == "auth.identity_unsigned"


@pytest.mark.parametrize("name", ["x-user-id", "x-user-permissions", "x-proxy-verified"])
async def test_a_repeated_or_respelled_identity_header_is_refused(name: str):
    good = signed()
    door = auth(trusting(), nonces=UsedNonces())
    value = good.value(name.encode()) or b""
    for copy in ((name.encode(), value), (name.replace("-", "_").encode(), b"x")):
        assert await code_of(door, replace(good, headers=[*good.headers, copy])) == "auth.identity_duplicate"


async def test_a_digest_of_the_body_is_nobodys_identity_but_counts_once_in_a_signature():
    door = auth(trusting(scheme="rfc9421"), nonces=UsedNonces())
    digest = (b"content-digest", b"sha-256=:AAAA:")
    assert isinstance(await door.authenticate([*bearer(token()), digest], NOW), Authenticated)
    good = present(CALL, SIGNER.rfc9421(CALL, NOW, new_nonce()))
    assert await code_of(door, replace(good, headers=[*good.headers, digest])) == "auth.identity_signature"
    assert await code_of(door, good) == "accepted"


async def test_a_token_beside_a_signed_identity_is_a_conflict():
    good = signed()
    both = replace(good, headers=[*good.headers, *bearer(token())[1:]])
    assert await code_of(auth(trusting(), nonces=UsedNonces()), both) == "auth.conflict"


async def test_a_signature_is_not_believed_where_the_request_itself_is_not_shown():
    good = signed()
    found = await auth(trusting(), nonces=UsedNonces()).authenticate(good.headers, NOW)
    assert isinstance(found, Refusal)
    assert found.code == "auth.identity_unsigned"


@pytest.mark.parametrize(
    ("user", "permissions"),
    [(b"", b""), (b" ", b""), (b" alice", b""), (b"\xff", b""), (b"a\x01", b""), (b"alice", b'"'), (b"a" * 9000, b"")],
)
async def test_a_malformed_identity_is_refused(user: bytes, permissions: bytes):
    mark = signed().value(b"x-proxy-verified") or b""
    headers = [(b"x-user-id", user), (b"x-user-permissions", permissions), (b"x-proxy-verified", mark)]
    assert await code_of(auth(trusting(), nonces=UsedNonces()), present(CALL, headers)) == "auth.identity_malformed"


async def test_absent_permissions_are_none_and_the_signature_covers_that():
    nobody = replace(CALL, permissions=())
    door = auth(trusting(), nonces=UsedNonces())
    without = [(n, v) for n, v in signed(nobody).headers if n != b"x-user-permissions"]
    assert await code_of(door, present(nobody, without)) == "accepted"
    stripped = [(n, v) for n, v in signed(CALL).headers if n != b"x-user-permissions"]
    assert await code_of(door, present(CALL, stripped)) == "auth.identity_signature"


@settings(max_examples=150, deadline=None)
@given(st.data())
async def test_no_altered_byte_of_a_signed_request_passes(data: st.DataObject):
    good = signed()
    headers = list(good.headers[1:])
    fields = [("body", good.body), ("path", good.path.encode()), *((n.decode(), v) for n, v in headers)]
    name, value = data.draw(st.sampled_from(fields))
    at = data.draw(st.integers(0, len(value) - 1))
    altered = value[:at] + bytes([value[at] ^ (1 << data.draw(st.integers(0, 6)))]) + value[at + 1 :]
    if name == "body":
        tampered = replace(good, body=altered)
    elif name == "path":
        tampered = replace(good, path=altered.decode())
    else:
        tampered = replace(good, headers=[(n, altered if n.decode() == name else v) for n, v in headers])
    assert await code_of(auth(trusting(), nonces=UsedNonces()), tampered) != "accepted"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_a_mark_is_read_only_as_it_is_written(value: bytes):
    mark = parse_mark(value)
    assert mark is None or mark.header().encode() == value


TEXT = st.text(alphabet=st.characters(min_codepoint=0x0A, max_codepoint=0x7E), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.tuples(TEXT, TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT, TEXT))
def test_two_different_requests_never_share_a_canonical_string(one: tuple[str, ...], other: tuple[str, ...]):
    def canonical(fields: tuple[str, ...]) -> bytes | None:
        try:
            return Signed("k", "hmac-sha256", 1, "n", fields[0], fields[1], fields[2], fields[3], "", b"").canonical()
        except ValueError:
            return None

    assert one == other or canonical(one) is None or canonical(one) != canonical(other)


@pytest.mark.parametrize(
    "key",
    [
        {"kid": "k", "algorithm": "hmac-sha256", "secret": "short"},
        {"kid": "k", "algorithm": "hmac-sha256"},
        {"kid": "k", "algorithm": "ed25519"},
        {"kid": "k", "algorithm": "ed25519", "public_key": "AAAA"},
        {"kid": "k", "algorithm": "ed25519", "public_key": "not base64"},
        {"kid": "k;ts=1", "algorithm": "hmac-sha256", "secret": PROXY_SECRET},
    ],
)
def test_a_key_that_verifies_nothing_is_an_error_at_the_start(key: dict[str, Any]):
    with pytest.raises(ValueError, match=r"trusted_proxies\.sso") as caught:
        auth(trusting(key=key))
    assert PROXY_SECRET not in str(caught.value)


def test_a_kid_names_one_key_of_one_proxy():
    key = {"kid": "k", "algorithm": "hmac-sha256", "secret": PROXY_SECRET}
    with pytest.raises(ValueError, match="used twice"):
        auth(trusting(keys=[key, key]))


# RFC 9421, appendix B.2.5 and B.2.6.
B25 = ("date", "@authority", "content-type")
B26 = ("date", "@method", "@path", "@authority", "content-type", "content-length")
RFC_VALUES = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "@method": "POST",
    "@path": "/foo",
    "@authority": "example.com",
    "content-type": "application/json",
    "content-length": "18",
}


def inner(components: tuple[str, ...], keyid: str) -> str:
    return f'({" ".join(f"{chr(34)}{c}{chr(34)}" for c in components)});created=1618884473;keyid="{keyid}"'


def test_the_signature_base_is_that_of_the_rfc():
    secret = b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
    base = signature_base(B25, RFC_VALUES, inner(B25, "test-shared-secret"))
    assert hmac_verifier(secret)(base, b64decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="))
    spki = b64decode("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
    base = signature_base(B26, RFC_VALUES, inner(B26, "test-key-ed25519"))
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert ed25519_verifier(spki[-32:])(base, b64decode(signature))


async def test_a_message_signature_in_another_order_of_parameters_and_components_holds():
    signer = Signer.hmac("sso-1", PROXY_SECRET.encode())
    components = tuple(reversed(COMPONENTS))
    listed = " ".join(f'"{name}"' for name in components)
    said = f'({listed});tag="{AUDIENCE}";nonce="{new_nonce()}";keyid="sso-1";created={int(NOW)};alg="hmac-sha256"'
    usual = signer.rfc9421(CALL, NOW, new_nonce())
    values = request_values("POST", "/notes/mcp", "", usual["content-digest"], ("alice", "notes:use notes:read"))
    made = json.loads(json.dumps(usual))
    import base64

    made["signature-input"] = f"sig1={said}"
    made["signature"] = f"sig1=:{base64.b64encode(signer.sign(signature_base(components, values, said))).decode()}:"
    door = auth(trusting(scheme="rfc9421"), nonces=UsedNonces())
    assert await code_of(door, present(CALL, made)) == "accepted"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.binary(max_size=60))
def test_any_bytes_are_a_signature_or_none(said: bytes, made: bytes):
    parse_signature(said, made)


PRIVATE = ec.generate_private_key(ec.SECP256R1())
ASSERTION = {
    "header": "X-SSO-Assertion",
    "issuer": "https://sso.example",
    "audience": "/projects/1/apps/notes",
    "jwks": {"url": "https://sso.example/keys"},
}


def sso_door(**changes: Any) -> ServerAuth:
    """A door with one proxy of the scheme jwt, whose published keys are already known."""
    found = trusting(scheme="jwt", keys=[], assertion=ASSERTION, **changes)
    door = auth(found, nonces=UsedNonces())
    body = json.dumps({"keys": [{**ECAlgorithm.to_jwk(PRIVATE.public_key(), as_dict=True), "kid": "s1"}]}).encode()

    async def get(_url: str, _limits: Any) -> bytes:
        return body

    declared = found.trusted_proxies["sso"].assertion
    assert declared is not None
    door._assertions._schemes = (JwtScheme("sso", declared, KeySource(Jwks(url="https://sso.example/keys"), get=get)),)
    return door


def asserted(*extra: tuple[bytes, bytes], key: Any = PRIVATE, algorithm: str = "ES256", **changes: Any) -> Presented:
    usual = {
        "iss": "https://sso.example",
        "aud": "/projects/1/apps/notes",
        "scope": "openid admin",
        "permissions": ["notes:read"],
    }
    text = token(key, algorithm, {"kid": "s1"}, **{**usual, **changes})
    return present(CALL, [(b"x-sso-assertion", text.encode()), *extra])


async def test_an_sso_proxys_token_proves_its_user_within_the_ceiling():
    door = sso_door()
    for _ in range(2):
        found = await ask(door, asserted())
        assert isinstance(found, Authenticated), found
        assert (found.method, found.subject, found.asserted_by) == ("proxy-jwt", "alice", "sso")
        assert found.scopes == {"notes:read"}
    for permissions in ("notes:read,notes:write", "notes:read notes:write", ["notes:read", "notes:write"]):
        found = await ask(door, asserted(permissions=permissions))
        assert isinstance(found, Authenticated)
        assert found.scopes == {"notes:read", "notes:write"}
    nobody = await ask(door, asserted(permissions=None))
    assert isinstance(nobody, Authenticated)
    assert nobody.scopes == frozenset()


ASSERTED: list[tuple[str, Presented]] = [
    ("auth.identity_ceiling", asserted(permissions=["admin"])),
    ("auth.identity_stale", asserted(exp=NOW - 31)),
    ("auth.identity_stale", asserted(nbf=NOW + 31)),
    ("auth.identity_malformed", asserted(aud="/projects/1/apps/clock")),
    ("auth.identity_malformed", asserted(iss="https://evil.example")),
    ("auth.identity_malformed", asserted(sub=None)),
    ("auth.identity_malformed", asserted(exp=None)),
    ("auth.identity_malformed", asserted(permissions={"admin": True})),
    ("auth.identity_malformed", asserted(permissions=[7])),
    ("auth.identity_malformed", present(CALL, [(b"x-sso-assertion", b"true")])),
    ("auth.identity_malformed", present(CALL, [(b"x-sso-assertion", b"")])),
    ("auth.identity_signature", asserted(key=ec.generate_private_key(ec.SECP256R1()))),
    ("auth.identity_key", asserted(key=b"x" * 64, algorithm="HS256")),
    ("auth.identity_unsigned", asserted((b"x-user-id", b"root"))),
    ("auth.identity_duplicate", asserted((b"x-sso-assertion", b"x"))),
    ("auth.identity_duplicate", asserted((b"x_sso_assertion", b"x"))),
    ("auth.conflict", asserted((b"authorization", b"Bearer x"))),
]


@pytest.mark.parametrize(("code", "presented"), ASSERTED, ids=[f"{n}-{c}" for n, (c, _) in enumerate(ASSERTED)])
async def test_an_assertion_that_proves_nothing_is_refused(code: str, presented: Presented):
    assert await code_of(sso_door(), presented) == code


async def test_an_assertion_header_is_an_identity_header_on_servers_that_its_proxy_may_not_reach():
    door = sso_door(servers=["clock"])
    assert await code_of(door, asserted()) == "auth.identity_server"


def test_a_jwt_proxy_without_an_assertion_section_is_an_error():
    with pytest.raises(ValueError, match="needs `assertion`"):
        auth(trusting(scheme="jwt", keys=[]))


def test_signers_refuse_what_cannot_be_signed():
    with pytest.raises(ValueError, match="control character"):
        SIGNER.postern(replace(CALL, user="a\nb"), NOW, new_nonce())
    with pytest.raises(ValueError, match="control character"):
        SIGNER.rfc9421(replace(CALL, user="a\nb"), NOW, new_nonce())
    with pytest.raises(ValueError, match="quoted"):
        SIGNER.rfc9421(replace(CALL, audience='a"b'), NOW, new_nonce())
    with pytest.raises(ValueError, match="32"):
        Signer.hmac("k", b"short")
    with pytest.raises(ValueError, match="plain"):
        Signer.hmac("k;", PROXY_SECRET.encode())
    assert PROXY_SECRET not in repr(SIGNER)
    assert Literal().reveal("x") == "x"
