"""Which tools of a child want arguments mirrored in headers, as the child itself lists them."""

import asyncio
from typing import Final, cast

from proxy.bridge.frames import JsonObject
from proxy.bridge.link import Link, ask
from proxy.wire.params import ParamHeader, declared_params

_FRESH_S: Final = 60.0
_UNKNOWN_TOOL_PAUSE_S: Final = 5.0
_ASK_S: Final = 10.0
_MAX_PAGES: Final = 100


class Catalogue:
    """Asked once a minute at most, and sooner for a tool that it does not know yet.

    A child that cannot list its tools has none to mirror: the check is skipped, never the call.
    """

    def __init__(self) -> None:
        self._tools: dict[str, tuple[ParamHeader, ...]] = {}
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def declared(self, link: Link, tool: str, meta: JsonObject) -> tuple[ParamHeader, ...]:
        """The arguments of a tool that must be mirrored in headers."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            age_s = now - self._asked_at
            if age_s > _FRESH_S or (tool not in self._tools and age_s > _UNKNOWN_TOOL_PAUSE_S):
                self._asked_at = now
                self._tools = await _list_tools(link, meta)
        return self._tools.get(tool, ())


async def _list_tools(link: Link, meta: JsonObject) -> dict[str, tuple[ParamHeader, ...]]:
    own_meta = {key: value for key, value in meta.items() if key != "progressToken"}
    tools: dict[str, tuple[ParamHeader, ...]] = {}
    params: JsonObject = {"_meta": own_meta}
    for _ in range(_MAX_PAGES):
        request: JsonObject = {"jsonrpc": "2.0", "id": "catalogue", "method": "tools/list", "params": params}
        answer = await ask(link, request, _ASK_S)
        result: object = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict):
            break
        page = cast("JsonObject", result)
        for tool in _tools_of(page):
            tools[cast("str", tool["name"])] = declared_params(tool.get("inputSchema"))
        cursor: object = page.get("nextCursor")
        if not isinstance(cursor, str):
            break
        params = {"_meta": own_meta, "cursor": cursor}
    return tools


def _tools_of(page: JsonObject) -> list[JsonObject]:
    listed: object = page.get("tools")
    entries = cast("list[object]", listed) if isinstance(listed, list) else []
    tools = [cast("JsonObject", entry) for entry in entries if isinstance(entry, dict)]
    return [tool for tool in tools if isinstance(tool.get("name"), str)]
