"""A small client on the official SDK for the suite's client-mode scenarios.

python -m tests.conformance.client URL          the suite says by its variables which scenario, version and calls
"""

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning

MODERN: Final = "2026-07-28"
ECHO: Final = "json_schema_echo"
FOCAL: Final = "json_schema_2020_12_tool"


@dataclass(frozen=True, slots=True)
class Task:
    """What the suite wants of a client. `calls` are (tool, arguments)."""

    scenario: str
    version: str
    calls: tuple[tuple[str, dict[str, Any]], ...]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "Task":
        context = json.loads(variables.get("MCP_CONFORMANCE_CONTEXT", "{}"))
        calls = tuple((call["name"], call["arguments"]) for call in context.get("toolCalls", ()))
        version = variables.get("MCP_CONFORMANCE_PROTOCOL_VERSION", MODERN)
        return cls(variables["MCP_CONFORMANCE_SCENARIO"], version, calls)


async def perform(task: Task, url: str, headers: Mapping[str, str]) -> None:
    """Connect and do what the scenario wants to see."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=dict(headers), timeout=30))
        client = await stack.enter_async_context(
            Client(
                streamable_http_client(url, http_client=http),
                mode="auto" if task.version == MODERN else "legacy",
                sampling_callback=_decline_sampling,
                elicitation_callback=_decline_elicitation,
                list_roots_callback=_no_roots,
            )
        )
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for name, arguments in task.calls or _calls(tools):
            await client.call_tool(name, arguments)
        await _use_the_rest(client)


def _calls(tools: Mapping[str, types.Tool]) -> list[tuple[str, dict[str, Any]]]:
    """Every tool once; the echo gets the schema of the tool beside it as the client has understood it."""
    if ECHO in tools:
        return [(ECHO, {"schema": tools[FOCAL].input_schema})]
    return [(name, dict.fromkeys(tool.input_schema.get("required", ()), "x")) for name, tool in tools.items()]


async def _use_the_rest(client: Client) -> None:
    offered = client.server_capabilities
    if offered.resources is not None:
        for resource in (await client.list_resources()).resources:
            await client.read_resource(str(resource.uri))
    if offered.prompts is not None:
        for prompt in (await client.list_prompts()).prompts:
            await client.get_prompt(prompt.name, {})


async def _decline_sampling(context: object, params: object) -> types.ErrorData:
    return types.ErrorData(code=types.INVALID_REQUEST, message="no model here")


async def _decline_elicitation(context: object, params: object) -> types.ElicitResult:
    return types.ElicitResult(action="decline")


async def _no_roots(context: object) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[])


def main(url: str) -> None:
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    asyncio.run(perform(Task.from_environment(os.environ), url, {}))


if __name__ == "__main__":
    main(sys.argv[-1])
