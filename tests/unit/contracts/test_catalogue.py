"""Asking a server for everything it offers, in either era, whatever it answers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from registry.contracts.catalogue import LEGACY, MODERN, CatalogueError, Reply, read_catalogue

TOOLS = [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(5)]


class Scripted:
    """A transport that answers from a table; `eras` are those that it speaks."""

    def __init__(self, *eras: str, **results: Any) -> None:
        self.eras, self.results = eras, results
        self.sent: list[tuple[str, Mapping[str, str], Any]] = []

    async def send(self, verb: str, headers: Mapping[str, str], message: Mapping[str, Any] | None) -> Reply:
        self.sent.append((verb, headers, message))
        if message is None or "id" not in message:
            return Reply(202)
        answer = self.answer(message["method"], message["params"], headers)
        status, session = (200, "s1") if message["method"] == "initialize" else (200, None)
        return Reply(status, {"jsonrpc": "2.0", "id": message["id"], **answer}, session)

    def answer(self, method: str, params: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        greeting = {"capabilities": self.results.get("capabilities", {"tools": {}}), "instructions": "Hi"}
        if method == "server/discover":
            return {"result": {**greeting, "supportedVersions": [MODERN]}} if MODERN in self.eras else _unknown()
        if method == "initialize":
            return {"result": {**greeting, "protocolVersion": LEGACY, "serverInfo": {"name": "n", "version": "2"}}}
        given = self.results.get(method.replace("/", "_"))
        if callable(given):
            given = given(params)
        return {"result": given} if given is not None else _unknown()


def _unknown() -> dict[str, Any]:
    return {"error": {"code": -32601, "message": "Method not found"}}


def pages(params: Mapping[str, Any]) -> dict[str, Any]:
    start = int(params.get("cursor") or 0)
    following = {"nextCursor": str(start + 2)} if start + 2 < len(TOOLS) else {}
    return {"tools": TOOLS[start : start + 2], **following}


async def test_modern_server_is_asked_without_a_session() -> None:
    transport = Scripted(MODERN, LEGACY, tools_list=pages)
    found = await read_catalogue(transport)
    assert list(found.of("tools")) == [tool["name"] for tool in TOOLS]
    assert (found.protocol, found.instructions) == (MODERN, "Hi")
    assert all(verb == "POST" for verb, *_ in transport.sent)
    _, headers, message = transport.sent[-1]
    assert headers == {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    assert message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == MODERN


async def test_legacy_server_is_asked_in_a_session_that_is_ended() -> None:
    transport = Scripted(LEGACY, tools_list=pages)
    found = await read_catalogue(transport)
    assert (len(found.of("tools")), found.protocol, found.server) == (5, LEGACY, "n 2")
    verb, headers, _ = transport.sent[-1]
    assert (verb, headers["mcp-session-id"]) == ("DELETE", "s1")


async def test_server_without_prompts_and_resources_offers_none() -> None:
    found = await read_catalogue(Scripted(MODERN, tools_list={"tools": []}, capabilities={"tools": {}, "prompts": {}}))
    assert (found.of("tools"), found.of("prompts"), found.of("resources")) == ({}, {}, {})


async def test_tool_listed_twice_is_told() -> None:
    found = await read_catalogue(Scripted(MODERN, tools_list={"tools": [TOOLS[0], TOOLS[0]]}))
    assert found.duplicates == ("t0",)


@pytest.mark.parametrize(
    "result",
    [{}, {"tools": 7}, {"tools": [7]}, {"tools": [{"name": 7}]}, lambda _: {"tools": [], "nextCursor": "again"},
     lambda p: {"tools": [{"name": f"{p.get('cursor')}{n}"} for n in range(900)], "nextCursor": f"{p.get('cursor')}x"}],
    ids=["nothing", "no list", "no object", "no name", "endless", "too many"],
)  # fmt: skip
async def test_server_that_does_not_say_what_it_offers_is_an_error(result) -> None:
    with pytest.raises(CatalogueError):
        await read_catalogue(Scripted(MODERN, tools_list=result))


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_server_that_refuses_us_is_not_asked_in_the_other_era(status) -> None:
    class Refusing(Scripted):
        async def send(self, verb: str, headers: Mapping[str, str], message: Mapping[str, Any] | None) -> Reply:
            await super().send(verb, headers, message)
            return Reply(status)

    transport = Refusing(MODERN)
    with pytest.raises(CatalogueError, match=str(status)):
        await read_catalogue(transport)
    assert len(transport.sent) == 1


async def test_version_that_the_server_names_is_taken() -> None:
    class Later(Scripted):
        def answer(self, method: str, params: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
            if headers.get("mcp-protocol-version") == "2027-01-01":
                return super().answer(method, params, headers)
            return {"error": {"code": -32022, "message": "no", "data": {"supported": ["2027-01-01", "2025-11-25"]}}}

    assert (await read_catalogue(Later(MODERN, tools_list=pages))).protocol == "2027-01-01"


async def test_server_cannot_fill_the_memory_page_by_page() -> None:
    class Large(Scripted):
        async def send(self, verb: str, headers: Mapping[str, str], message: Mapping[str, Any] | None) -> Reply:
            return replace(await super().send(verb, headers, message), size=5_000_000)

    with pytest.raises(CatalogueError, match="bytes of definitions"):
        await read_catalogue(Large(MODERN, tools_list=lambda _: {"tools": [], "nextCursor": "again"}))


@pytest.mark.parametrize("supported", [7, "2027-01-01", {"2027-01-01": 1}, [7, None], None])
async def test_server_that_names_its_versions_strangely_is_asked_in_the_older_way(supported) -> None:
    class Odd(Scripted):
        def answer(self, method: str, params: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
            if method == "server/discover":
                return {"error": {"code": -32022, "message": "no", "data": {"supported": supported}}}
            return super().answer(method, params, headers)

    assert (await read_catalogue(Odd(LEGACY, tools_list={"tools": TOOLS}))).protocol == LEGACY
