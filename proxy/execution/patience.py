"""How long a GET stream waits for a server that is away, so that a restart of the server is nothing to the client."""

import asyncio
import math
from collections.abc import Callable
from time import monotonic

from proxy.sessions.events import Position
from proxy.upstream import UpstreamDisconnected, UpstreamError, UpstreamTimeout, UpstreamUnreachable

BEFORE_OPEN_S = 8.0
ONCE_OPEN_S = 60.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 1.0
_CONFLICT_S = 0.2
_MOST_CONFLICTS = 10


class Patience:
    """Counts from the first failure; a connection that held for a while starts it anew. `clock` is any steady one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failing_since = self._last_failure = -math.inf
        self._delay_s = _FIRST_DELAY_S
        self._conflicts = 0

    async def wait(self, error: UpstreamError, *, is_open: bool) -> None:
        """Wait until it is worth to connect again; raise the error where that would take too long or cannot help."""
        now = self._clock()
        if now - self._last_failure > ONCE_OPEN_S:
            self._failing_since, self._delay_s = now, _FIRST_DELAY_S
        limit_s = ONCE_OPEN_S if is_open else BEFORE_OPEN_S
        if not is_away(error) or now - self._failing_since > limit_s:
            raise error
        await asyncio.sleep(self._delay_s)
        self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)
        self._last_failure = self._clock()

    async def waits_for_old_connection(self, resumed: Position | None) -> bool:
        """Whether to ask again: the server holds a resumed stream's old connection until another replica lets go."""
        if resumed is None or self._conflicts == _MOST_CONFLICTS:
            return False
        self._conflicts += 1
        await asyncio.sleep(_CONFLICT_S)
        return True


def is_away(error: UpstreamError) -> bool:
    """Whether the server may be back in a moment."""
    is_slow_to_connect = isinstance(error, UpstreamTimeout) and error.phase == "connect"
    return is_slow_to_connect or isinstance(error, UpstreamUnreachable | UpstreamDisconnected)
