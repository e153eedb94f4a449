"""The door of one server: every way in, and every way to stay outside."""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.auth.bearer import ServerAuth
from proxy.auth.credential import query_has_token
from proxy.auth.identity import Anonymous, Authenticated
from proxy.errors import Refusal
from tests.unit.auth.making import (
    AUDIENCE,
    CLOCK_SECRET,
    ISSUER,
    NOTES_SECRET,
    NOW,
    URL,
    auth,
    bearer,
    claims,
    fleet,
    raw_token,
    token,
    with_notes,
)


async def refused(door: ServerAuth, headers: list[tuple[bytes, bytes]], now: float = NOW) -> Refusal:
    found = await door.authenticate(headers, now)
    assert isinstance(found, Refusal), found
    return found


async def admitted(door: ServerAuth, headers: list[tuple[bytes, bytes]], now: float = NOW) -> Authenticated:
    found = await door.authenticate(headers, now)
    assert isinstance(found, Authenticated), found
    return found


async def test_a_good_token_proves_who_sent_it():
    found = await admitted(auth(), bearer(token()))
    assert found == Authenticated(
        "bearer", ISSUER, "alice", "agent-1", frozenset({"notes:use", "notes:read"}), NOW + 600, "t-1"
    )


async def test_the_schemes_case_does_not_matter():
    headers = [(b"authorization", b"bEARER " + token().encode())]
    assert (await admitted(auth(), headers)).subject == "alice"


async def test_no_credential_is_challenged_without_an_error():
    found = await refused(auth(), [])
    assert (found.code, found.status) == ("auth.missing", 401)
    challenge = dict(found.headers)[b"www-authenticate"].decode()
    assert challenge == (
        'Bearer scope="notes:use", resource_metadata="https://gw.example/.well-known/oauth-protected-resource/notes/mcp"'
    )


async def test_anonymous_needs_a_server_that_allows_it_and_no_credential_at_all():
    door = auth(with_notes(required=False))
    assert await door.authenticate([], NOW) == Anonymous()
    assert (await refused(door, bearer("nonsense"))).code == "auth.malformed"
    assert (await refused(door, [(b"authorization", b"")])).code == "auth.scheme"
    assert (await refused(door, bearer(token(exp=NOW - 100)))).code == "auth.expired"


async def test_token_for_server_a_is_refused_by_server_b():
    assert (await refused(auth(server="clock"), bearer(token()))).code == "auth.key"
    same_key = token(CLOCK_SECRET, headers={"kid": "c1"})
    assert (await refused(auth(server="clock"), bearer(same_key))).code == "auth.audience"


REFUSED: list[tuple[str, str]] = [
    ("auth.malformed", "foo"),
    ("auth.malformed", "a.b"),
    ("auth.malformed", "a.b.c.d"),
    ("auth.malformed", "é.é.é"),
    ("auth.malformed", token() + "="),
    ("auth.malformed", "." + token()),
    ("auth.malformed", token() + "A" * 20_000),
    ("auth.malformed", raw_token({"kid": "n1"}, claims())),
    ("auth.malformed", raw_token(["HS256"], claims())),
    ("auth.malformed", raw_token(b"{", claims())),
    ("auth.malformed", raw_token(b"[" * 10_000, claims())),
    ("auth.malformed", token(headers={"kid": "n" * 300})),
    ("auth.malformed", raw_token({"alg": "HS256", "kid": 7}, claims())),
    ("auth.malformed", raw_token({"alg": "HS256", "kid": "n1", "crit": ["exp"]}, claims())),
    ("auth.malformed", raw_token({"alg": "HS256", "kid": "n1", "b64": False}, claims())),
    ("auth.malformed", raw_token({"alg": "HS256", "kid": "n1", "zip": "DEF"}, claims())),
    ("auth.type", token(headers={"typ": "oauth-id-jag+jwt"})),
    ("auth.type", token(headers={"typ": "logout+jwt"})),
    ("auth.type", raw_token({"alg": "HS256", "typ": ["JWT"]}, claims())),
    ("auth.algorithm", raw_token({"alg": "none", "kid": "n1"}, claims(), b"")),
    ("auth.algorithm", raw_token({"alg": "NONE"}, claims(), b"")),
    ("auth.algorithm", raw_token({"alg": "hs256"}, claims())),
    ("auth.algorithm", token(NOTES_SECRET * 2, "HS512")),
    ("auth.key", token(headers={"kid": "n2"})),
    ("auth.signature", raw_token({"alg": "HS256", "kid": "n1"}, claims())),
    ("auth.signature", token("another-secret-another-secret-another")),
    ("auth.malformed", token()[:-4]),
    ("auth.signature", token().rpartition(".")[0] + "."),
    ("auth.expired", token(exp=NOW - 31)),
    ("auth.not_yet_valid", token(nbf=NOW + 31)),
    ("auth.not_yet_valid", token(iat=NOW + 31)),
    ("auth.claims", token(exp=None)),
    ("auth.claims", token(exp="soon")),
    ("auth.claims", token(exp=True)),
    ("auth.claims", token(exp=-1)),
    ("auth.claims", token(exp=1e300)),
    ("auth.claims", token(nbf="later")),
    ("auth.claims", token(iat=[NOW])),
    ("auth.claims", token(iat=NOW + 20, exp=NOW + 10)),
    ("auth.claims", token(sub=None)),
    ("auth.claims", token(sub="")),
    ("auth.claims", token(sub=" ")),
    ("auth.claims", token(sub=7)),
    ("auth.claims", token(sub="a\x00b")),
    ("auth.claims", token(sub="a\nb")),
    ("auth.malformed", token(sub="\ud800")),
    ("auth.claims", token(sub="a" * 513)),
    ("auth.claims", token(client_id={"id": 1})),
    ("auth.claims", token(jti="\x1b[2J")),
    ("auth.claims", token(scope=7)),
    ("auth.claims", token(scope='notes:"read')),
    ("auth.claims", token(scope=" ".join(f"s{n}" for n in range(257)))),
    ("auth.claims", token(scope=None, scp=["notes:read", 7])),
    ("auth.claims", token(scope=None, scp=["notes:read notes:write"])),
    ("auth.issuer", token(iss=None)),
    ("auth.issuer", token(iss="https://as.example/")),
    ("auth.issuer", token(iss=[ISSUER])),
    ("auth.audience", token(aud=None)),
    ("auth.audience", token(aud=URL)),
    ("auth.audience", token(aud=URL + "/")),
    ("auth.audience", token(aud=AUDIENCE + "/")),
    ("auth.audience", token(aud=f"{URL}/NOTES/mcp")),
    ("auth.audience", token(aud=f"{URL}/clock/mcp")),
    ("auth.audience", token(aud=[])),
    ("auth.audience", token(aud=[7, None])),
    ("auth.audience", token(aud=[AUDIENCE, f"{URL}/clock/mcp"])),
]


@pytest.mark.parametrize(("code", "text"), REFUSED, ids=[f"{n}-{code}" for n, (code, _) in enumerate(REFUSED)])
async def test_a_bad_token_is_refused_with_its_reason_and_a_challenge(code: str, text: str):
    door = auth()
    found = await refused(door, bearer(text))
    assert (found.code, found.status) == (code, 401)
    challenge = dict(found.headers)[b"www-authenticate"].decode("ascii")
    assert 'error="invalid_token"' in challenge
    assert text not in challenge
    assert text not in found.reason
    assert door.cached(bearer(text)[1][1], NOW) is None


async def test_a_payload_that_is_no_object_is_refused():
    def sign(payload: bytes) -> str:
        head = raw_token({"alg": "HS256", "kid": "n1"}, payload).rpartition(".")[0]
        mac = hmac.digest(NOTES_SECRET.encode(), head.encode(), sha256)
        return f"{head}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    for payload in (b"[]", b"null", b"{", b"\xff", b'{"exp": NaN}', b'{"a":' * 4000):
        assert (await refused(auth(), bearer(sign(payload)))).code == "auth.malformed"


async def test_a_public_key_used_as_a_shared_secret_opens_nothing():
    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    door = auth(with_notes(algorithms=["RS256"], keys=[], jwks={"url": "https://as.example/jwks"}))
    head = raw_token({"alg": "HS256", "kid": "n1"}, claims()).rpartition(".")[0]
    mac = urlsafe_b64encode(hmac.digest(pem, head.encode(), sha256)).rstrip(b"=").decode()
    assert (await refused(door, bearer(f"{head}.{mac}"))).code == "auth.algorithm"


async def test_the_leeway_is_honoured_both_ways():
    door = auth()
    await admitted(door, bearer(token(iat=NOW - 100, exp=NOW - 29)))
    await admitted(door, bearer(token(nbf=NOW + 30, iat=NOW + 30)))


async def test_scheme_and_host_of_an_audience_may_be_in_upper_case():
    await admitted(auth(), bearer(token(aud="HTTPS://GW.Example/notes/mcp")))
    await admitted(auth(with_notes(audience="urn:notes")), bearer(token(aud="urn:notes")))
    assert (await refused(auth(with_notes(audience="urn:notes")), bearer(token(aud="URN:notes")))).code


@pytest.mark.parametrize(
    "granted",
    [
        {"scope": "a b"},
        {"scope": " a  b "},
        {"scope": None, "scp": "a b"},
        {"scope": None, "scp": ["a", "b"]},
        {"scope": None, "scopes": ["b", "a"]},
    ],
)
async def test_scopes_are_read_from_the_usual_claims(granted: dict[str, Any]):
    assert (await admitted(auth(), bearer(token(**granted)))).scopes == {"a", "b"}


async def test_a_token_without_scopes_grants_none():
    assert (await admitted(auth(), bearer(token(scope=None)))).scopes == frozenset()


async def test_two_keys_overlap_and_the_old_one_ends():
    old, new = "old-" * 10, "new-" * 10
    keys = [{"kid": "n1", "secret": old, "not_after": "2027-01-15T08:05:00Z"}, {"kid": "n2", "secret": new}]
    door = auth(with_notes(keys=keys))
    by_old, by_new = bearer(token(old)), bearer(token(new, headers={"kid": "n2"}))
    known = await admitted(door, by_old)
    leeway_s = with_notes(keys=keys).servers["notes"].oauth.leeway_s
    assert known.expires + leeway_s == pytest.approx(NOW + 300), "a stream ends with the key"
    await admitted(door, by_new)
    without_kid = token(new, headers={"kid": None})
    await admitted(door, bearer(without_kid))
    after = NOW + 301
    assert (await refused(door, by_old, after)).code == "auth.key"
    await admitted(door, by_new, after)


async def test_a_key_swapped_between_kids_is_refused():
    keys = [{"kid": "n1", "secret": "one-" * 10}, {"kid": "n2", "secret": "two-" * 10}]
    assert (await refused(auth(with_notes(keys=keys)), bearer(token("one-" * 10, headers={"kid": "n2"})))).status == 401


def test_a_short_key_is_no_key():
    with pytest.raises(ValueError, match="HS256 needs 32") as caught:
        auth(with_notes(keys=[{"kid": "n1", "secret": "hunter2"}]))
    assert "hunter2" not in str(caught.value)


async def test_a_remembered_token_ends_with_its_exp():
    door, headers = auth(), bearer(token())
    await admitted(door, headers)
    value = headers[1][1]
    assert door.cached(value, NOW + 629.9) is not None
    assert door.cached(value, NOW + 630) is None
    assert (await refused(door, headers, NOW + 630)).code == "auth.expired"


async def test_a_reload_forgets_what_was_verified_under_the_old_key():
    headers = bearer(token())
    await admitted(auth(), headers)
    rotated = auth(with_notes(keys=[{"kid": "n1", "secret": "rotated-" * 5}]))
    assert (await refused(rotated, headers)).code == "auth.signature"


@pytest.mark.parametrize("second", [token(), "x"])
async def test_two_authorization_headers_are_refused(second: str):
    found = await refused(auth(), [*bearer(token()), (b"authorization", b"Bearer " + second.encode())])
    assert (found.code, found.status) == ("auth.duplicate", 400)
    assert b'error="invalid_request"' in dict(found.headers)[b"www-authenticate"]


@pytest.mark.parametrize("value", [b"Basic YTpi", b"DPoP abc", b"foo", b"Bearer\tx", b"token"])
async def test_another_scheme_is_challenged_for_bearer(value: bytes):
    found = await refused(auth(), [(b"authorization", value)])
    assert (found.code, found.status) == ("auth.scheme", 401)


@pytest.mark.parametrize("value", [b"Bearer", b"Bearer ", b"Bearer   "])
async def test_an_empty_bearer_is_refused(value: bytes):
    assert (await refused(auth(), [(b"authorization", value)])).code == "auth.malformed"


@pytest.mark.parametrize("name", [b"x-proxy-verified", b"x-user-id", b"x_user_id", b"x-user_permissions"])
@pytest.mark.parametrize("known", [True, False])
async def test_an_unsigned_identity_header_is_refused_and_not_ignored(name: bytes, known: bool):
    headers = [*(bearer(token()) if known else []), (name, b"true")]
    for door in (auth(), auth(with_notes(required=False))):
        found = await refused(door, headers)
        assert (found.code, found.status) == ("auth.identity_unsigned", 401)


@pytest.mark.parametrize(
    "query",
    [b"access_token=x", b"a=b&access_token=x", b"a;Access_Token=x", b"%61ccess_token=x", b"access_token", b"token=1"],
)
def test_a_token_in_the_query_is_found_however_it_is_escaped(query: bytes):
    assert query_has_token(query)


@pytest.mark.parametrize("query", [b"", b"a=access_token", b"cursor=x&page=2", b"my_access_token=1"])
def test_an_innocent_query_is_left_alone(query: bytes):
    assert not query_has_token(query)


def test_nothing_that_knows_a_secret_shows_it():
    door = auth(fleet())
    assert NOTES_SECRET not in repr(vars(door))
