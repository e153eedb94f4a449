"""`GET /registry` behind the admin scope (SPEC R5)."""

from collections.abc import Iterator

import jwt
import pytest

from tests.fakes.recorder import Recorder
from tests.sidecar import ISSUER, Sidecar, http

KEY = "admin-key-of-thirty-two-bytes-or-more"


@pytest.fixture
def sidecar(tmp_path, database) -> Iterator[Sidecar]:
    secret = tmp_path / "admin.key"
    secret.write_text(KEY, encoding="ascii")
    secret.chmod(0o600)
    admin = {"issuer": ISSUER, "keys": [{"kid": "admin-1", "secret": f"file:{secret}"}]}
    with Recorder() as recorder:
        server = {
            "type": "external",
            "endpoint": f"http://127.0.0.1:{recorder.port}/mcp",
            "tools": {"echo": {"scopes": ["a:read"]}},
        }
        registry = {"proxy": {"admin": admin}, "permissions": {"implies": {"root": ["postern:admin"]}}}
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"a": server}, registry)
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def _get(sidecar: Sidecar, scope: str | None, audience: str = "/registry"):
    if scope is None:
        return http("GET", f"{sidecar.url}/registry")
    claims = {"iss": ISSUER, "aud": sidecar.url + audience, "sub": "ops", "scope": scope, "exp": 4_000_000_000}
    token = jwt.encode(claims, KEY, algorithm="HS256", headers={"kid": "admin-1"})
    return http("GET", f"{sidecar.url}/registry", {"authorization": f"Bearer {token}"})


def test_administrator_sees_the_fleet_without_a_secret(sidecar) -> None:
    answer = _get(sidecar, "postern:admin")
    assert answer.status == 200
    assert "echo" in answer.body.decode()
    assert KEY not in answer.body.decode()
    assert sidecar.keys["a"] not in answer.body.decode()


def test_wider_permission_will_do(sidecar) -> None:
    assert _get(sidecar, "root").status == 200


def test_others_are_refused_with_a_challenge(sidecar) -> None:
    assert _get(sidecar, None).status == 401
    assert "resource_metadata=" in _get(sidecar, None).headers["www-authenticate"]
    lacking = _get(sidecar, "a:use")
    assert lacking.status == 403
    assert 'scope="postern:admin"' in lacking.headers["www-authenticate"]


def test_token_of_a_server_does_not_open_it(sidecar) -> None:
    token = sidecar.token("a", "postern:admin a:use")
    assert http("GET", f"{sidecar.url}/registry", {"authorization": f"Bearer {token}"}).status == 401
    assert _get(sidecar, "postern:admin", audience="/a/mcp").status == 401


def test_metadata_of_the_admin_resource(sidecar) -> None:
    answer = http("GET", f"{sidecar.url}/.well-known/oauth-protected-resource/registry")
    assert answer.json()["resource"] == f"{sidecar.url}/registry"


def test_metrics_count_what_was_recorded_and_answered(sidecar) -> None:
    """After one call and one refusal: two answers, two rows, one intent; nothing in flight."""
    assert sidecar.call("a", "echo", {}, sidecar.token("a", "a:use a:read")).status == 200
    assert sidecar.call("a", "echo", {}, None).status == 401
    answer = http("GET", f"{sidecar.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#"))
    assert (samples["postern_audit_answered_total"], samples["postern_audit_rows_total"]) == ("2", "2")
    assert (samples["postern_audit_intents_total"], samples["postern_in_flight"]) == ("1", "0")
    assert (samples["postern_audit_healthy"], samples['postern_contract_drift{server="a"}']) == ("1", "0")
