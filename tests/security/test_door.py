"""SEC-10 … SEC-14, SEC-23, SEC-24: origins, hosts, preflights, and sessions that are nobody's proof."""

import pytest

from tests.sidecar import http

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}


def _token(guarded, **claims: object) -> str:
    return guarded.sidecar.token("a", "a:use a:read", **claims)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1.evil.example", ""]
)
def test_sec23_foreign_origin_is_refused_before_authentication(guarded, origin) -> None:
    guarded.assert_refused(lambda: guarded.sidecar.post("a", PING, origin=origin), 403, "wire.origin")


def test_sec23_own_origin_and_no_origin_pass(guarded) -> None:
    assert guarded.sidecar.post("a", PING, _token(guarded)).status == 200
    answer = guarded.sidecar.post("a", PING, _token(guarded), origin=guarded.sidecar.url)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == guarded.sidecar.url


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost.evil.example"])
def test_sec23_foreign_host_is_refused(guarded, host) -> None:
    guarded.assert_refused(lambda: guarded.sidecar.post("a", PING, _token(guarded), host=host), 421, "wire.host")


def test_sec23_localhost_is_a_name_of_a_loopback_proxy(guarded) -> None:
    host = f"localhost:{guarded.sidecar.port}"
    assert guarded.sidecar.post("a", PING, _token(guarded), host=host).status == 200


def test_sec24_preflight_needs_no_token_and_has_a_row(guarded) -> None:
    headers = {
        "origin": guarded.sidecar.url,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, mcp-protocol-version",
    }
    before = len(guarded.recorder.seen)
    answer = http("OPTIONS", f"{guarded.sidecar.url}/a/mcp", headers)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == guarded.sidecar.url
    assert "access-control-allow-credentials" not in answer.headers
    exposed = answer.headers["access-control-expose-headers"]
    assert all(name in exposed for name in ("mcp-session-id", "www-authenticate", "mcp-protocol-version"))
    assert guarded.row(answer.headers["x-postern-execution-id"])["http_method"] == "OPTIONS"
    assert len(guarded.recorder.seen) == before


def test_sec24_preflight_of_a_foreign_origin_is_refused(guarded) -> None:
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    send = lambda: http("OPTIONS", f"{guarded.sidecar.url}/a/mcp", headers)
    answer = guarded.assert_refused(send, 403, "wire.origin")
    assert "access-control-allow-origin" not in answer.headers


def _open(guarded, **claims: object) -> str:
    answer = guarded.sidecar.post("a", INITIALIZE, _token(guarded, **claims))
    assert answer.status == 200, answer.body
    return answer.headers["mcp-session-id"]


def test_sec11_session_ids_are_ours_long_and_never_the_servers(guarded) -> None:
    ids = {_open(guarded) for _ in range(20)}
    assert len(ids) == 20
    for session in ids:
        assert not session.startswith("upstream-")
        assert len(session) >= 22
        assert all(0x21 <= ord(char) <= 0x7E for char in session)


def test_own_session_passes_and_the_server_gets_its_own_id(guarded) -> None:
    session = _open(guarded)
    assert guarded.sidecar.post("a", PING, _token(guarded), mcp_session_id=session).status == 200
    sent = dict(guarded.recorder.seen[-1][1])
    assert sent["mcp-session-id"].startswith("upstream-")


def test_sec10_session_alone_authenticates_nobody(guarded) -> None:
    session = _open(guarded)
    guarded.assert_refused(lambda: guarded.sidecar.post("a", PING, mcp_session_id=session), 401, "auth.missing")


@pytest.mark.parametrize("claims", [{"sub": "eve"}, {"client_id": "other"}])
def test_sec12_session_of_another_principal_is_unknown(guarded, claims) -> None:
    """The answer is the one for an id that never existed."""
    session = _open(guarded)
    send = lambda: guarded.sidecar.post("a", PING, _token(guarded, **claims), mcp_session_id=session)
    foreign = guarded.assert_refused(send, 404, "session.unknown")
    never = guarded.assert_refused(
        lambda: guarded.sidecar.post("a", PING, _token(guarded), mcp_session_id="never-existed-0123456789"),
        404,
        "session.unknown",
    )
    without_id = [{**a.json()["error"], "data": None} for a in (foreign, never)]
    assert without_id[0] == without_id[1]


def test_sec12_session_of_another_server_is_unknown(guarded) -> None:
    session = _open(guarded)
    token = guarded.sidecar.token("b")
    guarded.assert_refused(
        lambda: guarded.sidecar.post("b", PING, token, mcp_session_id=session), 404, "session.unknown"
    )


@pytest.mark.parametrize("value", ["x" * 5000, "x\ty", "é", "' or 1=1 --"])
def test_guessed_session_ids_are_unknown(guarded, value) -> None:
    send = lambda: guarded.sidecar.post("a", PING, _token(guarded), mcp_session_id=value)
    guarded.assert_refused(send, 404, "session.unknown")


def test_sec14_delete_by_another_is_unknown_and_the_session_lives_on(guarded) -> None:
    session = _open(guarded)
    url = f"{guarded.sidecar.url}/a/mcp"
    eve = {"authorization": f"Bearer {_token(guarded, sub='eve')}", "mcp-session-id": session}
    guarded.assert_refused(lambda: http("DELETE", url, eve), 404, "session.unknown")
    assert guarded.sidecar.post("a", PING, _token(guarded), mcp_session_id=session).status == 200


def test_deleted_session_is_unknown_from_then_on(guarded) -> None:
    session = _open(guarded)
    own = {"authorization": f"Bearer {_token(guarded)}", "mcp-session-id": session}
    assert http("DELETE", f"{guarded.sidecar.url}/a/mcp", own).status == 200
    guarded.assert_refused(
        lambda: guarded.sidecar.post("a", PING, _token(guarded), mcp_session_id=session), 404, "session.unknown"
    )


def test_a_second_initialize_with_a_session_is_refused(guarded) -> None:
    session = _open(guarded)
    guarded.assert_refused(
        lambda: guarded.sidecar.post("a", INITIALIZE, _token(guarded), mcp_session_id=session), 400, "session.again"
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "HEAD"])
def test_other_http_methods_are_refused_with_a_row(guarded, method) -> None:
    before = len(guarded.recorder.seen)
    answer = http(method, f"{guarded.sidecar.url}/a/mcp", {"authorization": f"Bearer {_token(guarded)}"})
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    assert guarded.row(answer.headers["x-postern-execution-id"])["decision"] == "wire.method"
    assert len(guarded.recorder.seen) == before


@pytest.mark.parametrize("path", ["/nope/mcp", "/a/mcp/", "/a/mcp/x", "/A/mcp", "/a%2Fmcp/mcp"])
def test_unknown_addresses_have_rows_too(guarded, path) -> None:
    before = len(guarded.recorder.seen)
    answer = http("POST", guarded.sidecar.url + path, {"content-type": "application/json"}, b"{}")
    assert answer.status == 404
    assert guarded.row(answer.headers["x-postern-execution-id"])["decision"] == "route.unknown_server"
    assert len(guarded.recorder.seen) == before
