"""Where task ids stand in messages: of the protocol of 2025-11-25, and of the extension to that of 2026-07-28.

Pure. The two differ: a task is `result.task` there and the result itself here, `ttl` is `ttlMs`, and only there does a
message name the task that it is about in its `_meta`.
"""

from typing import Any, cast

from proxy.wire.era import CAPABILITIES_KEY, Era
from proxy.wire.jsonrpc import Envelope

Json = dict[str, Any]

EXTENSION = "io.modelcontextprotocol/tasks"
RELATED_KEY = "io.modelcontextprotocol/related-task"
ABOUT_ONE = frozenset({"tasks/get", "tasks/result", "tasks/update", "tasks/cancel"})
ACTS_ON_ONE = frozenset({"tasks/update", "tasks/cancel"})
STATUS_NOTIFICATIONS = frozenset({"notifications/tasks", "notifications/tasks/status"})
WITH_RESULT = frozenset({"tasks/get", "notifications/tasks"})
"""What may bring the result of a task as a member, `result`."""
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


def object_in(value: object, key: str) -> Json:
    """Return a member that is an object; an empty one where it is not."""
    found: object = cast("Json", value).get(key) if isinstance(value, dict) else None
    return cast("Json", found) if isinstance(found, dict) else {}


def text_in(value: Json, key: str) -> str | None:
    """Return a member that is a string."""
    found: object = value.get(key)
    return found if isinstance(found, str) else None


def related_to(carrier: object) -> str | None:
    """Return the task that parameters or a result say they are about."""
    return text_in(object_in(object_in(carrier, "_meta"), RELATED_KEY), "taskId")


def with_related(carrier: Json, task_id: str | None) -> Json:
    """Return parameters or a result that are about another task, or about none."""
    meta: Json = {key: value for key, value in object_in(carrier, "_meta").items() if key != RELATED_KEY}
    if task_id is not None:
        meta[RELATED_KEY] = {**object_in(object_in(carrier, "_meta"), RELATED_KEY), "taskId": task_id}
    return {**carrier, "_meta": meta}


def created_in(result: Json, era: Era | None) -> Json | None:
    """Return the task that a server has made of a tools/call."""
    is_task = result.get("resultType") == "task" if era is Era.MODERN else "content" not in result
    if not is_task:
        return None
    task = result if era is Era.MODERN else object_in(result, "task")
    return task if text_in(task, "taskId") is not None else None


def lifetime_of(task: Json) -> float | None:
    """Return for how many seconds the server keeps a task; None for ever, or where it does not say."""
    for key in ("ttlMs", "ttl"):
        found: object = task.get(key)
        if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0:
            return found / 1000
    return None


def takes_tasks(envelope: Envelope) -> bool:
    """Whether a 2026-07-28 client has declared the extension with this very request."""
    capabilities = object_in(object_in(envelope.params, "_meta"), CAPABILITIES_KEY)
    return isinstance(object_in(capabilities, "extensions").get(EXTENSION), dict)


def listened_in(carrier: object) -> list[str]:
    """Return the tasks that a subscription, or its acknowledgement, names."""
    found: object = object_in(carrier, "notifications").get("taskIds")
    return [each for each in cast("list[object]", found) if isinstance(each, str)] if isinstance(found, list) else []


def with_listened(carrier: Json, task_ids: list[str]) -> Json:
    """Return a subscription to other tasks."""
    return {**carrier, "notifications": {**object_in(carrier, "notifications"), "taskIds": task_ids}}


def names_tasks(message: Json) -> bool:
    """Whether a server's request or notification has a task id in it."""
    method: object = message.get("method")
    if method in STATUS_NOTIFICATIONS:
        return True
    params: object = message.get("params")
    return related_to(params) is not None or (method == ACKNOWLEDGED and bool(listened_in(params)))


def last_word(method: str | None, message: dict[str, object]) -> dict[str, object]:
    """Return what a task has come to as if its call had been answered so; where it has not, the message itself."""
    if method not in WITH_RESULT:
        return message
    task = object_in(message, "result")
    ended = next((key for key in ("error", "result") if isinstance(task.get(key), dict)), None)
    return {"jsonrpc": "2.0", "id": message.get("id"), ended: task[ended]} if ended is not None else message
