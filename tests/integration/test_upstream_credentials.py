"""What the proxy presents to a server is configured; what the client presented never gets there (SPEC I2)."""

import json
import signal
from collections.abc import Iterator

import pytest

from tests.fakes.recorder import Recorder
from tests.sidecar import Sidecar, http, wait_for

KEY = "upstream-key-7f3a9c"


@pytest.fixture
def sidecar(tmp_path, database) -> Iterator[Sidecar]:
    with Recorder() as recorder:
        secret = tmp_path / "upstream.key"
        secret.write_text(KEY, encoding="ascii")
        secret.chmod(0o600)
        server = {
            "type": "external",
            "endpoint": f"http://127.0.0.1:{recorder.port}/mcp",
            "headers": [{"name": "X-Api-Key", "value": f"file:{secret}"}],
            "tools": {"echo": {}},
        }
        registry = {"proxy": {"public_url": "https://mcp.example.test", "trusted_forwarders": ["127.0.0.0/8"]}}
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"a": server}, registry)
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def _call(sidecar: Sidecar, **headers: str):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
    token = sidecar.token("a", aud="https://mcp.example.test/a/mcp")
    return sidecar.post("a", message, token, host="mcp.example.test", **headers), token


def test_server_sees_our_credential_and_nothing_of_the_clients(sidecar) -> None:
    """The tool echoes its request headers: the configured key is there, the client's own copy of it and its token not."""
    answer, token = _call(sidecar, x_api_key="the client's", authorization_x="z")
    assert answer.status == 200, answer.body
    seen = json.loads(answer.json()["result"]["content"][0]["text"])["headers"]
    assert [value for name, value in seen if name == "x-api-key"] == [KEY]
    assert "authorization" not in {name for name, _ in seen}
    assert token not in repr(seen)


def test_a_reload_presents_the_new_value_behind_the_same_reference(sidecar, tmp_path) -> None:
    """The file of the key is written anew, the registry is not touched: the next call after SIGHUP has the new key."""
    (tmp_path / "upstream.key").write_text("rotated-key-51bd", encoding="ascii")
    sidecar.processes["proxy"].send_signal(signal.SIGHUP)

    def presented() -> list[str]:
        seen = json.loads(_call(sidecar)[0].json()["result"]["content"][0]["text"])["headers"]
        return [value for name, value in seen if name == "x-api-key"]

    wait_for(lambda: presented() == ["rotated-key-51bd"], "the new key is presented")


def test_secret_of_the_upstream_stands_in_no_row_and_no_log(sidecar, database) -> None:
    """The tool's answer carries the key (it echoes headers): the row and the log do not."""
    import asyncio

    import asyncpg

    async def rows() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(database.dsn("postern_auditor"))
        try:
            return await connection.fetch("select * from audit_log")
        finally:
            await connection.close()

    assert _call(sidecar)[0].status == 200
    assert KEY not in sidecar.log("proxy")
    written = asyncio.run(rows())
    assert len(written) == 1
    assert written[0]["status"] == "success"
    assert KEY not in repr(written)


def test_behind_a_tls_terminating_proxy_everything_names_the_public_url(sidecar) -> None:
    """`resource`, challenge and audience are the configured public address; a forwarded host changes nothing."""
    answer = http(
        "GET",
        f"{sidecar.url}/.well-known/oauth-protected-resource/a/mcp",
        {"x-forwarded-host": "evil.test", "host": "mcp.example.test"},
    )
    assert answer.json()["resource"] == "https://mcp.example.test/a/mcp"
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    refused = sidecar.post("a", message, None, host="mcp.example.test", x_forwarded_proto="http")
    assert 'resource_metadata="https://mcp.example.test/.well-known/' in refused.headers["www-authenticate"]
    assert sidecar.post("a", message, None).status == 421, "the internal address is not a name of this proxy"


def test_remote_address_comes_from_a_configured_forwarder_only(sidecar, database) -> None:
    """The rightmost address that is not a forwarder's counts; what the client put to the left of it does not."""
    import asyncio

    import asyncpg

    async def remotes() -> list[str]:
        connection = await asyncpg.connect(database.dsn("postern_auditor"))
        try:
            return [row["remote"] for row in await connection.fetch("select remote from audit_log order by started_at")]
        finally:
            await connection.close()

    _call(sidecar, x_forwarded_for="198.51.100.7, 203.0.113.9, 127.0.0.5")
    assert asyncio.run(remotes()) == ["203.0.113.9"]
