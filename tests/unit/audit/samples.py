"""Requests, intents and rows for audit tests."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from proxy.audit.record import Intent, Outcome, Payload, Request, Row, Scopes, Status, Subject
from proxy.ids import execution_id


def request(server: str = "notes", **changes: Any) -> Request:
    """A `tools/call` of now, allowed by a scope."""
    now = datetime.now(UTC)
    made = Request(
        execution_id=execution_id(now),
        server=server,
        started=now,
        http_method="POST",
        method="tools/call",
        tool="echo",
        subject=Subject("bearer", "https://issuer.example/", "alice", "client-1", "assistant"),
        audience=f"https://gateway.example/{server}/mcp",
        scopes=Scopes(("notes:read",), ("notes:write", "profile"), ("notes:write",)),
        session="s" * 22,
        protocol_version="2026-07-28",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        remote="127.0.0.1",
        input=Payload('{"text":"hello"}', 16, b"i" * 32),
    )
    return replace(made, **changes)


def outcome(status: Status = Status.SUCCESS, **changes: Any) -> Outcome:
    """How it ended, 1.5 ms of it upstream."""
    made = Outcome(
        status=status,
        decision="allowed",
        reason="notes:write satisfies notes:read",
        http_status=200,
        completed=datetime.now(UTC),
        duration_us=2_000,
        upstream_us=1_500,
        output=Payload('{"content":[]}', 14, b"o" * 32),
        artifact="text",
    )
    return replace(made, **changes)


def call(server: str = "notes", **changes: Any) -> tuple[Intent, Row]:
    """The intent and the row of one call."""
    asked = request(server, **changes)
    return Intent(asked), Row(asked, outcome())


def refusal(reason: str = "no token", **changes: Any) -> Row:
    """The row of a request that was not forwarded."""
    asked = request(scopes=Scopes(), input=None, **changes)
    return Row(
        asked,
        outcome(Status.DENIED, decision="auth.missing", reason=reason, http_status=401, upstream_us=None, output=None),
    )


def ids(*records: Intent | Row) -> list[UUID]:
    return [record.request.execution_id for record in records]
