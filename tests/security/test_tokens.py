"""SEC-01 … SEC-07: tokens that prove nothing open nothing, and no token travels further than the door."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.fakes.recorder import PRIVATE_HEADERS
from tests.security.conftest import Guarded, send_pairs
from tests.sidecar import ISSUER, META, MODERN, http

ALL = "b:use a:use a:read a:write a:audit a:secret"


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _unsigned(claims: dict, header: dict) -> str:
    return f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}."


def _claims(guarded: Guarded, **changes: object) -> dict:
    now = int(time.time())
    base = {
        "iss": ISSUER,
        "aud": f"{guarded.sidecar.url}/a/mcp",
        "sub": "eve",
        "scope": ALL,
        "iat": now,
        "exp": now + 600,
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def _signed(
    guarded: Guarded, key: str | bytes | None = None, alg: str = "HS256", kid: str | None = "k1", **changes: object
) -> str:
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(_claims(guarded, **changes), key or guarded.sidecar.keys["a"], algorithm=alg, headers=headers)


def _call(guarded: Guarded, token: str | None):
    return guarded.sidecar.call("a", "echo", {}, token, rpc_id=11)


def test_sec01_no_authorization_is_challenged_without_an_error_word(guarded) -> None:
    answer = guarded.assert_refused(lambda: _call(guarded, None), 401, "auth.missing")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert f'resource_metadata="{guarded.sidecar.url}/.well-known/oauth-protected-resource/a/mcp"' in challenge
    assert "scope=" in challenge
    assert "error" not in challenge
    assert answer.json()["id"] == 11


def test_sec01_metadata_names_exactly_the_url_that_clients_use(guarded) -> None:
    answer = http("GET", f"{guarded.sidecar.url}/.well-known/oauth-protected-resource/a/mcp")
    assert answer.status == 200
    assert answer.json()["resource"] == f"{guarded.sidecar.url}/a/mcp"
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["", "/", "/nope/mcp", "/a", "/a/mcp/"])
def test_sec01_metadata_is_nowhere_else(guarded, path) -> None:
    assert http("GET", f"{guarded.sidecar.url}/.well-known/oauth-protected-resource{path}").status == 404


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("foo", "auth.scheme"),
        ("Basic YTpi", "auth.scheme"),
        ("DPoP x", "auth.scheme"),
        ("Bearer", "auth.malformed"),
        ("Bearer ", "auth.malformed"),
        ("Bearer foo", "auth.malformed"),
        ("Bearer a.b.c", "auth.malformed"),
        ("Bearer x y", "auth.malformed"),
    ],
)
def test_sec02_malformed_authorization_is_refused(guarded, value, code) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    guarded.assert_refused(lambda: guarded.sidecar.post("a", message, authorization=value), 401, code)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_sec02_alg_none_is_refused(guarded, alg) -> None:
    token = _unsigned(_claims(guarded), {"alg": alg, "typ": "JWT", "kid": "k1"})
    guarded.assert_refused(lambda: _call(guarded, token), 401, _any_of(guarded, token))


def _any_of(guarded: Guarded, token: str) -> str:
    """The door may name it an algorithm that is not allowed or a malformed token; it must be one of the two."""
    code = _call(guarded, token).json()["error"]["data"]["code"]
    assert code in {"auth.algorithm", "auth.malformed"}
    return code


def test_sec02_signature_stripped_is_refused(guarded) -> None:
    token = _signed(guarded).rsplit(".", 1)[0] + "."
    guarded.assert_refused(lambda: _call(guarded, token), 401, "auth.signature")


def test_sec02_self_signed_token_is_refused(guarded) -> None:
    guarded.assert_refused(lambda: _call(guarded, _signed(guarded, key="x" * 48)), 401, "auth.signature")


def test_sec02_rsa_token_on_an_hs256_server_is_refused(guarded) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    token = jwt.encode(_claims(guarded), pem, algorithm="RS256", headers={"kid": "k1"})
    guarded.assert_refused(lambda: _call(guarded, token), 401, "auth.algorithm")


def test_sec02_other_hmac_than_the_allowed_one_is_refused(guarded) -> None:
    guarded.assert_refused(lambda: _call(guarded, _signed(guarded, alg="HS512")), 401, "auth.algorithm")


def test_sec02_signature_made_with_a_public_string_is_refused(guarded) -> None:
    """Key confusion: the secret of another kind of key (its public text) signs nothing here."""
    header = _b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
    body = _b64(json.dumps(_claims(guarded)).encode())
    public = b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
    mac = hmac.digest(public, f"{header}.{body}".encode(), hashlib.sha256)
    guarded.assert_refused(lambda: _call(guarded, f"{header}.{body}.{_b64(mac)}"), 401, "auth.signature")


def test_sec02_public_key_of_an_issuer_signs_nothing(guarded) -> None:
    """The confusion itself: the server takes RS256 and HS256, and the issuer's public key is used as an HMAC secret."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    published = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "i1", "use": "sig"}
    guarded.recorder.key_set = {"keys": [published]}
    claims = _claims(guarded, aud=f"{guarded.sidecar.url}/rsa/mcp", scope="rsa:use")
    good = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "i1"})
    assert guarded.sidecar.call("rsa", "echo", {}, good).status == 200
    public = key.public_key()
    spki, pkcs1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
    texts = [
        public.public_bytes(serialization.Encoding.PEM, spki),
        public.public_bytes(serialization.Encoding.DER, spki),
        public.public_bytes(serialization.Encoding.PEM, pkcs1),
        json.dumps(published).encode(),
        published["n"].encode(),
    ]
    for text in texts:
        header, body = (_b64(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "i1"}, claims))
        forged = f"{header}.{body}.{_b64(hmac.digest(text, f'{header}.{body}'.encode(), hashlib.sha256))}"
        guarded.assert_refused(lambda token=forged: guarded.sidecar.call("rsa", "echo", {}, token), 401, "auth.key")
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": "i1"})
    guarded.assert_refused(lambda: guarded.sidecar.call("rsa", "echo", {}, forged), 401, "auth.signature")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": 1}, "auth.expired"),
        ({"exp": None}, "auth.claims"),
        ({"exp": "soon"}, "auth.claims"),
        ({"nbf": 4_000_000_000}, "auth.not_yet_valid"),
        ({"iat": 4_000_000_000}, "auth.not_yet_valid"),
        ({"iss": "https://evil.test"}, "auth.issuer"),
        ({"iss": None}, "auth.issuer"),
        ({"aud": None}, "auth.audience"),
        ({"aud": []}, "auth.audience"),
        ({"sub": None}, "auth.claims"),
    ],
)
def test_sec02_claims_that_prove_nothing_are_refused(guarded, changes, code) -> None:
    guarded.assert_refused(lambda: _call(guarded, _signed(guarded, **changes)), 401, code)


@pytest.mark.parametrize("kid", ["other", "../k1", "k1 ", ""])
def test_sec02_wrong_kid_is_refused(guarded, kid) -> None:
    guarded.assert_refused(lambda: _call(guarded, _signed(guarded, kid=kid)), 401, "auth.key")


def test_sec03_token_of_server_a_is_refused_by_server_b_and_the_row_says_audience_or_key(guarded) -> None:
    """Signed with b's own key but for a: only the audience stands between them, and it holds."""
    token = _signed(guarded, key=guarded.sidecar.keys["b"])
    guarded.assert_refused(lambda: guarded.sidecar.call("b", "echo", {}, token), 401, "auth.audience")
    guarded.assert_refused(lambda: guarded.sidecar.call("b", "echo", {}, _signed(guarded)), 401, "auth.signature")


@pytest.mark.parametrize("suffix", ["", "/", "/a", "/a/mcp/", "/a/mcp/x", "/A/mcp"])
def test_sec04_audience_of_the_gateway_or_a_neighbour_is_refused(guarded, suffix) -> None:
    token = _signed(guarded, aud=guarded.sidecar.url + suffix)
    guarded.assert_refused(lambda: _call(guarded, token), 401, "auth.audience")


def test_sec04_scheme_and_host_of_the_audience_may_be_upper_case(guarded) -> None:
    token = _signed(guarded, aud=f"HTTP://127.0.0.1:{guarded.sidecar.port}/a/mcp")
    assert _call(guarded, token).status == 200


@pytest.mark.parametrize(
    "query", ["access_token={}", "x=1&access_token={}", "token={}", "ACCESS_TOKEN={}", "access%5Ftoken={}"]
)
def test_sec05_token_in_the_query_is_refused(guarded, query) -> None:
    token = _signed(guarded)
    url = f"{guarded.sidecar.url}/a/mcp?{query.format(token)}"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    send = {"content-type": "application/json"}
    guarded.assert_refused(lambda: http("POST", url, send, body), 401, "auth.token_in_query")
    guarded.assert_refused(
        lambda: http("POST", url, {**send, "authorization": f"Bearer {token}"}, body), 401, "auth.token_in_query"
    )


def test_sec02_authorization_sent_twice_is_refused(guarded) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    pairs = [("authorization", f"Bearer {_signed(guarded)}")] * 2
    guarded.assert_refused(lambda: send_pairs(guarded, pairs, body), 400, "auth.duplicate")


def test_sec06_token_never_travels_further(guarded) -> None:
    """Neither upstream nor rows, logs or answers hold a token, its signature or its payload part, good or refused."""
    before = len(guarded.recorder.seen)
    good, refused = (
        _signed(guarded),
        [_signed(guarded, key="x" * 48), _signed(guarded, exp=1), _signed(guarded, kid="no")],
    )
    answers = [_call(guarded, token) for token in (good, *refused)]
    assert [answer.status for answer in answers] == [200, 401, 401, 401]
    parts = [part for token in (good, *refused) for part in (token, token.rsplit(".", 1)[1], token.split(".")[1])]
    told = [answer.body.decode() + repr(answer.headers) for answer in answers]
    places = [repr(guarded.recorder.seen[before:]), repr(guarded.rows()), guarded.sidecar.log("proxy"), *told]
    for part in parts:
        assert not any(part in place for place in places)


def test_sec07_private_headers_of_the_server_never_reach_the_client(guarded) -> None:
    """Cookies, challenges, origins and identities that a server sends end at the proxy."""
    answer = _call(guarded, _signed(guarded))
    assert answer.status == 200
    sent = {name.replace("_", "-") for name in PRIVATE_HEADERS}
    assert not sent & answer.headers.keys()
    assert "server" not in answer.headers


def test_sec07_private_headers_never_reach_the_server(guarded) -> None:
    """Cookies, proxy credentials, forwarded and hop-by-hop headers end at the proxy; Host is the server's own."""
    before = len(guarded.recorder.seen)
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {}, "_meta": META},
    }
    answer = guarded.sidecar.post(
        "a",
        message,
        _signed(guarded),
        mcp_protocol_version=MODERN,
        mcp_method="tools/call",
        mcp_name="echo",
        cookie="session=1",
        proxy_authorization="Basic x",
        dpop="x",
        x_forwarded_for="203.0.113.9",
        x_forwarded_host="evil.test",
        forwarded="for=203.0.113.9",
        x_real_ip="203.0.113.9",
        mcp_session_id="client-chosen",
        x_private="listed in connection",
        x_api_key="k",
        te="trailers",
    )
    assert answer.status == 200, answer.body
    names = {name for name, _ in guarded.recorder.seen[before][1]}
    gone = {
        "authorization",
        "cookie",
        "proxy-authorization",
        "dpop",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
    }
    gone |= {"x-real-ip", "mcp-session-id", "x-private", "x-api-key", "te"}
    assert not names & gone
    host = next(value for name, value in guarded.recorder.seen[before][1] if name == "host")
    assert host == f"127.0.0.1:{guarded.recorder.port}"


def test_anonymous_passes_only_where_declared_and_only_without_a_credential(guarded) -> None:
    """A bad credential is never downgraded to anonymous."""
    assert guarded.sidecar.call("open", "echo", {}, None).status == 200
    send = lambda: guarded.sidecar.post(
        "open", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, authorization="Bearer x.y.z"
    )
    guarded.assert_refused(send, 401, "auth.malformed")
