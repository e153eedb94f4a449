"""The decision: tables for every refusal, and properties for fleets, callers and calls that nobody thought of."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth.identity import Anonymous, Authenticated, Identity
from proxy.authorize import AuthzCode, Decision, Policy
from proxy.authorize.uris import UriRules, canonical_uri
from proxy.errors import Refusal
from proxy.wire.era import Era
from proxy.wire.jsonrpc import Envelope, parse_envelope
from registry.models import Fleet, Server
from registry.permissions import Implications
from tests.unit.auth.making import fleet

NOTES = Policy.build(fleet(), fleet().servers["notes"])
METADATA = "https://gw.example/.well-known/oauth-protected-resource/notes/mcp"
USE = "notes:use"


def who(*scopes: str, subject: str = "alice", client: str | None = "desktop", by: str | None = None) -> Authenticated:
    return Authenticated("bearer", "i", subject, client, frozenset(scopes), 0.0, asserted_by=by)


def message(method: str, params: Any = None, *, notification: bool = False) -> Envelope:
    body = {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}
    found = parse_envelope(json.dumps(body if notification else {**body, "id": 1}).encode())
    assert isinstance(found, Envelope)
    return found


def decide(
    identity: Identity, method: str, params: Any = None, era: Era = Era.MODERN, policy: Policy = NOTES
) -> Decision:
    return policy.decide(identity, "POST", message(method, params), era)


def call(identity: Identity, tool: str, policy: Policy = NOTES, era: Era = Era.MODERN) -> Decision:
    return decide(identity, "tools/call", {"name": tool, "arguments": {}}, era, policy)


ALLOWED: list[tuple[list[str], str, Any, list[str], list[str]]] = [
    ([USE], "tools/list", None, [USE], [USE]),
    ([USE], "tools/call", {"name": "open"}, [USE], [USE]),
    ([USE, "notes:read"], "tools/call", {"name": "read"}, [USE, "notes:read"], [USE, "notes:read"]),
    ([USE, "notes:write"], "tools/call", {"name": "read"}, [USE, "notes:read"], [USE, "notes:write"]),
    (
        [USE, "notes:admin"],
        "tools/call",
        {"name": "write"},
        [USE, "notes:read", "notes:write"],
        [USE, "notes:admin"],
    ),
    ([USE, "admin"], "tools/call", {"name": "either"}, [USE, "notes:admin"], [USE, "admin"]),
    (
        [USE, "clock:read", "notes:read"],
        "tools/call",
        {"name": "either"},
        [USE, "clock:read", "notes:read"],
        [USE, "clock:read", "notes:read"],
    ),
    ([USE, "notes:read"], "prompts/get", {"name": "summary"}, [USE, "notes:read"], [USE, "notes:read"]),
    ([USE], "resources/read", {"uri": "notes://public/a"}, [USE], [USE]),
    ([USE, "notes:read"], "resources/read", {"uri": "notes://one"}, [USE, "notes:read"], [USE, "notes:read"]),
    (
        [USE, "notes:admin"],
        "resources/read",
        {"uri": "notes://public/%73ecret/x"},
        [USE, "notes:admin"],
        [USE, "notes:admin"],
    ),
    (
        [USE, "notes:read"],
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "summary"}, "argument": {}},
        [USE, "notes:read"],
        [USE, "notes:read"],
    ),
    (
        [USE],
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "notes://public/{id}"}},
        [USE],
        [USE],
    ),
]


@pytest.mark.parametrize(("scopes", "method", "params", "required", "matched"), ALLOWED)
def test_who_holds_every_scope_or_a_wider_one_is_let_through(
    scopes: list[str], method: str, params: Any, required: list[str], matched: list[str]
):
    for era in Era:
        found = decide(who(*scopes), method, params, era)
        assert (found.allowed, found.code) == (True, AuthzCode.ALLOWED), found
        assert found.required == tuple(required)
        assert found.matched == tuple(matched)
        assert found.held == tuple(sorted(scopes))


DENIED: list[tuple[str, list[str], str, Any, list[str]]] = [
    ("authz.scope", [], "tools/list", None, [USE]),
    ("authz.scope", ["notes:use:more", "NOTES:USE"], "tools/list", None, [USE]),
    ("authz.scope", [USE], "tools/call", {"name": "read"}, [USE, "notes:read"]),
    ("authz.scope", ["notes:read"], "tools/call", {"name": "read"}, [USE, "notes:read"]),
    ("authz.scope", [USE, "notes:read"], "tools/call", {"name": "write"}, [USE, "notes:read", "notes:write"]),
    ("authz.scope", [USE, "notes:read"], "tools/call", {"name": "either"}, [USE, "notes:admin"]),
    ("authz.scope", [USE, "user"], "tools/call", {"name": "read"}, [USE, "notes:read"]),
    ("authz.scope", [USE], "prompts/get", {"name": "summary"}, [USE, "notes:read"]),
    ("authz.scope", [USE], "resources/read", {"uri": "notes://public/secret/x"}, [USE, "notes:admin"]),
    ("authz.scope", [USE], "resources/read", {"uri": "notes://public/%73ecret/x"}, [USE, "notes:admin"]),
    ("authz.scope", [USE], "resources/read", {"uri": "notes://public/%2573ecret/x"}, [USE, "notes:admin"]),
    (
        "authz.scope",
        [USE],
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "summary"}},
        [USE, "notes:read"],
    ),
    ("authz.unknown_tool", [USE, "admin"], "tools/call", {"name": "nope"}, []),
    ("authz.unknown_tool", [], "tools/call", {"name": "nope"}, []),
    ("authz.unknown_tool", [USE, "admin"], "tools/call", {"name": "Read"}, []),
    ("authz.unknown_tool", [USE, "admin"], "tools/call", {"name": "read "}, []),
    ("authz.unknown_tool", [USE, "admin"], "tools/call", {"name": ""}, []),
    ("authz.unknown_tool", [USE, "admin"], "tools/call", {"name": "*"}, []),
    ("authz.unknown_prompt", [USE, "admin"], "prompts/get", {"name": "read"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://two"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://onex"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://public/../one"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://public/%2e%2e/one"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://public/..;/one"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://public/a\\b"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "NOTES://public/a"}, []),
    ("authz.unknown_resource", [USE, "admin"], "resources/read", {"uri": "notes://public/*"[:-2]}, []),
    ("authz.params", [USE, "admin"], "tools/call", None, []),
    ("authz.params", [USE, "admin"], "tools/call", {"name": 7}, []),
    ("authz.params", [USE, "admin"], "tools/call", {"name": None}, []),
    ("authz.params", [USE, "admin"], "resources/read", {"name": "x"}, []),
    ("authz.params", [USE, "admin"], "completion/complete", {}, []),
    ("authz.params", [USE, "admin"], "completion/complete", {"ref": {"type": "ref/tool", "name": "x"}}, []),
    ("authz.params", [USE, "admin"], "completion/complete", {"ref": {"type": ["x"]}}, []),
    ("authz.method", [USE, "admin"], "tools/delete", None, []),
    ("authz.method", [USE, "admin"], "Tools/call", {"name": "read"}, []),
    ("authz.method", [USE, "admin"], "tasks/delete", {"taskId": "1"}, []),
    ("authz.params", [USE, "admin"], "tasks/get", {"taskId": 1}, []),
    ("authz.params", [USE, "admin"], "tasks/cancel", None, []),
    ("authz.method", [USE, "admin"], "sampling/createMessage", {}, []),
]


@pytest.mark.parametrize(("code", "scopes", "method", "params", "required"), DENIED)
def test_what_is_not_declared_or_not_covered_is_denied(
    code: str, scopes: list[str], method: str, params: Any, required: list[str]
):
    for era in Era:
        found = decide(who(*scopes), method, params, era)
        assert (found.allowed, found.code, found.required, found.matched) == (False, code, tuple(required), ())
        assert_honest(found, NOTES.refusal(found, era))


def assert_honest(decision: Decision, refusal: Refusal) -> None:
    """A refusal says insufficient_scope if and only if scopes are what is missing."""
    challenge = dict(refusal.headers).get(b"www-authenticate", b"")
    assert (b"insufficient_scope" in challenge) == (decision.code is AuthzCode.SCOPE and decision.can_step_up)
    assert refusal.code == decision.code
    assert refusal.reason == decision.reason


@pytest.mark.parametrize(
    ("method", "era"),
    [
        ("initialize", Era.MODERN),
        ("ping", Era.MODERN),
        ("logging/setLevel", Era.MODERN),
        ("resources/subscribe", Era.MODERN),
        ("server/discover", Era.LEGACY),
        ("subscriptions/listen", Era.LEGACY),
        ("tasks/update", Era.LEGACY),
        ("tasks/result", Era.MODERN),
        ("tasks/list", Era.MODERN),
    ],
)
def test_a_method_of_the_other_era_is_not_there(method: str, era: Era):
    params = {"uri": "notes://public/a", "notifications": {}, "taskId": "t"}
    assert decide(who(USE, "admin"), method, params, era).code is AuthzCode.METHOD
    other = Era.LEGACY if era is Era.MODERN else Era.MODERN
    assert decide(who(USE, "admin"), method, params, other).allowed


LISTEN: list[tuple[str, Any]] = [
    ("authz.allowed", {"toolsListChanged": True}),
    ("authz.allowed", {"resourceSubscriptions": None}),
    ("authz.allowed", {"resourceSubscriptions": ["notes://public/a", "notes://public/b"], "taskIds": []}),
    ("authz.scope", {"resourceSubscriptions": ["notes://public/a", "notes://one"]}),
    ("authz.unknown_resource", {"resourceSubscriptions": ["notes://public/a", "notes://two"]}),
    ("authz.allowed", {"taskIds": ["t"]}),
    ("authz.params", {"taskIds": "t"}),
    ("authz.params", {"taskIds": [1]}),
    ("authz.params", {"resourceSubscriptions": "notes://public/a"}),
    ("authz.params", {"resourceSubscriptions": [7]}),
    ("authz.params", []),
]


@pytest.mark.parametrize(("code", "wanted"), LISTEN)
def test_every_resource_that_a_listener_follows_is_decided_about(code: str, wanted: Any):
    assert decide(who(USE), "subscriptions/listen", {"notifications": wanted}).code == code


def test_streams_and_goodbyes_of_a_legacy_session_need_the_servers_scopes():
    for method in ("GET", "DELETE"):
        assert NOTES.decide(who(USE), method, None, Era.LEGACY).allowed
        assert NOTES.decide(who("notes:admin"), method, None, Era.LEGACY).code is AuthzCode.SCOPE
        assert NOTES.decide(who(USE), method, None, Era.MODERN).code is AuthzCode.METHOD
    assert not NOTES.decide(who(USE), "POST", None, Era.LEGACY).allowed


def test_a_posted_response_belongs_to_the_legacy_era():
    response = parse_envelope(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert isinstance(response, Envelope)
    assert NOTES.decide(who(USE), "POST", response, Era.LEGACY).allowed
    assert not NOTES.decide(who(USE), "POST", response, Era.MODERN).allowed
    assert not NOTES.decide(who(), "POST", response, Era.LEGACY).allowed


@pytest.mark.parametrize("method", ["notifications/cancelled", "notifications/progress"])
def test_a_known_notification_passes_and_an_unknown_one_gets_a_plain_status(method: str):
    for era in Era:
        assert NOTES.decide(who(USE), "POST", message(method, {}, notification=True), era).allowed
        denied = NOTES.decide(who(USE), "POST", message("notifications/tasks", {}, notification=True), era)
        assert NOTES.refusal(denied, era).status == 404


ANSWERS: list[tuple[str, Any, Era, int, int]] = [
    ("tools/call", {"name": "nope"}, Era.MODERN, 400, -32602),
    ("tools/call", {"name": "nope"}, Era.LEGACY, 200, -32602),
    ("resources/read", {"uri": "notes://two"}, Era.MODERN, 400, -32602),
    ("resources/read", {"uri": "notes://two"}, Era.LEGACY, 200, -32002),
    ("prompts/get", {"name": "nope"}, Era.LEGACY, 200, -32602),
    ("tools/delete", None, Era.MODERN, 404, -32601),
    ("tools/delete", None, Era.LEGACY, 200, -32601),
    ("tools/call", {}, Era.MODERN, 400, -32602),
    ("tools/call", {"name": "read"}, Era.MODERN, 403, -31003),
    ("tools/call", {"name": "read"}, Era.LEGACY, 403, -31003),
]


@pytest.mark.parametrize(("method", "params", "era", "status", "rpc_code"), ANSWERS)
def test_each_era_is_answered_in_its_own_way(method: str, params: Any, era: Era, status: int, rpc_code: int):
    found = NOTES.refusal(decide(who(USE), method, params, era), era)
    assert (found.status, found.jsonrpc_code) == (status, rpc_code)


def test_a_missing_scope_is_challenged_with_the_whole_set():
    found = NOTES.refusal(call(who(USE), "write"), Era.MODERN)
    challenge = dict(found.headers)[b"www-authenticate"].decode()
    assert challenge == (
        f'Bearer error="insufficient_scope", scope="{USE} notes:read notes:write", resource_metadata="{METADATA}"'
    )
    assert found.reason == "missing scope: notes:read notes:write"
    assert found.data == {"requiredScopes": [USE, "notes:read", "notes:write"]}


def test_anonymous_is_asked_for_a_token_and_not_for_more_scopes():
    found = call(Anonymous(), "read")
    assert found.code is AuthzCode.CREDENTIAL
    refusal = NOTES.refusal(found, Era.MODERN)
    assert refusal.status == 401
    challenge = dict(refusal.headers)[b"www-authenticate"].decode()
    assert challenge == f'Bearer scope="{USE} notes:read", resource_metadata="{METADATA}"'


def test_a_caller_that_a_proxy_vouches_for_is_not_sent_to_get_a_token():
    found = call(who(USE, by="sso"), "read")
    assert found.code is AuthzCode.SCOPE
    refusal = NOTES.refusal(found, Era.MODERN)
    assert (refusal.status, refusal.headers) == (403, ())


def test_an_allowed_request_has_no_refusal():
    with pytest.raises(ValueError, match="no refusal"):
        NOTES.refusal(call(who(USE), "open"), Era.MODERN)


def test_a_star_declares_all_other_tools():
    found = fleet()
    policy = Policy.build(found, found.servers["clock"])
    assert call(who("clock:read"), "anything", policy).allowed
    assert call(who("notes:use"), "anything", policy).code is AuthzCode.SCOPE
    assert decide(who("clock:read"), "prompts/get", {"name": "x"}, policy=policy).code is AuthzCode.UNKNOWN_PROMPT


AGENTS = {
    "reader": {
        "name": "reader",
        "clients": ["bot"],
        "servers": {"notes": {"tools": ["read", "ghost"], "resources": ["notes://public/*"]}},
    },
    "carol": {"name": "carol", "subjects": ["carol"], "servers": {"notes": {"tools": ["*"]}, "clock": {}}},
}


def agent_policy(server: str = "notes") -> Policy:
    found = fleet(agents=AGENTS)
    return Policy.build(found, found.servers[server])


def test_what_a_manifest_does_not_declare_does_not_exist_for_its_agent():
    policy, bot = agent_policy(), who(USE, "admin", client="bot")
    allowed = call(bot, "read", policy)
    assert (allowed.allowed, allowed.agent) == (True, "reader")
    hidden, absent = call(bot, "write", policy), call(bot, "nope", policy)
    assert (hidden.code, hidden.agent) == (AuthzCode.AGENT, "reader")
    assert hidden.reason == "agent reader does not declare write (tools)"
    for era in Era:
        one, other = policy.refusal(hidden, era), policy.refusal(absent, era)
        assert (one.status, one.jsonrpc_code, one.headers, one.data) == (
            other.status,
            other.jsonrpc_code,
            other.headers,
            other.data,
        )
        assert one.answer() == (other.answer()[0], other.answer()[1].replace("nope", "write"))
    assert call(bot, "ghost", policy).code is AuthzCode.UNKNOWN_TOOL
    assert call(who(USE, "admin"), "write", policy).allowed


def test_an_agents_hidden_tool_is_never_a_missing_scope():
    assert call(who(USE, client="bot"), "write", agent_policy()).code is AuthzCode.AGENT


def test_resources_and_prompts_follow_the_manifest_too():
    policy, bot = agent_policy(), who(USE, "admin", client="bot")
    assert decide(bot, "resources/read", {"uri": "notes://public/a"}, policy=policy).allowed
    assert decide(bot, "resources/read", {"uri": "notes://one"}, policy=policy).code is AuthzCode.AGENT
    assert decide(bot, "prompts/get", {"name": "summary"}, policy=policy).code is AuthzCode.AGENT


def test_a_server_that_the_manifest_does_not_name_looks_like_none():
    policy = agent_policy("clock")
    for method in ("tools/list", "tools/call"):
        found = decide(who("clock:read", client="bot"), method, {"name": "now"}, policy=policy)
        assert found.code is AuthzCode.AGENT_SERVER
        refusal = policy.refusal(found, Era.MODERN)
        assert (refusal.status, refusal.answer()) == (404, ("route.unknown_server", "there is no such server"))


def test_every_manifest_that_names_a_caller_binds_it():
    both = who(USE, "admin", subject="carol", client="bot")
    assert call(both, "read", agent_policy()).agent == "carol,reader"
    assert call(both, "write", agent_policy()).code is AuthzCode.AGENT
    assert call(who(USE, "admin", subject="carol"), "write", agent_policy()).allowed


def test_a_callers_words_are_shown_short_and_printable():
    found = call(who(USE), "a\x00b\x1b[2J" + "x" * 500)
    assert found.reason.isprintable()
    assert len(found.reason) < 200


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("notes://public/a", "notes://public/a"),
        ("NOTES://Public/A", "notes://public/A"),
        ("notes://public/%41", "notes://public/A"),
        ("file:///a/b", "file:///a/b"),
        ("URN:x", "urn:x"),
        ("notes://a/..", None),
        ("notes://a/./b", None),
        ("notes://a/%252e%252e/b", None),
        ("notes://" + "%25" * 9, "notes://" + "%" * 9),
        ("a%25252525252541", None),
        ("../x", None),
        ("notes://a/...", "notes://a/..."),
    ],
)
def test_a_uri_has_one_settled_spelling_or_none(uri: str, expected: str | None):
    assert canonical_uri(uri) == expected


def test_the_exact_uri_wins_and_then_the_longest_prefix():
    rules = UriRules({"a://*": 1, "a://b/*": 2, "a://b/c": 3, "a://sp%20ace/*": 4, "*": 5})
    assert rules.find("a://b/c") == (3,)
    assert rules.find("a://b/d") == (2,)
    assert rules.find("a://x") == (1,)
    assert rules.find("z") == (5,)
    assert rules.find("a://sp%20ace/x") == (4, 4)
    assert rules.find("A://b/c") == (5, 3)
    assert rules.find("a://b/../c") == ()
    assert rules.find_template("a://b/{id}") == (2,)


SCOPES = ["a", "b", "c", "d", "e"]
TOOLS = ["t1", "t2", "t3", "T1", "t1 ", "*"]
scope_lists = st.lists(st.sampled_from(SCOPES), max_size=3, unique=True)


def _tool(scopes: list[str], any_of: list[list[str]]) -> dict[str, Any]:
    return {"scopes": scopes, "any_of": any_of}


tool_rules = st.builds(_tool, scope_lists, st.lists(scope_lists, max_size=2))
agent_rules = st.fixed_dictionaries(
    {
        "name": st.just("bot"),
        "subjects": st.lists(st.sampled_from(["alice", "bob"]), max_size=1),
        "clients": st.lists(st.sampled_from(["desktop", "cli"]), max_size=1),
        "servers": st.one_of(
            st.just({}),
            st.fixed_dictionaries({"s": st.fixed_dictionaries({"tools": st.lists(st.sampled_from(TOOLS))})}),
        ),
    }
)
# Edges run from earlier to later letters only, so that the model has no circle.
implied = st.dictionaries(st.sampled_from(SCOPES[:3]), scope_lists).map(
    lambda edges: {wide: [narrow for narrow in found if narrow > wide] for wide, found in edges.items()}
)


def _fleet(scopes: list[str], tools: dict[str, Any], agent: Any, implies: dict[str, list[str]]) -> Fleet:
    sections = {
        "version": 1,
        "permissions": {"implies": implies},
        "servers": {"s": {"name": "s", "oauth": {"scopes": scopes}, "tools": tools}},
        "agents": {"bot": agent} if agent else {},
    }
    return Fleet.model_validate(sections)


def _who(scopes: list[str], subject: str, client: str | None, by: str | None) -> Authenticated:
    return who(*scopes, subject=subject, client=client, by=by)


fleets = st.builds(
    _fleet,
    scope_lists,
    st.dictionaries(st.sampled_from(TOOLS), tool_rules, max_size=4),
    st.one_of(st.none(), agent_rules),
    implied,
)
identities = st.one_of(
    st.just(Anonymous()),
    st.builds(
        _who,
        scope_lists,
        st.sampled_from(["alice", "bob"]),
        st.sampled_from(["desktop", "cli", None]),
        st.sampled_from([None, "sso"]),
    ),
)


def may(found: Fleet, server: Server, identity: Identity, tool: str) -> bool:
    """The rules once more, as plainly as they can be said: the oracle of the properties."""
    held = Implications.of(found.permissions).expand(identity.scopes)
    rule = server.tools.get(tool, server.tools.get("*"))
    if rule is None or not set(server.oauth.scopes) <= held or not set(rule.scopes) <= held:
        return False
    if rule.any_of and not any(set(alternative) <= held for alternative in rule.any_of):
        return False
    if isinstance(identity, Anonymous):
        return True
    for agent in found.agents.values():
        if identity.subject in agent.subjects or identity.client in agent.clients:
            declared = agent.servers.get("s")
            if declared is None or not {tool, "*"} & set(declared.tools):
                return False
    return True


@settings(max_examples=400, deadline=None)
@given(fleets, st.lists(identities, min_size=1, max_size=3), st.sampled_from(TOOLS), st.sampled_from(Era))
def test_it_never_allows_what_the_rules_deny(found: Fleet, callers: list[Identity], tool: str, era: Era):
    server = found.servers["s"]
    policy = Policy.build(found, server)
    for identity in callers:
        decision = call(identity, tool, policy, era)
        assert decision.allowed is may(found, server, identity, tool)
        assert decision.allowed is policy.is_visible(identity, "tools", tool)
        assert set(decision.matched) <= identity.scopes
        if decision.allowed:
            assert set(decision.required) <= Implications.of(found.permissions).expand(identity.scopes)
        else:
            assert_honest(decision, policy.refusal(decision, era))


@settings(max_examples=200, deadline=None)
@given(fleets, identities, st.sampled_from(TOOLS))
def test_a_step_up_to_the_challenged_scopes_is_enough(found: Fleet, identity: Identity, tool: str):
    policy = Policy.build(found, found.servers["s"])
    denied = call(identity, tool, policy)
    if denied.code is AuthzCode.SCOPE and isinstance(identity, Authenticated):
        granted = who(*identity.scopes, *denied.required, subject=identity.subject, client=identity.client)
        assert call(granted, tool, policy).allowed


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["tools/call", "prompts/get", "resources/read"]), st.sampled_from(Era))
def test_no_name_that_is_not_declared_gets_through(name: str, method: str, era: Era):
    declared = {"read", "write", "either", "open", "summary", "notes://one"}
    found = decide(who(USE, "admin"), method, {"name": name, "uri": name}, era)
    assert found.allowed is (name in declared and found.allowed) or name.startswith("notes://public/")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="./%2e2fE5c\\pus;?#a", max_size=30))
def test_nothing_below_a_prefix_walks_out_of_it(tail: str):
    settled = canonical_uri("notes://public/" + tail)
    if decide(who(USE, "admin"), "resources/read", {"uri": "notes://public/" + tail}).allowed:
        assert settled is not None
        assert settled.startswith("notes://public/")
        assert ".." not in settled.split("/")
