"""Open streams after a reload: whoever could not open one now does not keep it (SPEC I5)."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from time import time
from typing import Final

from proxy.auth.identity import Authenticated
from proxy.call import Call
from proxy.errors import Refusal
from proxy.execution.ends import CREDENTIAL_WITHDRAWN
from proxy.routes import Route
from proxy.sessions.live import Live

SETTLE_S: Final = 10.0
"""An intent is committed within this time, or its stream is refused."""
_log = logging.getLogger("postern.withdrawal")


async def end_withdrawn(
    live: Live, routes: Mapping[str, Route], reloaded: datetime, settle_s: float = SETTLE_S
) -> None:
    """End the streams from before a reload whose credential proves nothing any more, or does not suffice.

    Once more after `settle_s`: what was admitted under the old rules may have waited for its intent meanwhile.
    """
    await _look(live, routes, reloaded)
    await asyncio.sleep(settle_s)
    await _look(live, routes, reloaded)


async def _look(live: Live, routes: Mapping[str, Route], reloaded: datetime) -> None:
    """Judge every stream. There may be thousands, each verified anew: calls come in between."""
    for answering in live.streams():
        if answering.call.started > reloaded:
            continue
        await asyncio.sleep(0)
        route = routes.get(f"/{answering.call.server_name}/mcp")
        try:
            is_admitted = route is not None and await _is_admitted(route, answering.call)
        except Exception:  # noqa: BLE001  what cannot be judged ends, and the others are judged all the same
            _log.exception("stream %s cannot be judged after the reload, and ends", answering.call.execution_id)
            is_admitted = False
        if not is_admitted:
            answering.stop(CREDENTIAL_WITHDRAWN)


async def _is_admitted(route: Route, call: Call) -> bool:
    """A signature of a proxy was good for one request, so that nothing can be said of it now: its stream ends."""
    if call.era is None or (isinstance(call.identity, Authenticated) and call.identity.asserted_by is not None):
        return False
    found = await route.auth.authenticate(call.headers, time())
    return not isinstance(found, Refusal) and (
        route.policy.decide(found, call.http_method, call.envelope, call.era).allowed
    )
