"""Webhooks: signed, bounded, never followed anywhere (SPEC C5)."""

import base64
import gzip
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from proxy.hooks.api import Caller, HookEvent, Refuse, Replace, Rewrite
from proxy.hooks.chain import Step, run_before
from proxy.hooks.errors import HookConfigError, HookError
from proxy.hooks.webhook import HookClient, Webhook, parse_answer
from tests.ports import free_port

KEY = b"a key of thirty-two bytes, no less"


class Endpoint(ThreadingHTTPServer):
    """Remembers what it was asked; `reply` is (status, headers, body)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.reply: tuple[int, dict[str, str], bytes] = (204, {}, b"")
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status, headers, answer = self.server.reply
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def client():
    made = HookClient()
    yield made
    await made.aclose()


def event() -> HookEvent:
    return HookEvent("PreToolUse", "notes", "read", {"id": 3}, Caller("ada", "https://i", "cli"), "0199-x")


def hook(endpoint: Endpoint, client: HookClient, **more: Any) -> Webhook:
    given: dict[str, Any] = {"max_bytes": 10_000, "client": client, "clock": lambda: 1_700_000_000, **more}
    return Webhook("mine", endpoint.url, KEY, **given)


async def test_event_is_signed_as_standard_webhooks_say(endpoint, client) -> None:
    assert await hook(endpoint, client)(event()) is None
    headers, body = endpoint.asked[0]
    assert headers["webhook-timestamp"] == "1700000000"
    signed = f"{headers['webhook-id']}.1700000000.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    sent = json.loads(body)
    assert (sent["event"], sent["server"], sent["tool"], sent["arguments"]) == (
        "PreToolUse",
        "notes",
        "read",
        {"id": 3},
    )
    assert sent["caller"] == {"subject": "ada", "issuer": "https://i", "client": "cli", "agent": ""}
    assert "authorization" not in headers


async def test_secret_in_the_form_of_standard_webhooks_is_decoded(endpoint, client) -> None:
    written = b"whsec_" + base64.b64encode(KEY)
    made = Webhook("mine", endpoint.url, written, max_bytes=10_000, client=client)
    await made(event())
    headers, body = endpoint.asked[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(KEY, signed, "sha256").digest()).decode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"decision": "allow"}, None),
        ({"decision": "refuse", "reason": "no"}, Refuse("no")),
        ({"decision": "refuse", "retry_after_s": 9}, Refuse("refused", 9)),
        ({"decision": "rewrite", "arguments": {"a": 1}}, Rewrite({"a": 1})),
        ({"decision": "replace", "result": {"content": []}}, Replace({"content": []})),
    ],
)
async def test_endpoint_decides(endpoint, client, answer, expected) -> None:
    endpoint.reply = (200, {"content-type": "application/json"}, json.dumps(answer).encode())
    assert await hook(endpoint, client)(event()) == expected


@pytest.mark.parametrize(
    "raw",
    [b"", b"yes", b"[]", b"{}", b'{"decision":"maybe"}', b'{"decision":"allow","extra":1}', b'{"decision":"rewrite"}',
     b'{"decision":"refuse","reason":7}', b'{"decision":"replace","result":[]}', b"\xff", b"[" * 5000],
)  # fmt: skip
def test_nonsense_is_no_answer(raw) -> None:
    with pytest.raises(HookError):
        parse_answer(raw)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (302, {"location": "http://127.0.0.1:1/"}, b""),
        (500, {}, b"{}"),
        (401, {}, b""),
        (200, {}, b"x" * 20_000),
        (200, {"content-encoding": "gzip"}, gzip.compress(b'{"decision": "allow"}', mtime=0)),
    ],
)
async def test_endpoint_that_redirects_fails_or_talks_too_much_fails(endpoint, client, status, headers, body) -> None:
    endpoint.reply = (status, headers, body)
    with pytest.raises(HookError):
        await hook(endpoint, client)(event())
    assert len(endpoint.asked) == 1


async def test_endpoint_that_is_not_there_refuses_the_call(client) -> None:
    made = Webhook("mine", f"http://127.0.0.1:{free_port()}/", KEY, max_bytes=1000, client=client)
    passage = await run_before([Step("mine", "PreToolUse", made, 5.0)], event())
    assert passage.has_failed


async def test_event_that_is_too_large_is_not_sent(endpoint, client) -> None:
    with pytest.raises(HookError, match="max_bytes"):
        await hook(endpoint, client, max_bytes=50)(event())
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://example.com/hook", KEY),
        ("https://user:pw@example.com/", KEY),
        ("ftp://example.com/", KEY),
        ("/relative", KEY),
        ("https://example.com/", b"short"),
        ("https://example.com/", b"whsec_not base64!!!!"),
    ],
)
def test_webhook_that_would_not_be_safe_stops_the_start(url, key) -> None:
    with pytest.raises(HookConfigError, match="hook mine"):
        Webhook("mine", url, key, max_bytes=1000, client=HookClient())


def test_secret_is_not_shown() -> None:
    made = Webhook("mine", "https://example.com/", KEY, max_bytes=1000, client=HookClient())
    assert KEY.decode() not in repr(made)
