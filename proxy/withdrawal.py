"""Open streams after a reload: whoever could not open one now does not keep it (SPEC I5)."""

import asyncio
import logging
from collections.abc import Mapping

from proxy.auth.identity import Authenticated
from proxy.call import Call
from proxy.errors import Refusal
from proxy.execution.ends import CREDENTIAL_WITHDRAWN
from proxy.routes import Route
from proxy.sessions.live import Live

_log = logging.getLogger("postern.withdrawal")


async def end_withdrawn(live: Live, routes: Mapping[str, Route], now: float) -> None:
    """End the streams whose credential proves nothing any more, or does not suffice; `now`: seconds since the epoch.

    There may be thousands, and each is verified anew: calls come in between. What cannot be judged ends, too.
    """
    for answering in live.streams():
        await asyncio.sleep(0)
        route = routes.get(f"/{answering.call.server_name}/mcp")
        try:
            is_admitted = route is not None and await _is_admitted(route, answering.call, now)
        except Exception:  # noqa: BLE001  one stream's defect must not keep the others open
            _log.exception("stream %s cannot be judged after the reload, and ends", answering.call.execution_id)
            is_admitted = False
        if not is_admitted:
            answering.stop(CREDENTIAL_WITHDRAWN)


async def _is_admitted(route: Route, call: Call, now: float) -> bool:
    """A signature of a proxy was good for one request, so that nothing can be said of it now: its stream ends."""
    if call.era is None or (isinstance(call.identity, Authenticated) and call.identity.asserted_by is not None):
        return False
    found = await route.auth.authenticate(call.headers, now)
    return not isinstance(found, Refusal) and (
        route.policy.decide(found, call.http_method, call.envelope, call.era).allowed
    )
