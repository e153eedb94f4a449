"""A real nginx with the shipped njs signer in front of the running proxy: SSO user in, audit row out."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.fakes.recorder import Recorder
from tests.integration import test_auth_nginx as shipped
from tests.sidecar import Sidecar
from tests.sidecar import http as send
from tests.unit.auth.making import PROXY_SECRET

pytestmark = shipped.pytestmark
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {}}}


class Sso(BaseHTTPRequestHandler):
    """The SSO service behind nginx's auth_request: the cookie names the user, who may read notes."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        """Stay silent."""

    def do_GET(self) -> None:
        user = self.headers.get("cookie", "").removeprefix("user=")
        self.send_response(200 if user else 401)
        self.send_header("x-sso-user", user)
        self.send_header("x-sso-permissions", "notes:use notes:read")
        self.send_header("content-length", "0")
        self.end_headers()


@contextlib.contextmanager
def sso_service() -> Generator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Sso) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def sidecar(tmp_path: Path, database) -> Iterator[tuple[Sidecar, Recorder]]:
    key = tmp_path / "sso.key"
    key.write_text(PROXY_SECRET, encoding="ascii")
    key.chmod(0o600)
    trusted = {
        "sso": {
            "keys": [{"kid": "sso-1", "algorithm": "hmac-sha256", "secret": f"file:{key}"}],
            "servers": ["notes"],
            "permissions": ["notes:use", "notes:read"],
        }
    }
    listen = {"public_url": "https://gw.example", "trusted_forwarders": ["127.0.0.1/32"]}
    registry = {"proxy": listen, "trusted_proxies": trusted}
    with Recorder() as recorder:
        server = {
            "type": "external",
            "endpoint": f"http://127.0.0.1:{recorder.port}/mcp",
            "tools": {"read": {"scopes": ["notes:read"]}, "write": {"scopes": ["notes:write"]}},
        }
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"notes": server}, registry)
        try:
            sidecar.start_proxy()
            yield sidecar, recorder
        finally:
            sidecar.stop()


@pytest.fixture
def gateway(tmp_path: Path, sidecar: tuple[Sidecar, Recorder]) -> Iterator[str]:
    """The shipped configuration; only what it marks as the operator's is changed: ports, and where the SSO service is."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    with sso_service() as sso_port, shipped.running(folder, sidecar[0].port, sso_port) as url:
        yield url


def _post(url: str, message: object, **headers: str):
    sent = {"host": "gw.example", "content-type": "application/json", "accept": "application/json", **headers}
    return send("POST", f"{url}/notes/mcp", sent, json.dumps(message).encode())


async def _row(dsn: str, execution: str) -> asyncpg.Record:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchrow("select * from audit_log where execution_id = $1::text::uuid", execution)
    finally:
        await connection.close()


def test_sso_user_calls_a_tool_and_the_row_names_user_and_proxy(gateway, sidecar, database) -> None:
    """The cookie becomes a signed identity; the server sees neither; the row says who, vouched for by whom."""
    answer = _post(gateway, CALL, cookie="user=ada")
    assert answer.status == 200, answer.body
    row = asyncio.run(_row(database.dsn("postern_auditor"), answer.headers["x-postern-execution-id"]))
    assert (row["subject"], row["asserted_by"], row["status"]) == ("ada", "sso", "success")
    assert row["scopes_matched"] == ["notes:use", "notes:read"]
    names = {name for name, _ in sidecar[1].seen[-1][1]}
    assert not names & {"cookie", "x-user-id", "x-user-permissions", "x-proxy-verified", "authorization"}


def test_what_the_client_says_of_itself_ends_at_nginx(gateway, sidecar, database) -> None:
    """Forged identity headers from outside do not survive the gateway, and bypassing it they are refused."""
    forged = {"x-user-id": "root", "x-user-permissions": "notes:write", "x-proxy-verified": "true"}
    answer = _post(gateway, CALL, cookie="user=ada", **forged)
    row = asyncio.run(_row(database.dsn("postern_auditor"), answer.headers["x-postern-execution-id"]))
    assert row["subject"] == "ada"
    before = len(sidecar[1].seen)
    assert _post(sidecar[0].url, CALL, **forged).status == 401
    assert len(sidecar[1].seen) == before


def test_recorded_address_is_the_one_that_nginx_has_seen(gateway, database) -> None:
    """What a client writes into X-Forwarded-For stays to the left of what nginx appends."""
    client = http.client.HTTPConnection(
        "127.0.0.1", urlsplit(gateway).port, timeout=10, source_address=("127.0.0.2", 0)
    )
    headers = {"host": "gw.example", "content-type": "application/json", "cookie": "user=ada"}
    client.request("POST", "/notes/mcp", json.dumps(CALL), {**headers, "x-forwarded-for": "203.0.113.9"})
    answer = client.getresponse()
    assert (answer.status, bool(answer.read())) == (200, True)
    client.close()
    row = asyncio.run(_row(database.dsn("postern_auditor"), answer.headers["x-postern-execution-id"]))
    assert str(row["remote"]) == "127.0.0.2"


def test_without_a_login_nothing_passes_and_a_narrow_user_reaches_no_wider_tool(gateway, sidecar) -> None:
    """nginx stops the one, the proxy the other."""
    before = len(sidecar[1].seen)
    assert _post(gateway, CALL).status == 401
    wider = {**CALL, "params": {"name": "write", "arguments": {}}}
    assert _post(gateway, wider, cookie="user=ada").status == 403
    assert len(sidecar[1].seen) == before
