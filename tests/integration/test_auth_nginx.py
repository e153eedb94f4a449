"""The shipped nginx configuration and njs signer in front of a real nginx: what it signs is what the door accepts."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time

import httpx2 as httpx
import pytest

from proxy.auth.assertion import Presented
from proxy.auth.bearer import ServerAuth
from proxy.auth.identity import Authenticated
from tests.ports import free_port
from tests.unit.auth.making import PROXY_SECRET, Literal, UsedNonces, trusting

DEPLOY = Path(__file__).parents[2] / "deploy" / "nginx"
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "é": "x"}}).encode()


def find_nginx() -> tuple[str, Path] | None:
    """The nginx on the PATH and its njs module, or None."""
    binary = shutil.which("nginx")
    if binary is None:
        return None
    built = subprocess.run([binary, "-V"], capture_output=True, text=True, check=False).stderr
    declared = re.search(r"--modules-path=(\S+)", built)
    folders = [Path(binary).resolve().parents[1] / "lib/nginx/modules", *([Path(declared[1])] if declared else [])]
    modules = [folder / "ngx_http_js_module.so" for folder in folders]
    return next(((binary, module) for module in modules if module.exists()), None)


NGINX = find_nginx()
pytestmark = pytest.mark.skipif(
    NGINX is None, reason="nginx with its njs module (libnginx-mod-http-js) is not installed"
)


@dataclass
class Behind:
    """What stands behind nginx: the SSO service, and a door that says whom it recognises. It keeps what it was sent."""

    door: ServerAuth
    seen: list[Presented] = field(default_factory=list[Presented])

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await read_request(reader)
                writer.write(await self.answer(request))
                await writer.drain()
        writer.close()

    async def answer(self, request: Presented) -> bytes:
        if request.path == "/verify":
            return verify(request)
        self.seen.append(request)
        found = await self.door.authenticate(request.headers, time(), request)
        if isinstance(found, Authenticated):
            told = {"subject": found.subject, "scopes": sorted(found.scopes), "by": found.asserted_by}
            return respond(200, json.dumps(told).encode())
        return respond(401, json.dumps({"code": getattr(found, "code", "anonymous")}).encode())


async def read_request(reader: asyncio.StreamReader) -> Presented:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    path, _, query = target.partition("?")
    lines = (line.partition(": ") for line in head[1:] if line)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, _, value in lines]
    size = int(dict(headers).get(b"content-length", b"0"))
    return Presented(method, path, query.encode(), headers, await reader.readexactly(size))


def respond(status: int, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def verify(request: Presented) -> bytes:
    """The SSO service of the test: a cookie names user and permissions."""
    found = re.fullmatch(rb"user=([^;]*); may=([^;]*)", dict(request.headers).get(b"cookie", b""))
    if found is None:
        return respond(401, b"")
    return respond(200, b"", b"x-sso-user: " + found[1], b"x-sso-permissions: " + found[2])


def configure(folder: Path, module: Path, listen: int, behind: int, sso_port: int) -> Path:
    """The shipped configuration, with nothing changed but what it marks as the operator's."""
    text = (DEPLOY / "nginx.conf").read_text()
    changes = {
        "load_module modules/ngx_http_js_module.so;": f"load_module {module};",
        "/etc/nginx/postern/": f"{folder}/",
        "listen 443 ssl;": f"listen 127.0.0.1:{listen};",
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{behind};",
        "http://127.0.0.1:9090/verify": f"http://127.0.0.1:{sso_port}/verify",
        "http {": "http {\n"
        + "".join(
            f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "    access_log off;\n",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    text = re.sub(r"\n *ssl_certificate.*", "", text)
    owner = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"{owner}pid {folder}/nginx.pid;\n{text}")
    shutil.copy(DEPLOY / "postern_sign.js", folder)
    (folder / "postern_key.json").write_text(json.dumps({"kid": "sso-1", "secret": PROXY_SECRET}))
    return folder / "nginx.conf"


@contextlib.contextmanager
def running(folder: Path, behind: int, sso_port: int | None = None) -> Generator[str]:
    assert NGINX is not None
    binary, module = NGINX
    port = free_port()
    conf = configure(folder, module, port, behind, sso_port or behind)
    log = folder / "error.log"
    command = [binary, "-p", str(folder), "-e", str(log), "-c", str(conf), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = monotonic() + 10
        while process.poll() is None and monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[tuple[httpx.AsyncClient, Behind]]:
    found = trusting(permissions=["notes:write", "notes:use"])
    behind = Behind(ServerAuth.build(found, found.servers["notes"], Literal(), UsedNonces()))
    server = await asyncio.start_server(behind.handle, "127.0.0.1", 0)
    async with server:
        with running(tmp_path, server.sockets[0].getsockname()[1]) as url:
            async with httpx.AsyncClient(base_url=url, headers={"host": "gw.example"}, trust_env=False) as client:
                yield client, behind


def sso(user: str = "alice", may: str = "notes:read") -> dict[str, str]:
    return {"cookie": f"user={user}; may={may}"}


async def test_what_nginx_signs_is_believed(site: tuple[httpx.AsyncClient, Behind]):
    client, _ = site
    for method, path, body in [
        ("POST", "/notes/mcp", BODY),
        ("POST", "/notes/mcp?x=1&y=%20", b""),
        ("POST", "/notes/mcp", b"x" * 1_000_000),
        ("GET", "/notes/mcp", None),
        ("DELETE", "/notes/mcp", None),
    ]:
        answer = await client.request(method, path, content=body, headers=sso())
        assert answer.json() == {"subject": "alice", "scopes": ["notes:read"], "by": "sso"}, (method, path)


async def test_a_user_without_permissions_is_known_and_may_nothing(site: tuple[httpx.AsyncClient, Behind]):
    answer = await site[0].post("/notes/mcp", content=BODY, headers=sso(may=""))
    assert answer.json() == {"subject": "alice", "scopes": [], "by": "sso"}


async def test_what_the_client_claims_about_itself_ends_at_nginx(site: tuple[httpx.AsyncClient, Behind]):
    client, behind = site
    claims = {
        "x-user-id": "root",
        "x-user-permissions": "admin",
        "x-proxy-verified": "true",
        "x_user_id": "root",
        "authorization": "Bearer stolen",
    }
    answer = await client.post("/notes/mcp", content=BODY, headers=sso() | claims)
    assert answer.json()["subject"] == "alice"
    assert b"authorization" not in dict(behind.seen[-1].headers)


async def test_without_a_login_nothing_reaches_the_door(site: tuple[httpx.AsyncClient, Behind]):
    client, behind = site
    assert (await client.post("/notes/mcp", content=BODY)).status_code == 401
    assert (await client.post("/elsewhere", content=BODY, headers=sso())).status_code == 404
    assert behind.seen == []


async def test_a_request_that_cannot_be_signed_is_refused(site: tuple[httpx.AsyncClient, Behind]):
    client, behind = site
    answer = await client.post("/notes/mcp", content=BODY, headers=sso(user=""))
    assert answer.json() == {"code": "auth.identity_unsigned"}
    assert b"x-proxy-verified" not in dict(behind.seen[-1].headers)


async def test_permissions_beyond_the_ceiling_and_other_servers_are_refused(site: tuple[httpx.AsyncClient, Behind]):
    client, _ = site
    beyond = await client.post("/notes/mcp", content=BODY, headers=sso(may="admin"))
    assert beyond.json() == {"code": "auth.identity_ceiling"}
    other = await client.post("/clock/mcp", content=BODY, headers=sso())
    assert other.json() == {"code": "auth.identity_signature"}


async def test_a_captured_request_is_worth_nothing_afterwards(site: tuple[httpx.AsyncClient, Behind]):
    client, behind = site
    await client.post("/notes/mcp", content=BODY, headers=sso())
    captured = behind.seen[-1]
    assert b'"code": "auth.identity_replayed"' in await behind.answer(captured)
    altered = Presented(captured.method, captured.path, b"", captured.headers, captured.body + b" ")
    assert b'"code": "auth.identity_signature"' in await behind.answer(altered)
