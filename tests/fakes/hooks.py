"""Hooks for tests, some of which do what hooks must not."""

import asyncio
import threading
import time

from proxy.hooks import Answer, HookEvent, Refuse, Replace, Rewrite


async def allow(_event: HookEvent) -> Answer:
    return None


async def refuse(event: HookEvent) -> Answer:
    return Refuse(f"{event.caller.subject} must not call {event.tool}")


async def slow_down(_event: HookEvent) -> Answer:
    return Refuse("too fast", 7)


def first(event: HookEvent) -> Answer:
    """Rewrite the id to 1; a plain function."""
    return Rewrite({**event.arguments, "id": 1})


async def double(event: HookEvent) -> Answer:
    return Rewrite({**event.arguments, "id": event.arguments["id"] * 2})


async def break_arguments(_event: HookEvent) -> Answer:
    return Rewrite({"id": "no number"})


async def change_in_place(event: HookEvent) -> Answer:
    event.arguments["id"] = 99
    return None


async def replace(event: HookEvent) -> Answer:
    result = event.result or {}
    return Replace({**result, "structuredContent": {"id": 1, "text": "[hidden]"}, "content": []})


async def answer_anew(_event: HookEvent) -> Answer:
    return Replace({"content": [], "structuredContent": {"id": 1, "text": "[new]"}})


async def break_result(event: HookEvent) -> Answer:
    return Replace({**(event.result or {}), "structuredContent": {"id": "no number"}})


async def withhold(_event: HookEvent) -> Answer:
    return Refuse("not for you")


async def raise_error(_event: HookEvent) -> Answer:
    raise RuntimeError("the secret is 4711")


def exit_process(_event: HookEvent) -> Answer:
    raise SystemExit(9)


async def exit_loop(_event: HookEvent) -> Answer:
    raise SystemExit(9)


async def interrupt_loop(_event: HookEvent) -> Answer:
    raise KeyboardInterrupt


def stop_iterating(_event: HookEvent) -> Answer:
    raise StopIteration(4711)


def take_too_much(_event: HookEvent, _surprise: int) -> Answer:
    return None


async def cancel_itself(_event: HookEvent) -> Answer:
    raise asyncio.CancelledError


async def nonsense(_event: HookEvent) -> object:
    return {"decision": "allow"}


async def unencodable(event: HookEvent) -> object:
    return Rewrite({**event.arguments, "id": object()})


async def not_a_number(event: HookEvent) -> object:
    return Rewrite({**event.arguments, "id": [float("nan")]})


async def no_text(_event: HookEvent) -> object:
    return Refuse("\ud800")


async def no_time(_event: HookEvent) -> object:
    return Refuse("later", "soon")  # pyright: ignore[reportArgumentType]


async def loose_types(event: HookEvent) -> object:
    """Answer what is not JSON, and has one obvious form in it."""
    return Rewrite({**event.arguments, 7: (1, 2)})  # pyright: ignore[reportArgumentType]


async def hang(_event: HookEvent) -> Answer:
    await asyncio.sleep(3600)
    return None


async def hang_stubbornly(_event: HookEvent) -> Answer:
    """Refuse to be cancelled, for two seconds."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
    return None


def hang_in_a_thread(_event: HookEvent) -> Answer:
    threading.Event().wait(3600)
    return None


class Configured:
    """A hook with settings of its own."""

    def __init__(self, settings: dict) -> None:
        self._forbidden = settings["forbidden"]

    async def __call__(self, event: HookEvent) -> Answer:
        return Refuse("configured") if event.tool == self._forbidden else None


class Misconfigured:
    def __init__(self, settings: dict) -> None:
        raise ValueError("nothing is right")


NOT_CALLABLE = 7
