"""Hooks on real calls: what they did is in the row, and the server gets what they made of it (SPEC C5)."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from registry.contracts.canonical import digest
from tests.fakes.rug_pull import SECRET, RugPull
from tests.integration.contracts_sidecar import Guarded, guarded
from tests.sidecar import META

FAKES = "tests.fakes.hooks"


def hook(name: str, event: str = "PreToolUse", tools: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "event": event, "python": f"{FAKES}:{name}", "tools": tools or [], **more}


HOOKS = [
    {
        "name": "keys-in",
        "event": "PreToolUse",
        "python": "proxy.hooks.secrets:Secrets",
        "settings": {"action": "refuse"},
    },
    {"name": "keys-out", "event": "PostToolUse", "python": "proxy.hooks.secrets:Secrets", "required": True},
    {
        "name": "few",
        "event": "PreToolUse",
        "python": "proxy.hooks.rate:Rate",
        "tools": ["become"],
        "settings": {"calls": 1, "per_s": 600},
    },
    hook("double", tools=["delete_*"]),
    hook("refuse", servers=["other"]),
]


@pytest.fixture(scope="module")
def rug() -> Iterator[RugPull]:
    with RugPull() as server:
        yield server


@pytest.fixture(scope="module")
def hooked(tmp_path_factory, module_database, rug) -> Iterator[Guarded]:
    # `refuse` names a server that is not this one, so that it never runs here.
    servers = {"other": {"type": "external", "endpoint": rug.url, "tools": {"*": {}}}}
    root = tmp_path_factory.mktemp("hooked")
    with guarded(root, module_database.dsn("postern_proxy"), rug, others=servers, hooks=HOOKS) as sidecar:
        yield sidecar


def last_row(sidecar: Guarded) -> dict[str, Any]:
    row = sidecar.rows("method = 'tools/call'")[-1]
    return {**row, "hooks": json.loads(row["hooks"]) if row["hooks"] else []}


def test_rewritten_arguments_reach_the_server_and_the_row_tells(hooked, rug) -> None:
    """The row keeps the digest of what the client sent, shows what was forwarded, and says which hook changed what."""
    rug.become("honest")
    answer = hooked.use("delete_note", id=4)
    assert answer.json()["result"]["content"][0]["text"] == "delete_note done with {'id': 8}"
    row = last_row(hooked)
    assert json.loads(row["input"])["arguments"] == {"id": 8}
    changed = next(record for record in row["hooks"] if record["did"] == "rewrote")
    assert changed["hook"] == "double"
    assert (changed["before"], changed["after"]) == (digest({"id": 4}), digest({"id": 8}))
    assert changed["changed"] == ["/id"]
    params = {"name": "delete_note", "arguments": {"id": 4}, "_meta": META}
    sent = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    assert (row["input_bytes"], row["input_sha256"]) == (len(sent), hashlib.sha256(sent).digest())


def test_credential_in_arguments_is_refused_before_the_server(hooked, rug) -> None:
    calls = rug.calls
    answer = hooked.use("table", note=f"the key is {SECRET}")
    assert answer.status == 403
    assert answer.json()["error"]["data"]["code"] == "hook.refused"
    assert rug.calls == calls
    row = last_row(hooked)
    assert (row["status"], row["decision"]) == ("denied", "hook.refused")
    assert row["hooks"][0]["reason"].startswith("/note")
    assert SECRET not in str(row)


def test_credential_in_a_result_is_redacted_and_the_row_has_the_originals_digest(hooked, rug) -> None:
    rug.become("leaking")
    answer = hooked.use("read_note", id=1)
    assert SECRET not in answer.body.decode()
    assert answer.json()["result"]["structuredContent"]["text"] == "the key is [redacted]"
    row = last_row(hooked)
    record = row["hooks"][-1]
    assert (record["hook"], record["did"]) == ("keys-out", "replaced")
    assert "/structuredContent/text" in record["changed"]
    assert SECRET not in str(row)
    assert row["output_sha256"] != hashlib.sha256(answer.body).digest()


def test_rate_hook_answers_429_with_retry_after(hooked, rug) -> None:
    assert hooked.use("become", mood="honest").status == 200
    answer = hooked.use("become", mood="honest")
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 600
    assert last_row(hooked)["decision"] == "hook.refused"


def test_hooks_do_not_run_for_calls_that_are_refused_anyway(hooked, rug) -> None:
    answer = hooked.use("delete_note", id="no number")
    assert answer.json()["error"]["data"]["code"] == "contract.input"
    assert last_row(hooked)["hooks"] == []


BROKEN = [
    ("break_arguments", "PreToolUse", 503, "hook.invalid"),
    ("raise_error", "PreToolUse", 503, "hook.failed"),
    ("hang", "PreToolUse", 503, "hook.failed"),
    ("nonsense", "PreToolUse", 503, "hook.failed"),
    ("slow_down", "PreToolUse", 429, "hook.refused"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory, module_database, rug) -> Iterator[Guarded]:
    """One server for each hook, all of them the same one."""
    names = [name for name, *_ in BROKEN] + ["break_result", "withhold", "replace", "answer_anew"]
    events = {name: event for name, event, *_ in BROKEN}
    hooks = [
        hook(name, events.get(name, "PostToolUse"), servers=[name.replace("_", "-")], timeout_s=0.3) for name in names
    ]
    hooks.append(hook("allow", "PostToolUseFailure"))
    hooks.append({**hook("raise_error", "PostToolUse", servers=["broken-after"]), "name": "broken-after"})
    hooks.append(
        {
            **hook("hang", "PostToolUse", servers=["required-after"]),
            "name": "required-after",
            "required": True,
            "timeout_s": 0.3,
        }
    )
    servers = [name.replace("_", "-") for name in names] + ["broken-after", "required-after", "away"]
    section = {"type": "external", "endpoint": rug.url, "tools": {"*": {}}}
    others = {name: dict(section) for name in servers}
    others["away"]["endpoint"] = "http://127.0.0.1:9/mcp"
    root = tmp_path_factory.mktemp("broken")
    lock: dict[str, Any] = {"lock_others": servers[:-1]}
    with guarded(root, module_database.dsn("postern_proxy"), rug, others=others, hooks=hooks, **lock) as sidecar:
        yield sidecar


def use(sidecar: Guarded, server: str, **arguments: Any):
    return sidecar.call(server, "read_note", arguments or {"id": 1}, sidecar.token(server))


@pytest.mark.parametrize(("name", "_event", "status", "code"), BROKEN, ids=[case[0] for case in BROKEN])
def test_hook_that_fails_before_the_call_refuses_it(broken, rug, name, _event, status, code) -> None:
    calls = rug.calls
    answer = use(broken, name.replace("_", "-"))
    assert (answer.status, answer.json()["error"]["data"]["code"]) == (status, code)
    assert rug.calls == calls
    assert last_row(broken)["hooks"][0]["hook"] == name
    assert "4711" not in str(last_row(broken))


def test_hook_that_fails_after_the_call_is_recorded_and_the_result_passes(broken, rug) -> None:
    rug.become("honest")
    assert use(broken, "broken-after").json()["result"]["structuredContent"]["text"] == "buy milk"
    row = last_row(broken)
    assert row["status"] == "success"
    assert [record["did"] for record in row["hooks"]] == ["failed"]


@pytest.mark.parametrize(
    ("server", "code", "status"),
    [
        ("required-after", "hook.failed", "failed"),
        ("withhold", "hook.withheld", "denied"),
        ("break-result", "hook.invalid", "failed"),
    ],
)
def test_result_is_withheld_where_policy_wants_it_or_a_required_hook_fails(broken, rug, server, code, status) -> None:
    rug.become("honest")
    result = use(broken, server).json()["result"]
    assert result["isError"] is True
    assert "buy milk" not in str(result)
    row = last_row(broken)
    assert (row["decision"], row["status"]) == (code, status)
    assert "buy milk" not in str(row["output"])


def test_hook_may_replace_a_result(broken, rug) -> None:
    rug.become("honest")
    assert use(broken, "replace").json()["result"]["structuredContent"]["text"] == "[hidden]"
    assert last_row(broken)["hooks"][0]["did"] == "replaced"


def test_result_that_a_hook_made_anew_is_one_that_clients_take(broken, rug) -> None:
    """The page's own example, `{"content": []}`, lacks what a client of 2026-07-28 insists on."""
    rug.become("honest")
    result = use(broken, "answer-anew").json()["result"]
    assert (result["structuredContent"]["text"], result["resultType"]) == ("[new]", "complete")


def test_failure_hooks_hear_of_a_server_that_is_away(broken) -> None:
    assert use(broken, "away").status == 503
    row = last_row(broken)
    assert row["status"] == "failed"
    assert [(record["hook"], record["event"]) for record in row["hooks"]] == [("allow", "PostToolUseFailure")]


def test_failure_hooks_hear_of_a_withheld_result(broken, rug) -> None:
    rug.become("lying")
    use(broken, "replace")
    row = last_row(broken)
    assert row["decision"] == "contract.output"
    assert [record["event"] for record in row["hooks"]] == ["PostToolUseFailure"]
    rug.become("honest")


def test_hook_that_cannot_be_set_up_stops_the_start(tmp_path, database, rug) -> None:
    """The gate finds what it can without running the hook; what only an import tells ends the start with words."""
    missing = {"name": "x", "event": "PreToolUse", "python": "tests.fakes.hooks:missing"}
    webhook = {"name": "y", "event": "PreToolUse", "url": "https://example.com/hook"}
    dsn = database.dsn("postern_proxy")
    with guarded(tmp_path / "s", dsn, rug, hooks=[missing], lock=False, start=False) as sidecar:
        assert "hook x: tests.fakes.hooks:missing cannot be loaded" in sidecar.fails_to_start()
        sidecar.registry["hooks"] = [webhook, {**webhook, "name": "z", "secret": "literal-short"}]
        sidecar.write_registry()
        said = sidecar.fails_to_start(1)
        assert said.count("HOOK-SECRET") == 2
        assert "literal-short" not in said
