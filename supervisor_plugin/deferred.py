"""Requests that supervisord hands to the listener, and the answers that its XML-RPC callers wait for."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from supervisor_plugin.supervisord import NOT_DONE_YET, Faults, Options, RPCError, send_remote_event

FORGET_AFTER_S = 3600.0
POLL_S = 0.25


@dataclass(slots=True)
class Pending:
    """One request: the listener that got it, when, and its answer once there is one."""

    listener_pid: int
    asked_at: float
    answer: dict[str, Any] | None = None


class Requests:
    """Open requests by number. Every answer and every failure removes its entry."""

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, Pending] = {}

    def send(self, op: str, arguments: dict[str, Any], listener_pid: int) -> int:
        """Tell the listener, as an event, what to do; return the number under which it will answer."""
        self._last += 1
        self._open[self._last] = Pending(listener_pid, time.monotonic())
        # An event that this listener does not take is given to its successor, whose business it is not: see `wait`.
        request = {"id": self._last, "to": listener_pid, "op": op, **arguments}
        # The event protocol counts characters but sends bytes: ASCII makes both the same.
        send_remote_event("postern", json.dumps(request, ensure_ascii=True))
        return self._last

    def complete(self, number: int, answer: dict[str, Any]) -> None:
        """Keep the listener's answer for the caller, if one still waits."""
        pending = self._open.get(number)
        if pending is not None:
            pending.answer = answer

    def prune(self) -> None:
        """Forget requests whose caller went away before the answer came."""
        limit = time.monotonic() - FORGET_AFTER_S
        for number in [n for n, pending in self._open.items() if pending.asked_at < limit]:
            del self._open[number]

    def _take(self, number: int, listener_pid: int, fault: int) -> object:
        pending = self._open[number]
        if pending.answer is not None:
            del self._open[number]
            if pending.answer["ok"]:
                return json.dumps(pending.answer, ensure_ascii=True)
            raise RPCError(fault, pending.answer["message"])
        if pending.listener_pid != listener_pid:
            del self._open[number]
            raise RPCError(fault, "the fleet listener was restarted meanwhile; look at `fleet status` and ask again")
        return NOT_DONE_YET

    def wait(self, number: int, listener_pid: Callable[[], int], fault: int = Faults.FAILED) -> Callable[[], object]:
        """Make the deferred result: supervisord calls it until it returns something or raises."""

        def poll() -> object:  # supervisord accepts only a plain function that carries `delay`
            return self._take(number, listener_pid(), fault)

        function = cast("Any", poll)
        function.delay, function.rpcinterface = POLL_S, None
        return poll


def wake_waiting_callers(options: Options) -> None:
    """Make supervisord look at deferred answers now; otherwise it does when its idle poll happens to return."""
    for member in options.get_socket_map().values():
        channel = cast("Any", member)
        if getattr(channel, "delay", 0):
            channel.last_writable_check = 0
