"""What each step of the way of a request costs, without sockets and without waiting.

    scripts/bench-micro [--body-bytes 1024] [--callers 64] [--json FILE]

Microseconds of processor time, the quickest of several rounds. Tight loops flatter Python, whose caches stay warm: the
last line is the whole way at once, with so many callers, and more than the sum. Compare a line with itself before a
change.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import uvloop

from proxy.answers import execution_header
from proxy.audit.canonical import Encoder
from proxy.audit.chain import Links, genesis
from proxy.audit.record import Intent, Row, Status
from proxy.call import Call
from proxy.edge.head import check_framing, read_target, render_head
from proxy.execution.relay import reply_of
from proxy.ids import execution_id
from proxy.upstream.request import render_request
from proxy.wire.era import Classification, Era, classify
from proxy.wire.headers import check_headers, to_client, to_upstream
from proxy.wire.jsonrpc import Envelope, parse_envelope
from tests.bench.way import NAME, Setting, Way

ROUND_S = 0.02
ROUNDS = 15
JSON_HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"1024"))


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, how often a governed call takes it, and the work."""

    name: str
    times: int
    work: Callable[[], object]


def steps_of(setting: Setting) -> list[Step]:
    """Return the steps in the order of a call."""
    route, headers, body = setting.route(), setting.headers, setting.body
    envelope = cast("Envelope", parse_envelope(body))
    made = _call(setting, envelope)
    identity = made.identity
    assert identity is not None
    message = cast("dict[str, object]", json.loads(setting.answer))
    output = route.snapshot_output(made, message, setting.answer)
    encoder, links, head = Encoder("bench"), Links(made.execution_id), genesis(made.execution_id)
    request = made.request()
    outcome = made.outcome(Status.SUCCESS, "authz.allowed", "every needed scope is held", 200, output=output)
    intent, row = Intent(request), Row(request, outcome)
    encoded = encoder.row(row)
    outgoing = to_upstream(headers, Era.MODERN)
    answer_headers = [*to_client(JSON_HEADERS), execution_header(made.execution_id)]
    framing = b"content-length: 1024\r\n"
    return [
        Step("target and framing of the request", 1, lambda: (check_framing("1.1", headers, 1500), read_target(b"/fast/mcp", headers))),
        Step("execution id", 1, lambda: execution_id(datetime.now(UTC))),
        Step("record of the call", 1, lambda: Call.arrive(NAME, "POST", headers, "127.0.0.1")),
        Step("door: Host, Origin", 1, lambda: (setting.door.check(headers), setting.door.cors(headers))),
        Step("parse and check the message", 1, lambda: parse_envelope(body)),
        Step("snapshot of the input", 1, lambda: route.snapshot_input(made, body)),
        Step("era", 1, lambda: classify(headers, envelope)),
        Step("headers against body", 1, lambda: check_headers(headers, envelope, Era.MODERN)),
        Step("token, verified before", 1, lambda: run(setting.auth.authenticate(headers, setting.now))),
        Step("decision", 1, lambda: setting.policy.decide(identity, "POST", envelope, Era.MODERN)),
        Step("guard: arguments against the contract", 1, lambda: run(setting.guard.before(made))),
        Step("what the rows say of the request", 2, made.request),
        Step("encode the intent", 1, lambda: encoder.intent(intent)),
        Step("link into the chain", 2, lambda: links.append([], head, "row", encoded)),
        Step("headers to the server", 1, lambda: to_upstream(headers, Era.MODERN)),
        Step("encode the message", 1, envelope.encoded),
        Step("render the request", 1, lambda: render_request(b"POST", b"/mcp", b"host", outgoing, body)),
        Step("headers to the client", 1, lambda: to_client(JSON_HEADERS)),
        Step("decode the answer", 1, lambda: _reply(setting.answer)),
        Step("guard: result against the contract", 1, lambda: run(setting.guard.after(made, message))),
        Step("snapshot of the output", 1, lambda: route.snapshot_output(made, message, setting.answer)),
        Step("what the row says of the outcome", 1, lambda: made.outcome(Status.SUCCESS, "authz.allowed", "", 200, output=output)),
        Step("encode the row", 1, lambda: encoder.row(row)),
        Step("render the answer", 1, lambda: render_head(200, answer_headers, framing)),
    ]  # fmt: skip


def _call(setting: Setting, envelope: Envelope) -> Call:
    """Return the record of a call as it is when the upstream is asked."""
    made = Call.arrive(NAME, "POST", setting.headers, "127.0.0.1")
    made.server, made.audience = setting.server, setting.fleet.audience(setting.server)
    made.envelope, made.body = envelope, setting.body
    understood = cast("Classification", classify(setting.headers, envelope))
    made.era, made.protocol_version = understood.era, understood.version
    made.identity = identity = cast("Any", run(setting.auth.authenticate(setting.headers, setting.now)))
    made.decision = setting.policy.decide(identity, "POST", envelope, Era.MODERN)
    made.input = setting.route().snapshot_input(made, setting.body)
    assert made.decision.allowed, made.decision
    return made


def _reply(answer: bytes) -> object:
    return reply_of(200, answer, 1, is_json=True)


def run(work: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that does not wait."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def cost_us(work: Callable[[], object]) -> float:
    """Return the processor time of one repetition, in microseconds, in the quickest round."""
    begun, count = time.process_time(), 0
    while time.process_time() - begun < ROUND_S:
        work()
        count += 1
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(count):
            work()
        best = min(best, (time.process_time() - begun) / count)
    return best * 1e6


async def whole_us(setting: Setting, callers: int) -> float:
    """Return the processor time of a governed call with everything but sockets and commits: low tenth of the rounds."""
    way = Way(setting, callers)
    await way.governed(2)
    if b"HTTP/1.1 200" not in way.last_answer:
        raise AssertionError(f"the call was not answered: {way.last_answer!r}")
    turns, taken = max(1, 640 // callers), list[float]()
    for _ in range(40):
        begun = time.process_time()
        await way.governed(turns)
        taken.append((time.process_time() - begun) / (turns * callers))
    await way.aclose()
    return sorted(taken)[len(taken) // 10] * 1e6


def measure(body_bytes: int, callers: int) -> dict[str, float]:
    """Return the cost of each step, of all of them, and of the whole way."""
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder), body_bytes)
        steps = steps_of(setting)
        gc.collect()
        gc.freeze()
        found = {step.name: cost_us(step.work) for step in steps}
        found["sum of the steps"] = sum(found[step.name] * step.times for step in steps)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found[f"the whole way, {callers} callers"] = runner.run(whole_us(setting, callers))
    return {name: round(cost, 2) for name, cost in found.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench-micro", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--body-bytes", type=int, default=1024)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.body_bytes, options.callers)
    for name, cost in found.items():
        print(f"{cost:9.2f} µs  {name}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
