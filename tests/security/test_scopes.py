"""SEC-08, SEC-09, SEC-22, SEC-28, SEC-30: what a caller may do is decided by the registry, per tool, on every request."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.conftest import TOOL_SCOPES
from tests.sidecar import META, MODERN


def _token(guarded, scope: str, **claims: object) -> str:
    return guarded.sidecar.token("a", scope, **claims)


def test_sec08_every_missing_scope_is_named_at_once(guarded) -> None:
    send = lambda: guarded.sidecar.call("a", "write", {}, _token(guarded, "a:use a:read"))
    answer = guarded.assert_refused(send, 403, "authz.scope")
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="a:use a:write a:audit"' in challenge
    assert "resource_metadata=" in challenge
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (1, -31003)


def test_sec08_broader_scope_satisfies_the_narrower_and_the_row_says_which(guarded) -> None:
    answer = guarded.sidecar.call("a", "echo", {}, _token(guarded, "a:use a:admin"))
    assert answer.status == 200
    row = guarded.row(answer.headers["x-postern-execution-id"])
    assert row["scopes_required"] == ["a:use", "a:read"]
    assert set(row["scopes_matched"]) == {"a:use", "a:admin"}


def test_sec08_narrower_scope_never_satisfies_the_broader(guarded) -> None:
    send = lambda: guarded.sidecar.call("a", "write", {}, _token(guarded, "a:use a:write"))
    guarded.assert_refused(send, 403, "authz.scope")


def test_sec08_scope_of_the_server_itself_is_needed_too(guarded) -> None:
    guarded.assert_refused(lambda: guarded.sidecar.call("a", "echo", {}, _token(guarded, "a:read")), 403, "authz.scope")


def test_sec09_scope_alone_does_not_make_a_tool_exist(guarded) -> None:
    """An undeclared tool is not there, whatever is claimed; no challenge invites a step-up."""
    send = lambda: guarded.sidecar.call("a", "Echo", {}, _token(guarded, "a:use a:read a:admin"))
    answer = guarded.sidecar.call("a", "Echo", {}, _token(guarded, "a:use a:read a:admin"))
    assert "insufficient_scope" not in answer.headers.get("www-authenticate", "")
    guarded.assert_refused(send, answer.status, "authz.unknown_tool")


def test_sec22_names_are_compared_exactly(guarded) -> None:
    for name in ("ECHO", "echo ", " echo", "ech\u200bo", "ｅcho", "echo\x00"):
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
        send = lambda message=message: guarded.sidecar.post("a", message, _token(guarded, "a:use a:read"))
        guarded.assert_refused(send, 200, "authz.unknown_tool")


def test_sec28_annotations_grant_nothing(guarded) -> None:
    """`readOnlyHint` on the tool `secret` does not make up for its scope."""
    send = lambda: guarded.sidecar.call("a", "secret", {}, _token(guarded, "a:use a:read"))
    guarded.assert_refused(send, 403, "authz.scope")


GRANTS = ["a:use", "a:read", "a:write", "a:audit", "a:admin", "a:secret", "A:READ", "a:rea", "a", "b:use"]
IMPLIED = {"a:admin": {"a:write", "a:audit", "a:read"}, "a:write": {"a:read"}}
NAMES = [*TOOL_SCOPES, "Echo", "echo ", "", "*", "a:read", "__proto__"]


def _may(scopes: list[str], tool: str) -> bool:
    """The rules of this fleet once more, as plainly as they can be said."""
    held = set(scopes).union(*(IMPLIED.get(scope, set()) for scope in scopes))
    return tool in TOOL_SCOPES and {"a:use", *TOOL_SCOPES[tool]["scopes"]} <= held


@settings(max_examples=60)
@given(st.lists(st.sampled_from(GRANTS), max_size=5, unique=True), st.sampled_from(NAMES), st.booleans())
def test_running_proxy_never_allows_what_the_rules_deny(guarded, scopes, tool, is_modern) -> None:
    """For any caller, tool and era: forwarded exactly if the rules allow it, and the row says the same."""
    before = len(guarded.recorder.seen)
    token = _token(guarded, " ".join(scopes))
    params = {"name": tool, "arguments": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = guarded.sidecar.call("a", tool, {}, token) if is_modern else guarded.sidecar.post("a", message, token)
    allowed = _may(scopes, tool)
    assert (len(guarded.recorder.seen) - before) == int(allowed)
    assert ("result" in answer.json()) is allowed
    row = guarded.row(answer.headers["x-postern-execution-id"])
    assert (row["status"], row["decision"] == "authz.allowed") == ("success" if allowed else "denied", allowed)


def test_sec30_lists_show_what_the_caller_may_call_in_order_with_cursor_and_private(guarded) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    mirrored = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list"}
    reader = guarded.sidecar.post("a", message, _token(guarded, "a:use a:read"), **mirrored).json()["result"]
    admin = guarded.sidecar.post("a", message, _token(guarded, "a:use a:admin a:secret"), **mirrored).json()["result"]
    assert [tool["name"] for tool in reader["tools"]] == ["echo"]
    assert [tool["name"] for tool in admin["tools"]] == ["echo", "write", "secret"]
    for result in (reader, admin):
        assert result["cacheScope"] == "private"
        assert result["nextCursor"] == "more"
    from tests.fakes.recorder import tool

    assert reader["tools"] == [tool("echo")]


def test_sec30_legacy_lists_are_filtered_too(guarded) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    result = guarded.sidecar.post("a", message, _token(guarded, "a:use a:read")).json()["result"]
    assert [tool["name"] for tool in result["tools"]] == ["echo"]
    assert "cacheScope" not in result
