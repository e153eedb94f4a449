"""Which methods exist in which era, and what each of them asks for. A method that is not here is refused. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from proxy.authorize.decision import Kind
from proxy.tasks.wire import ABOUT_ONE
from proxy.wire.era import Era
from proxy.wire.jsonrpc import EnvelopeKind

_SHARED = {
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
}
_REQUESTS = {
    Era.LEGACY: frozenset(
        {
            *_SHARED,
            *("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"),
            *("tasks/get", "tasks/result", "tasks/cancel", "tasks/list"),
        }
    ),
    Era.MODERN: frozenset(
        {*_SHARED, "server/discover", "subscriptions/listen", "tasks/get", "tasks/update", "tasks/cancel"}
    ),
}
_NOTIFICATIONS = {
    Era.LEGACY: frozenset(
        {
            "notifications/initialized",
            "notifications/cancelled",
            "notifications/progress",
            "notifications/roots/list_changed",
            "notifications/tasks/status",
        }
    ),
    # The modern era defines none over HTTP; servers acknowledge and drop these two (research/mcp.md §1.1).
    Era.MODERN: frozenset({"notifications/cancelled", "notifications/progress"}),
}
_NAMED_BY: dict[str, tuple[Kind, str]] = {
    "tools/call": ("tools", "name"),
    "prompts/get": ("prompts", "name"),
    "resources/read": ("resources", "uri"),
    "resources/subscribe": ("resources", "uri"),
    "resources/unsubscribe": ("resources", "uri"),
}
_REFERENCES: dict[object, tuple[Kind, str]] = {
    "ref/prompt": ("prompts", "name"),
    "ref/resource": ("resourceTemplates", "uri"),
}


class Target(NamedTuple):
    """One thing that a request asks for."""

    kind: Kind
    name: str


class BadParamsError(ValueError):
    """The parameters do not say what is asked for; the message says which is missing."""


def exists(method: str | None, kind: EnvelopeKind, era: Era) -> bool:
    """Whether the era knows a message of that kind with that method."""
    known = _REQUESTS if kind is EnvelopeKind.REQUEST else _NOTIFICATIONS
    return method in known[era]


def targets_of(method: str | None, params: Mapping[str, Any] | None) -> tuple[Target, ...]:
    """Return everything that a request names; empty if it names nothing. Raises `BadParamsError`."""
    given = params or {}
    if (named := _NAMED_BY.get(method or "")) is not None:
        return (_target(named, given),)
    if method == "completion/complete":
        return (_reference(given),)
    if method == "subscriptions/listen":
        return tuple(Target("resources", uri) for uri in _subscribed(given, "resourceSubscriptions"))
    return ()


def check_tasks(method: str | None, params: Mapping[str, Any] | None) -> None:
    """Raise `BadParamsError` where a request does not say which tasks it is for; whose they are is found out later."""
    if method == "subscriptions/listen":
        _subscribed(params or {}, "taskIds")
    elif method in ABOUT_ONE and not isinstance((params or {}).get("taskId"), str):
        raise BadParamsError("params.taskId must be a string")


def _target(named: tuple[Kind, str], given: Mapping[str, Any]) -> Target:
    kind, key = named
    value = given.get(key)
    if not isinstance(value, str):
        raise BadParamsError(f"params.{key} must be a string")
    return Target(kind, value)


def _reference(given: Mapping[str, Any]) -> Target:
    reference: object = given.get("ref")
    if isinstance(reference, dict):
        fields = cast("dict[str, Any]", reference)
        kind = fields.get("type")
        named = _REFERENCES.get(kind) if isinstance(kind, str) else None
        if named is not None:
            return _target(named, fields)
    raise BadParamsError("params.ref must refer to a prompt or a resource")


def _subscribed(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    wanted: object = given.get("notifications", {})
    listed: object = cast("dict[str, Any]", wanted).get(key) if isinstance(wanted, dict) else ...
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in cast("list[object]", listed)):
        raise BadParamsError(f"params.notifications.{key} must be a list of strings")
    return tuple(cast("list[str]", listed))
