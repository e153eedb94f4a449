"""Hooks that are Python: found by name, run so that one that hangs holds up nobody but its own call.

A class is made once with its settings, and the instance called. A coroutine function runs in the event loop; a plain
function in a thread of its own, of which each hook has a few: threads that hang are never waited for, not even at exit.
"""

import asyncio
import contextlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from proxy.hooks.api import HookEvent
from proxy.hooks.errors import HookConfigError, HookRaisedError

THREADS = 8
AsyncHook = Callable[[HookEvent], Awaitable[object]]


def load_hook(name: str, target: str, base: Path, settings: Mapping[str, Any]) -> AsyncHook:
    """Return what `package.module:attribute` or `file.py:attribute` (relative to `base`) names, ready to be awaited."""
    module, _, attribute = target.rpartition(":")
    try:
        found: Any = getattr(_import(module, base), attribute)
        if inspect.isclass(found):
            found = cast("Callable[[Mapping[str, Any]], object]", found)(settings)
    except (Exception, SystemExit) as error:  # a hook's module may raise anything, and call sys.exit
        raise HookConfigError(f"hook {name}: {target} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise HookConfigError(f"hook {name}: {target} is not callable")
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(getattr(found, "__call__", None)):  # noqa: B004
        return _contained(cast("AsyncHook", found))
    return _Threads(name, cast("Callable[[HookEvent], object]", found))


def _import(module: str, base: Path) -> ModuleType:
    if not module.endswith(".py"):
        return import_module(module)
    path = base / module
    spec = importlib.util.spec_from_file_location(f"postern_hook_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def _contained(hook: AsyncHook) -> AsyncHook:
    """Let the two exceptions that end an event loop, and every other call with it, end this call only."""

    async def ask(event: HookEvent) -> object:
        try:
            return await hook(event)
        except (SystemExit, KeyboardInterrupt) as error:
            raise HookRaisedError(error) from error

    return ask


class _Threads:
    """Runs a plain function in daemon threads, at most `THREADS` at once; further calls wait for their time limit."""

    def __init__(self, name: str, function: Callable[[HookEvent], object]) -> None:
        self._name = name
        self._function = function
        self._free = asyncio.Semaphore(THREADS)

    async def __call__(self, event: HookEvent) -> object:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        try:
            threading.Thread(target=self._run, args=(event, loop, done), name=f"hook {self._name}", daemon=True).start()
        except RuntimeError:  # the system has no thread left: this call fails, and its place is free again
            self._free.release()
            raise
        return await done

    def _run(self, event: HookEvent, loop: asyncio.AbstractEventLoop, done: "asyncio.Future[object]") -> None:
        answer: object = None
        failure: BaseException | None = None
        try:
            answer = self._function(event)
        except BaseException as error:  # noqa: BLE001 -- whatever it raises, SystemExit too, ends this call only
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._settle, done, answer, failure)

    def _settle(self, done: "asyncio.Future[object]", answer: object, failure: BaseException | None) -> None:
        self._free.release()
        if done.done():
            return
        if failure is None:
            done.set_result(answer)
        else:
            done.set_exception(HookRaisedError(failure))
