"""Probes against real servers: both eras, sessions that are lost, and everything that is not an MCP server."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator

import pytest

from supervisor_plugin.exchange import ProbeError
from supervisor_plugin.health import McpProbe, ProxyProbe
from supervisor_plugin.ports import is_free
from tests.fakes.fleet import ROOT
from tests.ports import free_port


@contextlib.asynccontextmanager
async def server(*argv: str, mode: str = "", **variables: str) -> AsyncGenerator[int, None]:
    port = free_port()
    port += 700
    words = argv or ("-m", "tests.fakes.tiny_mcp", "--mode", mode)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, "--port", str(port), cwd=ROOT, env={**os.environ, **variables}
    )
    try:
        async with asyncio.timeout(20):
            while is_free(port):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def probing(port: int, timeout_s: float = 5.0) -> AsyncGenerator[McpProbe, None]:
    probe = McpProbe(f"http://127.0.0.1:{port}/mcp", timeout_s)
    try:
        yield probe
    finally:
        await probe.close()


async def test_a_modern_server_tells_versions_and_tools():
    async with server() as port, probing(port) as probe:
        report = await probe.check()
        assert (report.era, report.protocol_versions, report.tool_count) == ("modern", ("2026-07-28",), 2)
        assert 0 < report.latency_ms < 5000
        assert (await probe.check()).tool_count == 2


async def test_a_legacy_server_keeps_one_session():
    async with server(mode="legacy") as port, probing(port) as probe:
        for _ in range(3):
            report = await probe.check()
            assert (report.era, report.protocol_versions, report.tool_count) == ("legacy", ("2025-11-25",), 2)


async def test_the_official_sdk_is_understood_in_full():
    async with server("-m", "tests.fakes.everything") as port, probing(port) as probe:
        report = await probe.check()
        assert report.era == "modern"
        assert "2026-07-28" in report.protocol_versions
        assert report.tool_count is not None
        assert report.tool_count > 5
        await probe.check()


async def test_nobody_there_is_said_in_words():
    port = free_port()
    async with probing(port) as probe:
        with pytest.raises(ProbeError, match="nothing accepts connections"):
            await probe.check()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("mute", "no answer within 0.5 s"),
        ("not-mcp", "it does not speak MCP there"),
        ("too-many", "HTTP 429: it asks to slow down"),
        ("elsewhere", "HTTP 404: its MCP endpoint has another address: set `path`"),
    ],
)
async def test_what_is_not_a_healthy_server_is_told_by_its_reason(mode: str, words: str):
    async with server(mode=mode) as port, probing(port, 0.5) as probe:
        for _ in range(2):
            with pytest.raises(ProbeError, match=words):
                await probe.check()


async def test_a_server_that_forgot_our_session_is_given_a_new_one():
    async with server(mode="legacy,forgetful") as port, probing(port) as probe:
        for _ in range(5):
            assert (await probe.check()).era == "legacy"


async def test_the_proxy_must_answer_both_addresses():
    async with server(mode="proxy") as port:
        probe = ProxyProbe(f"http://127.0.0.1:{port}", 2.0)
        assert (await probe.check()).note == ""
        await probe.close()
    async with server(mode="too-many") as port:
        probe = ProxyProbe(f"http://127.0.0.1:{port}", 2.0)
        with pytest.raises(ProbeError, match="/healthz: HTTP 429"):
            await probe.check()
        await probe.close()


@pytest.mark.parametrize(
    ("status", "said", "note"),
    [
        (200, {"registry": "current", "unwell": []}, ""),
        (503, {"reason": "the audit store is not reachable"}, "not ready: the audit store is not reachable"),
        (200, {"registry": "current", "unwell": ["nonces"]}, "background jobs that do not run: nonces; see its log"),
        (503, "who are you?", "not ready: "),
    ],
)
async def test_what_the_proxy_says_of_itself_is_what_operators_read(status: int, said: object, note: str):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                code, body = (status, json.dumps(said).encode()) if b" /readyz " in head else (200, b"{}")
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (code, len(body), body))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as serving:
        probe = ProxyProbe(f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}", 2.0)
        found = (await probe.check()).note
        await probe.close()
    assert found.startswith(note)
    assert bool(found) == bool(note)
