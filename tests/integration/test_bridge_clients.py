"""The official client, on both eras, through a bridge in front of a server written on the official SDK."""

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.context import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client

from tests.fakes.bridge import Bridge, is_alive, running_bridge, wait_until

EVERYTHING = (sys.executable, "-m", "tests.fakes.everything")
ERAS: list[Literal["legacy", "2026-07-28"]] = ["legacy", "2026-07-28"]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with running_bridge(tmp_path_factory.mktemp("bridge"), EVERYTHING, "--events-after-s", "0.1") as bridge:
        yield bridge


async def answer_sampling(
    context: ClientRequestContext, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    said = types.TextContent(type="text", text="from the client")
    return types.CreateMessageResult(role="assistant", content=said, model="test")


@asynccontextmanager
async def connected(bridge: Bridge, era: Literal["legacy", "2026-07-28", "auto"]) -> AsyncGenerator[Client]:
    async with httpx2.AsyncClient(headers={"x-postern-bridge": "a-token-for-tests"}, timeout=30) as http:
        transport = streamable_http_client(bridge.url, http_client=http)
        async with Client(transport, mode=era, sampling_callback=answer_sampling) as client:
            yield client


def text_of(result: types.CallToolResult) -> str:
    content = result.content[0]
    assert isinstance(content, types.TextContent)
    return content.text


@pytest.mark.parametrize("era", ERAS)
async def test_list_call_progress_resources_and_prompts(bridge: Bridge, era: Literal["legacy", "2026-07-28"]):
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with connected(bridge, era) as client:
        tools = await client.list_tools()
        assert {"test_simple_text", "json_schema_2020_12_tool"} <= {tool.name for tool in tools.tools}
        await client.call_tool("test_tool_with_progress", {}, progress_callback=note)
        assert seen == [0, 50, 100]
        assert "simple text" in text_of(await client.call_tool("test_simple_text", {}))
        assert (await client.call_tool("test_error_handling", {})).is_error
        assert (await client.read_resource("test://template/7/data")).contents
        assert (await client.get_prompt("test_simple_prompt")).messages


async def test_a_question_to_the_clients_model_is_answered_in_the_handshake_era(bridge: Bridge):
    async with connected(bridge, "legacy") as client:
        assert text_of(await client.call_tool("test_sampling", {"prompt": "hi"})) == "LLM response: from the client"


async def test_a_question_as_a_result_is_answered_in_the_modern_era(bridge: Bridge):
    async with connected(bridge, "2026-07-28") as client:
        result = await client.call_tool("test_input_required_result_sampling", {})
        assert text_of(result) == "Model said: from the client"


async def test_a_client_that_looks_for_the_era_finds_the_modern_one(bridge: Bridge):
    async with connected(bridge, "auto") as client:
        assert client.protocol_version == "2026-07-28"


@pytest.mark.parametrize("era", ERAS)
async def test_sixteen_callers_at_once(bridge: Bridge, era: Literal["legacy", "2026-07-28"]):
    answers: list[str] = []
    async with connected(bridge, era) as client, anyio.create_task_group() as tasks:

        async def call() -> None:
            answers.append(text_of(await client.call_tool("test_tool_with_progress", {})))

        for _ in range(16):
            tasks.start_soon(call)
    assert len(answers) == 16


async def test_a_client_that_closes_ends_its_child(bridge: Bridge):
    before = set(bridge.children())
    async with connected(bridge, "legacy") as client:
        await client.list_tools()
        (child,) = set(bridge.children()) - before
    wait_until(lambda: not is_alive(child))
