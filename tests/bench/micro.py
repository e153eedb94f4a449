"""What each step of the way of a request costs, without sockets and without waiting.

    scripts/bench-micro [--rounds N] [--body-bytes N] [--json FILE]

Microseconds of processor time, the quickest of several rounds. Tight loops flatter Python (caches stay warm): compare
a step with itself before a change, and take sums from `scripts/bench`.
"""

import json
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import jwt

from proxy.answers import execution_header
from proxy.audit.canonical import Encoder
from proxy.audit.chain import Links, genesis
from proxy.audit.record import Intent, Row, Status
from proxy.audit.redact import snapshot
from proxy.auth.bearer import ServerAuth
from proxy.authorize import Policy
from proxy.call import Call
from proxy.door import Door
from proxy.ids import execution_id
from proxy.relay import reply_of
from proxy.upstream.request import render_request
from proxy.wire.era import Classification, Era, classify
from proxy.wire.headers import check_headers, to_upstream
from proxy.wire.jsonrpc import Envelope, parse_envelope
from registry.models import Fleet
from registry.secrets import SecretReader
from tests.bench.message import MODERN, call
from tests.bench.stage import SCOPES, registry_of, section
from tests.bench.upstream import answer_bytes

ROUND_S = 0.02
CAP = 65_536


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, the times it happens in a governed call, and the work."""

    name: str
    times: int
    work: Callable[[], object]


def fleet_of(folder: Path) -> tuple[Fleet, str]:
    """Return a fleet of one server and the secret of its tokens."""
    secret = secrets.token_hex(32)
    (folder / "key").write_text(secret, encoding="utf-8")
    (folder / "key").chmod(0o600)
    servers: dict[str, Any] = {"fast": section(5001, SCOPES)}
    servers["fast"]["oauth"] |= {"issuer": "https://issuer.test", "keys": [{"kid": "k1", "secret": "file:key"}]}
    document = {"version": 1, "servers": servers, **registry_of(servers, {})}
    for name, given in servers.items():
        given["name"] = name
    for name, agent in document["agents"].items():
        agent["name"] = name
    return Fleet.model_validate_json(json.dumps(document)), secret


class Bench:
    """The pieces of a call, ready to be run one by one."""

    def __init__(self, folder: Path, body_bytes: int) -> None:
        fleet, secret = fleet_of(folder)
        server = fleet.servers["fast"]
        self.now = time.time()
        claims = {"iss": "https://issuer.test", "aud": fleet.audience(server), "sub": "ada", "client_id": "cli"}
        claims |= {"scope": " ".join(SCOPES), "iat": int(self.now), "exp": int(self.now) + 3600}
        token = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "k1"})
        message = call(MODERN, body_bytes)
        given = {"host": "127.0.0.1:8080", **message.headers, "authorization": f"Bearer {token}"}
        self.headers = tuple((name.encode(), value.encode()) for name, value in given.items())
        self.body = message.body
        before, after = answer_bytes(body_bytes)
        self.answer = before + b"1" + after
        self.door = Door(fleet.public_url(), fleet.proxy)
        self.auth = ServerAuth.build(fleet, server, SecretReader(folder, {}))
        self.policy = Policy.build(fleet, server)
        self.encoder = Encoder("bench")
        self.envelope = cast("Envelope", parse_envelope(self.body))
        self.call = self._call()

    def _call(self) -> Call:
        made = Call.arrive("fast", "POST", self.headers, "127.0.0.1")
        made.envelope, made.body, made.audience = self.envelope, self.body, "http://127.0.0.1:8080/fast/mcp"
        understood = cast("Classification", classify(self.headers, self.envelope))
        made.era, made.protocol_version = understood.era, understood.version
        made.identity = cast("Any", _run(self.auth.authenticate(self.headers, self.now)))
        made.decision = self.policy.decide(made.identity, "POST", self.envelope, Era.MODERN)
        assert made.decision.allowed, made.decision
        made.input = snapshot(self.envelope.params, self.body, (), CAP)
        return made

    def steps(self) -> list[Step]:
        """Return the steps in the order of a call."""
        made, headers, auth = self.call, self.headers, self.auth
        identity = cast("Any", made.identity)
        output = snapshot(json.loads(self.answer)["result"], self.answer, (), CAP)
        request = made.request()
        intent = Intent(request)
        outcome = made.outcome(Status.SUCCESS, "authz.allowed", "every needed scope is held", 200, output=output)
        row = Row(request, outcome)
        encoded, links, head = self.encoder.row(row), Links(made.execution_id), genesis(made.execution_id)
        outgoing = to_upstream(headers, Era.MODERN)
        message = json.loads(self.answer)
        return [
            # EDGE
            Step("execution id, times", 1, lambda: execution_id(datetime.now(UTC))),
            Step("call record", 1, lambda: Call.arrive("fast", "POST", headers, "127.0.0.1")),
            Step("door: Host, Origin", 1, lambda: (self.door.check(headers), self.door.cors(headers))),
            Step("parse and check the message", 1, lambda: parse_envelope(self.body)),
            Step("era", 1, lambda: classify(headers, self.envelope)),
            Step("headers against body", 1, lambda: check_headers(headers, self.envelope, Era.MODERN)),
            Step("token, verified before", 1, lambda: _run(auth.authenticate(headers, self.now))),
            Step("decision", 1, lambda: self.policy.decide(identity, "POST", self.envelope, Era.MODERN)),
            Step("snapshot of the input", 1, lambda: snapshot(self.envelope.params, self.body, (), CAP)),
            Step("record: request", 2, made.request),
            Step("encode the intent", 1, lambda: self.encoder.intent(intent)),
            Step("link into the chain", 2, lambda: links.append(bytearray(), head, "row", encoded)),
            Step("headers to the upstream", 1, lambda: to_upstream(headers, Era.MODERN)),
            Step("encode the message", 1, self.envelope.encoded),
            Step("render the request", 1, lambda: render_request(b"POST", b"/mcp", b"host", outgoing, self.body)),
            # UP
            Step("decode the answer", 1, lambda: reply_of(200, self.answer, 1, is_json=True, expects_message=True)),
            Step("snapshot of the output", 1, lambda: snapshot(message["result"], self.answer, (), CAP)),
            Step("record: outcome", 1, lambda: made.outcome(Status.SUCCESS, "authz.allowed", "", 200, output=output)),
            Step("encode the row", 1, lambda: self.encoder.row(row)),
            Step("execution header", 1, lambda: execution_header(made.execution_id)),
        ]

    def rare(self) -> list[Step]:
        """Return what not every call does."""
        fresh = ServerAuth.build
        return [Step("token, first time", 0, self._verify_anew)] if fresh else []

    def _verify_anew(self) -> object:
        self.auth.forget()
        return _run(self.auth.authenticate(self.headers, self.now))


def _run(work: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that does not wait."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")
