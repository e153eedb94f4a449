"""The trace that a request belongs to: W3C Trace Context, from the header or from `_meta` of the message. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from proxy.wire.fields import Index

TRACE_HEADER: Final = b"traceparent"
_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_MOST_CHARS: Final = 256


def trace_of_header(index: Index) -> str | None:
    """Return the trace id of the header lines' index; None where there is none, or no single valid one."""
    values = index.get(TRACE_HEADER)
    return _trace_id(values[0].decode("latin-1")) if values and len(values) == 1 else None


def trace_of_params(params: Mapping[str, Any] | None) -> str | None:
    """Return the trace id that a message names in its `_meta`."""
    meta: object = params.get("_meta") if params is not None else None
    parent = cast("Mapping[str, object]", meta).get("traceparent") if isinstance(meta, dict) else None
    return _trace_id(parent) if isinstance(parent, str) else None


def _trace_id(parent: str) -> str | None:
    found = _PARENT.fullmatch(parent) if len(parent) <= _MOST_CHARS else None
    return found[1] if found is not None else None
