"""What a server's message says about the outcome of a request. Pure."""

from typing import Any, cast

from msgspec import Struct

from proxy.audit.record import Status


class Verdict(Struct, frozen=True, gc=False):
    """Status of the row, and the error's whole text where there is one, as the server wrote it."""

    status: Status
    error: str | None = None


_SUCCESS = Verdict(Status.SUCCESS)


def judge(message: dict[str, object] | None, http_status: int) -> Verdict:
    """Judge the final JSON-RPC message, or the bare HTTP status where there is none."""
    if message is None:
        return _SUCCESS if http_status < 400 else Verdict(Status.FAILED, f"HTTP {http_status}")
    error = message.get("error")
    if isinstance(error, dict):
        return Verdict(Status.FAILED, _error_text(cast("dict[str, Any]", error)))
    result = message.get("result")
    if not isinstance(result, dict):
        return Verdict(Status.FAILED, "the result is not an object")
    fields = cast("dict[str, Any]", result)
    if fields.get("isError") is True:
        return Verdict(Status.TOOL_ERROR, _tool_error_text(fields))
    return _SUCCESS


def _error_text(error: dict[str, Any]) -> str:
    return f"{error.get('code')}: {error.get('message')}"


def _tool_error_text(result: dict[str, Any]) -> str | None:
    content: object = result.get("content")
    for item in cast("list[object]", content) if isinstance(content, list) else ():
        text: object = cast("dict[str, Any]", item).get("text") if isinstance(item, dict) else None
        if isinstance(text, str):
            return text
    return None
