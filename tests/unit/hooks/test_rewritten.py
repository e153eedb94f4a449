"""What a row keeps of a call that a hook has rewritten."""

import json

from proxy.audit.hidden import Hidden
from proxy.call import Call
from proxy.guard.hooks import rewritten
from proxy.snapshots import snapshot_params
from proxy.wire.jsonrpc import Envelope, parse_envelope
from registry.models import Server

SERVER = Server.model_validate(
    {
        "name": "bank",
        "display_name": "Bank",
        "description": "pays",
        "type": "external",
        "endpoint": "https://bank.example/mcp",
        "tools": {"pay": {"redact": {"input": ["/card"]}}},
    }
)


def test_the_rules_of_the_tool_hold_for_rewritten_arguments_too() -> None:
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": {"card": "4111-1"}}}
    ).encode()
    call = Call.arrive("bank", "POST", (), "192.0.2.1")
    call.server, call.hidden = SERVER, Hidden(["our-credential"])
    envelope = parse_envelope(body)
    assert isinstance(envelope, Envelope)
    call.take(envelope)
    call.input = snapshot_params(SERVER, call, envelope.params, body, 10_000)
    digest = call.input.sha256
    assert "4111" not in str(call.input.text)
    rewritten(call, {"card": "4222-2", "note": "our-credential", "n": 1}, (), 10_000)
    assert call.input.text is not None
    assert json.loads(call.input.text)["arguments"] == {"card": "[redacted]", "note": "[redacted]", "n": 1}
    assert (call.input.size, call.input.sha256) == (len(body), digest), "of what the client sent"
