"""Ships with Postern, as an example of a hook with a memory: so many calls in so many seconds.

    hooks:
      - name: few-deletes
        event: PreToolUse
        python: "proxy.hooks.rate:Rate"
        tools: ["delete_*"]
        settings: { calls: 5, per_s: 60, by: [caller, tool] }

Counts in this worker only; limits that must hold across workers and replicas belong behind a webhook with a store.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from proxy.hooks.api import Answer, HookEvent, Refuse

_REMEMBERED = 10_000
_PARTS: Mapping[str, Callable[[HookEvent], str]] = {
    "caller": lambda event: f"{event.caller.issuer} {event.caller.subject} {event.caller.client}",
    "agent": lambda event: event.caller.agent,
    "server": lambda event: event.server,
    "tool": lambda event: event.tool,
}


class Rate:
    """The hook; remembers the moments of the last calls of each key, a moment for each allowed call."""

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float] = monotonic) -> None:
        self._calls, self._per_s = settings.get("calls"), settings.get("per_s", 60)
        self._by = settings.get("by", ["caller", "tool"])
        is_sound = isinstance(self._calls, int) and self._calls > 0 and isinstance(self._per_s, int | float)
        if not is_sound or self._per_s <= 0 or not set(self._by) <= set(_PARTS):
            raise ValueError(f"settings are `calls` (at least 1), `per_s` and `by` (of {', '.join(_PARTS)})")
        self._clock = clock
        self._moments: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    async def __call__(self, event: HookEvent) -> Answer:
        """Count the call, or refuse it."""
        key = tuple(_PARTS[part](event) for part in self._by)
        now = self._clock()
        moments = self._moments.setdefault(key, deque(maxlen=self._calls))
        self._moments.move_to_end(key)
        if len(self._moments) > _REMEMBERED:
            self._moments.popitem(last=False)
        while moments and moments[0] <= now - self._per_s:
            moments.popleft()
        if len(moments) == self._calls:
            wait = max(1, math.ceil(moments[0] + self._per_s - now))
            return Refuse(f"more than {self._calls} calls in {self._per_s:g} s; again in {wait} s", wait)
        moments.append(now)
        return None
