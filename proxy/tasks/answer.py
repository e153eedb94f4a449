"""A server's message and the tasks in it: the client gets ids of ours, and nothing of another principal's tasks."""

from collections.abc import Iterable
from typing import NamedTuple, cast

from proxy.call import Call
from proxy.execution.ends import BrokenAnswerError
from proxy.tasks.binding import holder_of
from proxy.tasks.store import Task, Tasks
from proxy.tasks.wire import (
    ABOUT_ONE,
    STATUS_NOTIFICATIONS,
    Json,
    created_in,
    lifetime_of,
    listened_in,
    object_in,
    related_to,
    text_in,
    with_listened,
    with_related,
)
from proxy.wire.era import Era


class Told(NamedTuple):
    """A message for the client, None if it is not for this one; `tool` is what the task runs whose state it tells."""

    message: dict[str, object] | None = None
    tool: str | None = None


def brings_tasks(call: Call, message: dict[str, object]) -> bool:
    """Whether there may be task ids in an answer."""
    result: object = message.get("result")
    if not isinstance(result, dict) or call.method == "initialize":
        return False
    known = cast("Json", result)
    if call.is_tool_call:
        return created_in(known, call.era) is not None or ("_meta" in known and related_to(known) is not None)
    return call.method in ABOUT_ONE or call.method == "tasks/list" or related_to(known) is not None


async def own_answer(call: Call, message: dict[str, object], tasks: Tasks) -> dict[str, object]:
    """Return an answer with our task ids in it: the same object where there is none. A new task is durable by then."""
    result: object = message.get("result")
    if not isinstance(result, dict):
        return message
    was = cast("Json", result)
    match call.method:
        case "tools/call":
            own = await _bound(call, was, tasks)
        case "tasks/list":
            own = await _listed(call, was, tasks)
        case _:
            own = await _renamed(call, was, tasks)
    own = await _related(call, own, tasks)
    return message if own is was else {**message, "result": own}


async def own_message(call: Call, message: dict[str, object], tasks: Tasks) -> Told:
    """Return a server's request or notification that names tasks with our ids in it."""
    params = object_in(message, "params")
    method = message.get("method")
    if method in STATUS_NOTIFICATIONS:
        task_id = text_in(params, "taskId") or ""
        task = (await _own(call, (task_id,), tasks)).get(task_id)
        return Told({**message, "params": {**params, "taskId": task.id}}, task.tool) if task is not None else Told()
    if listened := listened_in(params):
        own = await _own(call, listened, tasks)
        return Told({**message, "params": with_listened(params, [own[each].id for each in listened if each in own])})
    return Told({**message, "params": await _related(call, params, tasks)})


async def _bound(call: Call, result: Json, tasks: Tasks) -> Json:
    """The server has made a task of a call: from now on it is this caller's."""
    task = created_in(result, call.era)
    if task is None:
        return result
    upstream_id = cast("str", task["taskId"])
    own_id = await tasks.bind(call.server_name, holder_of(call), upstream_id, call.target or "", lifetime_of(task))
    own = {**task, "taskId": own_id}
    return own if call.era is Era.MODERN else {**result, "task": own}


async def _listed(call: Call, result: Json, tasks: Tasks) -> Json:
    """Leave the caller's own tasks; one that nothing tells from others has none."""
    items: object = result.get("tasks")
    listed = cast("list[object]", items) if isinstance(items, list) else []
    found = [cast("Json", each) for each in listed if isinstance(each, dict)]
    named = [(text_in(each, "taskId") or "", each) for each in found]
    own = await _own(call, (task_id for task_id, _ in named), tasks) if any(holder_of(call)) else {}
    return {**result, "tasks": [{**each, "taskId": own[task_id].id} for task_id, each in named if task_id in own]}


async def _renamed(call: Call, result: Json, tasks: Tasks) -> Json:
    """The task that was asked for, under the id that was asked for."""
    upstream_id = text_in(result, "taskId") if call.method in ABOUT_ONE else None
    if upstream_id is None:
        return result
    asked = call.task or (await _own(call, (upstream_id,), tasks)).get(upstream_id)
    if asked is None or asked.upstream_id != upstream_id:
        raise BrokenAnswerError("the server answered with another task than it was asked for")
    return {**result, "taskId": asked.id}


async def _related(call: Call, carrier: Json, tasks: Tasks) -> Json:
    """The client's own tasks, which a server may speak of too, are bound to nobody and keep their ids."""
    related = related_to(carrier)
    if related is None:
        return carrier
    if call.task is not None and related == call.task.upstream_id:
        return with_related(carrier, call.task.id)
    task = (await tasks.find_upstream(call.server_name, holder_of(call), (related,))).get(related)
    if task is None:
        return carrier
    return with_related(carrier, task.id if task.is_own else None)


async def _own(call: Call, upstream_ids: Iterable[str], tasks: Tasks) -> dict[str, Task]:
    found = await tasks.find_upstream(call.server_name, holder_of(call), upstream_ids)
    return {upstream_id: task for upstream_id, task in found.items() if task.is_own}
