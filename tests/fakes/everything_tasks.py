"""The part of the full fixture that makes tasks (2026-07-28 extension): the tools that the official scenarios name."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding, ToolBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError

Json = dict[str, Any]
TTL_MS: Final = 600_000
POLL_MS: Final = 100
COMPLETE: Final[Json] = {"resultType": "complete"}
NAME_FORM: Final[Json] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class TaskParams(types.RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


@dataclass
class Job:
    """A task: its state, and the questions that are open."""

    task_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    state: Json = field(default_factory=lambda: {"status": "working"})
    answers: Json = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    run: "asyncio.Task[None] | None" = None

    def shown(self) -> Json:
        now = datetime.now(UTC).isoformat()
        times = {"createdAt": self.created, "lastUpdatedAt": now, "ttlMs": TTL_MS, "pollIntervalMs": POLL_MS}
        return {"taskId": self.task_id, **times, **self.state}

    async def ask(self, *keys: str) -> Json:
        """Wait until every question has its answer."""
        while waiting := [key for key in keys if key not in self.answers]:
            requests = {key: _elicitation(f"May I have {key}?") for key in waiting}
            self.state = {"status": "input_required", "inputRequests": requests}
            self.answered.clear()
            await self.answered.wait()
        self.state = {"status": "working"}
        return self.answers


def _elicitation(message: str) -> Json:
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": NAME_FORM},
    }


def _said(text: str, *, is_error: bool = False) -> Json:
    return {"content": [{"type": "text", "text": text}], "isError": is_error}


Work = Callable[[Job, Json], Awaitable[Json]]


async def _slow(_job: Job, arguments: Json) -> Json:
    await asyncio.sleep(float(arguments.get("seconds", 0)))
    return _said("computed")


async def _fail(_job: Job, _arguments: Json) -> Json:
    await asyncio.sleep(0.2)
    return _said("the job failed", is_error=True)


async def _break(_job: Job, _arguments: Json) -> Json:
    raise MCPError(code=-32603, message="the job broke")


async def _confirm(job: Job, arguments: Json) -> Json:
    await job.ask("confirm")
    return _said(f"deleted {arguments.get('filename')}")


async def _two(job: Job, _arguments: Json) -> Json:
    await job.ask("first", "second")
    return _said("both answered")


async def _greet(_job: Job, arguments: Json) -> Json:
    return _said(f"Hello, {arguments['name']}!")


WORK: Final[dict[str, Work]] = {
    "slow_compute": _slow,
    "failing_job": _fail,
    "protocol_error_job": _break,
    "confirm_delete": _confirm,
    "multi_input": _two,
}
ONLY_AS_TASK: Final = frozenset({"failing_job", "test_tool_with_task"})


def greet(name: str) -> str:
    """Greet at once."""
    return f"Hello, {name}!"


def _tool(name: str) -> ToolBinding:
    def run(seconds: float = 0, label: str = "", filename: str = "") -> str:
        return f"{name} at once"

    return ToolBinding(run, kwargs={"name": name, "description": "May become a task."})


class Tasks(Extension):
    """Makes a task of each call of its tools by a client that takes tasks."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def tools(self) -> Sequence[ToolBinding]:
        return [ToolBinding(greet), *(_tool(name) for name in (*WORK, "test_tool_with_task"))]

    def methods(self) -> Sequence[MethodBinding]:
        versions = frozenset({"2026-07-28"})
        handlers = {"tasks/get": self._get, "tasks/update": self._update, "tasks/cancel": self._cancel}
        return [MethodBinding(name, TaskParams, handler, versions) for name, handler in handlers.items()]

    async def intercept_tool_call(
        self, params: types.CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        name, arguments = params.name, params.arguments or {}
        if name in ONLY_AS_TASK:
            require_client_extension(ctx, self.identifier)
        elif name not in WORK or not self._takes_tasks(ctx):
            return await call_next(ctx)
        if name != "test_tool_with_task":
            return self._begin(WORK[name], arguments)
        answer = (params.input_responses or {}).get("user_name")
        if answer is None:
            return {"resultType": "input_required", "inputRequests": {"user_name": _elicitation("Your name?")}}
        return self._begin(_greet, {"name": _content_of(answer)["name"]})

    def _takes_tasks(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        capabilities = ctx.session.client_capabilities
        return self.identifier in ((capabilities.extensions if capabilities else None) or {})

    def _begin(self, work: Work, arguments: Json) -> Json:
        job = Job()
        self._jobs[job.task_id] = job
        job.run = asyncio.create_task(_perform(job, work, arguments))
        return {**job.shown(), "resultType": "task"}

    def _find(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> Job:
        require_client_extension(ctx, self.identifier)
        if params.task_id not in self._jobs:
            raise MCPError(code=types.INVALID_PARAMS, message="Task not found")
        return self._jobs[params.task_id]

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        return {**self._find(ctx, params).shown(), **COMPLETE}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        job = self._find(ctx, params)
        job.answers |= params.input_responses or {}
        job.answered.set()
        return COMPLETE

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        job = self._find(ctx, params)
        if job.run is not None:
            job.run.cancel()
        return COMPLETE


async def _perform(job: Job, work: Work, arguments: Json) -> None:
    try:
        job.state = {"status": "completed", "result": await work(job, arguments)}
    except MCPError as error:
        job.state = {"status": "failed", "error": {"code": error.error.code, "message": error.error.message}}
    except asyncio.CancelledError:
        job.state = {"status": "cancelled"}


def _content_of(answer: Any) -> Json:
    return answer["content"] if isinstance(answer, dict) else answer.content
