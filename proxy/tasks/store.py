"""Tasks: an id of ours for each, bound to server, issuer, subject and client, kept in PostgreSQL (SPEC S2, SEC-16).

Behind one upstream identity a server cannot tell its callers apart. Its own ids stay inside; a client gets one of ours,
and another principal's or server's is answered exactly like an unknown one.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct

from proxy.execution.ends import BrokenAnswerError
from registry.database.driver import Record

Holder = tuple[str, str, str]
NOBODY: Holder = ("", "", "")

SHORTEST_S = 86_400.0
LONGEST_S = 30 * 86_400.0
_MOST_HELD = 1000
_MAX_ID_CHARS = 512


class Task(Struct, frozen=True, gc=False):
    """One task; `is_own`: it belongs to whoever asked."""

    id: str
    upstream_id: str
    tool: str
    is_own: bool


class Tasks:
    """Keeps the tasks. `run` executes a named statement; it raises `SessionStoreUnavailableError`."""

    def __init__(self, run: Callable[..., Awaitable[list[Record]]]) -> None:
        self._run = run

    async def bind(self, server: str, holder: Holder, upstream_id: str, tool: str, ttl_s: float | None) -> str:
        """Return our id of a task that the server has just given out; durable on return.

        A holder has at most a thousand per server, the oldest is forgotten first. `ttl_s` is None where the server
        keeps the task for ever.
        """
        if not _is_usable(upstream_id):
            raise BrokenAnswerError(f"a task id is a printable string of 1 to {_MAX_ID_CHARS} characters")
        kept_s = LONGEST_S if ttl_s is None else min(max(ttl_s, SHORTEST_S), LONGEST_S)
        made = secrets.token_urlsafe(24)
        rows = await self._run("bind_task", made, server, *holder, upstream_id, tool, kept_s, _MOST_HELD - 1)
        found: str = rows[0]["id"]
        return found

    async def find(self, server: str, holder: Holder, ids: Iterable[str]) -> dict[str, Task]:
        """Return what is known of tasks by our ids."""
        tasks = await self._find("find_tasks", server, holder, ids)
        return {task.id: task for task in tasks}

    async def find_upstream(self, server: str, holder: Holder, ids: Iterable[str]) -> dict[str, Task]:
        """Return what is known of tasks by the server's ids."""
        tasks = await self._find("find_upstream_tasks", server, holder, ids)
        return {task.upstream_id: task for task in tasks}

    async def _find(self, statement: str, server: str, holder: Holder, ids: Iterable[str]) -> Sequence[Task]:
        usable = [each for each in ids if _is_usable(each)]
        rows = await self._run(statement, server, *holder, usable) if usable else []
        return [Task(row["id"], row["upstream_id"], row["tool"], row["is_own"]) for row in rows]


def _is_usable(task_id: str) -> bool:
    return 0 < len(task_id) <= _MAX_ID_CHARS and task_id.isprintable()
