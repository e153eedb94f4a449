"""I7 on the running proxy: a signed upstream identity is verified, single-use, bound to its request, and never believed bare."""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.auth.signer import Outgoing, Signer
from tests.fakes.recorder import Recorder
from tests.security.conftest import Guarded, send_pairs
from tests.sidecar import Answer, Sidecar

SECRET = secrets.token_bytes(32).hex()
LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
CALL = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
).encode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, module_database, recorder: Recorder) -> Iterator[Guarded]:
    """Server `a` may be spoken for by the proxy `sso` up to `a:use a:read`; server `b` may not."""
    root = tmp_path_factory.mktemp("identity")
    key = root / "sso.key"
    key.write_text(SECRET, encoding="ascii")
    key.chmod(0o600)
    external = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp"}
    servers = {
        "a": {
            **external,
            "oauth": {"scopes": ["a:use"]},
            "tools": {"echo": {"scopes": ["a:read"]}, "write": {"scopes": ["a:write"]}},
        },
        "b": {**external, "tools": {"echo": {}}},
    }
    trusted = {
        "sso": {
            "keys": [{"kid": "sso-1", "algorithm": "hmac-sha256", "secret": f"file:{key}"}],
            "servers": ["a"],
            "permissions": ["a:use", "a:read"],
        }
    }
    registry = {"trusted_proxies": trusted, "audit": {"refusals_per_source": 1_000_000}}
    sidecar = Sidecar(root / "s", module_database.dsn("postern_proxy"), servers, registry)
    try:
        sidecar.start_proxy()
        yield Guarded(sidecar, recorder, module_database.dsn("postern_auditor"))
    finally:
        sidecar.stop()


def _outgoing(
    guarded: Guarded, body: bytes = CALL, server: str = "a", permissions: tuple[str, ...] = ("a:use", "a:read")
) -> Outgoing:
    return Outgoing("POST", f"/{server}/mcp", f"{guarded.sidecar.url}/{server}/mcp", "ada", permissions, body)


def _signed(
    request: Outgoing, *, key: bytes = SECRET.encode(), kid: str = "sso-1", at: float | None = None
) -> dict[str, str]:
    return Signer.hmac(kid, key).postern(request, at if at is not None else time.time(), secrets.token_urlsafe(18))


def _send(
    guarded: Guarded, headers: dict[str, str] | list[tuple[str, str]], body: bytes = CALL, path: str = "/a/mcp"
) -> Answer:
    pairs = headers.items() if isinstance(headers, dict) else headers
    return send_pairs(guarded, pairs, body, path)


def test_signed_identity_passes_and_the_row_names_user_and_proxy(guarded) -> None:
    answer = _send(guarded, _signed(_outgoing(guarded)))
    assert answer.status == 200, answer.body
    row = guarded.row(answer.headers["x-postern-execution-id"])
    assert (row["subject"], row["asserted_by"], row["status"]) == ("ada", "sso", "success")
    assert row["scopes_held"] == ["a:read", "a:use"]
    sent = {name for name, _ in guarded.recorder.seen[-1][1]}
    assert not sent & {"x-proxy-verified", "x-user-id", "x-user-permissions"}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-proxy-verified": "true", "x-user-id": "ada", "x-user-permissions": "a:use a:read"},
        {"x-user-id": "ada"},
        {"x-user-permissions": "a:use a:read"},
        {"x-proxy-verified": "true"},
        {"x_user_id": "ada", "x_proxy_verified": "true"},
    ],
)
def test_unsigned_copies_are_refused_not_ignored(guarded, headers) -> None:
    code = _send(guarded, headers).json()["error"]["data"]["code"]
    assert code in {"auth.identity_unsigned", "auth.identity_malformed", "auth.identity_duplicate"}
    status = 400 if code == "auth.identity_duplicate" else 401
    guarded.assert_refused(lambda: _send(guarded, headers), status, code)


def test_forged_signature_is_refused(guarded) -> None:
    guarded.assert_refused(
        lambda: _send(guarded, _signed(_outgoing(guarded), key=b"x" * 32)), 401, "auth.identity_signature"
    )


def test_unknown_key_is_refused(guarded) -> None:
    guarded.assert_refused(lambda: _send(guarded, _signed(_outgoing(guarded), kid="sso-2")), 401, "auth.identity_key")


def test_replayed_signature_is_refused(guarded) -> None:
    headers = _signed(_outgoing(guarded))
    assert _send(guarded, headers).status == 200
    guarded.assert_refused(lambda: _send(guarded, headers), 401, "auth.identity_replayed")


@pytest.mark.parametrize("shift", [-3600, -120, 120, 3600])
def test_stale_and_early_signatures_are_refused(guarded, shift) -> None:
    send = lambda: _send(guarded, _signed(_outgoing(guarded), at=time.time() + shift))
    guarded.assert_refused(send, 401, "auth.identity_stale")


@pytest.mark.parametrize("cut", [0, 10, 40, 60])
def test_truncated_signatures_are_refused(guarded, cut) -> None:
    headers = _signed(_outgoing(guarded))
    headers["x-proxy-verified"] = headers["x-proxy-verified"][:cut]
    answer = guarded.assert_refused(
        lambda: _send(guarded, headers), 401, _send(guarded, headers).json()["error"]["data"]["code"]
    )
    assert answer.json()["error"]["data"]["code"].startswith("auth.identity")


def test_reordered_signature_fields_are_refused(guarded) -> None:
    headers = _signed(_outgoing(guarded))
    parts = headers["x-proxy-verified"].split(";")
    headers["x-proxy-verified"] = ";".join([parts[0], *reversed(parts[1:])])
    guarded.assert_refused(lambda: _send(guarded, headers), 401, "auth.identity_malformed")


def test_signature_binds_body_user_permissions_and_path(guarded) -> None:
    """Change any part that is covered, and the signature does not hold."""
    signed = _signed(_outgoing(guarded))
    changed = [
        (signed, LIST, "/a/mcp"),
        ({**signed, "x-user-id": "eve"}, CALL, "/a/mcp"),
        ({**signed, "x-user-permissions": "a:use"}, CALL, "/a/mcp"),
        (signed, CALL, "/a/mcp?x=1"),
    ]
    for headers, body, path in changed:
        guarded.assert_refused(
            lambda h=headers, b=body, p=path: _send(guarded, h, b, p), 401, "auth.identity_signature"
        )


def test_signature_for_another_server_is_refused(guarded) -> None:
    """A signature for `a` sent to `b`, and one for `b` by a proxy that may not speak for it."""
    foreign = _signed(_outgoing(guarded))
    guarded.assert_refused(lambda: _send(guarded, foreign, path="/b/mcp"), 401, "auth.identity_signature")
    headers = _signed(_outgoing(guarded, server="b", permissions=("a:use",)))
    guarded.assert_refused(lambda: _send(guarded, headers, path="/b/mcp"), 403, "auth.identity_server")


def test_permissions_beyond_the_ceiling_are_refused(guarded) -> None:
    request = _outgoing(guarded, permissions=("a:use", "a:read", "a:write"))
    guarded.assert_refused(lambda: _send(guarded, _signed(request)), 403, "auth.identity_ceiling")


def test_repeated_identity_headers_are_refused(guarded) -> None:
    signed = _signed(_outgoing(guarded))
    pairs = [*signed.items(), ("x-user-id", "eve")]
    guarded.assert_refused(lambda: _send(guarded, pairs), 400, "auth.identity_duplicate")


def test_token_and_assertion_together_are_refused(guarded) -> None:
    """Two proofs could name two people."""
    both = {**_signed(_outgoing(guarded)), "authorization": f"Bearer {guarded.sidecar.token('a', 'a:use a:read')}"}
    guarded.assert_refused(lambda: _send(guarded, both), 400, "auth.conflict")


def test_narrow_assertion_reaches_no_wider_tool(guarded) -> None:
    request = replace(_outgoing(guarded), body=CALL.replace(b"echo", b"write"))
    answer = guarded.assert_refused(lambda: _send(guarded, _signed(request), request.body), 403, "authz.scope")
    assert "www-authenticate" not in answer.headers, "no token of its own could help"
