"""What a person reads when the fleet is up."""

import json
import shlex

import pytest

from supervisor_plugin.up.greeting import VERSION, Address, Greeting, client_configuration, curl, render

TIME = Address("time", "Time", "http://127.0.0.1:8080/time/mcp", ("get_current_time", "convert_time"), "t.o.k")
NOTES = Address("notes", "Notes", "http://127.0.0.1:8080/notes/mcp", ("search",), "n.o.t")
FOREIGN = Address("crm", "CRM", "http://127.0.0.1:8080/crm/mcp", ("find",))


def greeting(*addresses: Address, **more: object) -> Greeting:
    return Greeting(addresses, 60, "embedded", "a b/postern.yaml", ".postern", "postern", "supervisorctl", **more)  # type: ignore[arg-type]


def pasted(command: str) -> tuple[str, dict[str, str], dict]:
    """What a shell makes of the printed command: address, headers, body."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["curl", "-sS"]
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    return words[2], headers, json.loads(words[words.index("-d") + 1])


def test_printed_call_carries_every_header_that_the_modern_era_asks_for() -> None:
    """Headers that mirror the body agree with it."""
    url, headers, body = pasted(curl(TIME))
    assert url == TIME.url
    assert headers["Authorization"] == "Bearer t.o.k"
    assert (
        headers["MCP-Protocol-Version"] == body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == VERSION
    )
    assert headers["Mcp-Method"] == body["method"] == "tools/call"
    assert headers["Mcp-Name"] == body["params"]["name"] == "get_current_time"


def test_server_without_the_example_tool_is_asked_for_its_list() -> None:
    """Of somebody's own server we know no arguments."""
    _, headers, body = pasted(curl(NOTES))
    assert headers["Mcp-Method"] == body["method"] == "tools/list"
    assert "Mcp-Name" not in headers


def test_server_of_the_legacy_era_is_greeted_with_its_handshake() -> None:
    """A call without a session would be refused there; another server of the fleet may take one."""
    old = Address("old", "Old", "http://127.0.0.1:8080/old/mcp", ("get_current_time",), "o.l.d", is_legacy=True)
    _, headers, body = pasted(curl(old))
    assert (body["method"], body["params"]["protocolVersion"]) == ("initialize", "2025-11-25")
    assert not {"MCP-Protocol-Version", "Mcp-Method"} & set(headers)
    assert curl(NOTES) in render(greeting(old, NOTES))
    assert curl(old) in render(greeting(old))


def test_quotes_in_a_value_survive_the_shell() -> None:
    """What is pasted is what was meant."""
    odd = Address("odd", "Odd", "http://127.0.0.1/it's/mcp", (), "a'b")
    url, headers, _ = pasted(curl(odd))
    assert url == odd.url
    assert headers["Authorization"] == "Bearer a'b"


def test_client_configuration_is_what_clients_read() -> None:
    """One entry per server, under the key that Claude, Cursor and others share."""
    document = json.loads(client_configuration((TIME, FOREIGN)))
    assert document["mcpServers"]["time"] == {
        "type": "http",
        "url": TIME.url,
        "headers": {"Authorization": "Bearer t.o.k"},
    }
    assert document["mcpServers"]["crm"]["headers"] == {"Authorization": "Bearer from its issuer"}


def test_text_has_the_call_the_row_and_the_way_to_stop() -> None:
    """A path with a space can be pasted, too."""
    text = render(greeting(NOTES, TIME))
    assert curl(TIME) in text
    assert "postern audit --state-dir .postern query" in text
    assert "--registry 'a b/postern.yaml'" in text
    assert "stop everything       Ctrl-C" in text


def test_detached_fleet_is_stopped_by_a_command() -> None:
    """There is no terminal to press Ctrl-C in."""
    assert "postern down --state-dir .postern" in render(greeting(TIME, is_detached=True))


def test_fleet_without_a_token_of_ours_prints_no_call() -> None:
    """A call that cannot work is worse than none."""
    assert "curl" not in render(greeting(FOREIGN))


def test_open_server_needs_no_token() -> None:
    """Neither in the call nor in the configuration."""
    address = Address("open", "Open", "http://127.0.0.1/open/mcp", (), None, is_open=True)
    assert "headers" not in json.loads(client_configuration((address,)))["mcpServers"]["open"]
    _, headers, _ = pasted(curl(address))
    assert "Authorization" not in headers
    assert curl(address) in render(greeting(address))


def test_warnings_stand_before_the_addresses() -> None:
    """And then it does not say that every server is healthy."""
    text = render(greeting(TIME, warnings=("crm cannot be called: away",)))
    assert text.index("crm cannot be called") < text.index(TIME.url)
    assert "every server healthy" not in text


@pytest.mark.parametrize("value", [TIME, NOTES])
def test_token_is_no_part_of_the_repr(value: Address) -> None:
    """Tracebacks show reprs."""
    assert str(value.token) not in repr(value)
