"""Rules of texts and messages. Pure."""

from collections.abc import Mapping
from typing import Any

from registry.artifacts.faults import fault
from registry.artifacts.layout import is_safe_url
from registry.artifacts.tabular import is_datetime


def text_fault(text: Mapping[str, Any]) -> str | None:
    """A language is that of code."""
    if "language" in text and text.get("format") != "code":
        return fault("/language", "is there, but the format is not code")
    return None


def message_fault(message: Mapping[str, Any]) -> str | None:
    """A time has its offset, an answer answers another message, links can be opened safely."""
    if "at" in message and not is_datetime(message["at"]):
        return fault("/at", "is no RFC 3339 time with an offset")
    if "id" in message and message.get("in_reply_to") == message["id"]:
        return fault("/in_reply_to", "is the message itself")
    for index, part in enumerate(message.get("parts", [])):
        if part["type"] == "link" and not is_safe_url(part["url"]):
            return fault(f"/parts/{index}/url", "is not an http, https or mailto address")
    return None
