"""`requestState` of the 2026-07-28 protocol: a server's state on its way through a client (SEC-16).

Behind one upstream identity a server cannot tell whose state comes back. What a client gets is therefore marked with
the server and the principal that it is for; the mark is taken off before the server sees it, and without it the state
is not passed on.
"""

import base64
import hmac
import json
import secrets
from typing import Any, Final, cast

import asyncpg

from proxy import errors
from proxy.call import Call
from proxy.errors import Refusal
from proxy.tasks.binding import holder_of
from proxy.wire.era import Era
from registry.database import queries
from registry.database.driver import Pool
from registry.database.errors import MigrationError

FOREIGN = Refusal(
    "session.state", 400, errors.INVALID_PARAMS, "the requestState was not given to this caller by this server"
)
KEY_BYTES: Final = 32
_KEY_NAME: Final = "request_state"
_MARK_BYTES: Final = 24
_MARK_CHARS: Final = 32
_MEMBER: Final = "requestState"


async def load_key(pool: Pool) -> bytes:
    """Return the key that all replicas on this database share; the first of them makes it.

    Raises MigrationError where the database is older than this version.
    """
    sql = queries.load("proxy", "states.sql")
    async with pool.acquire() as connection:
        # In two statements: what another one has made meanwhile, the first of them waits for and does not see.
        try:
            await connection.execute(sql["make_key"], _KEY_NAME, secrets.token_bytes(KEY_BYTES))
        except asyncpg.UndefinedTableError as error:
            raise MigrationError("the database is older than this version of Postern: run `postern migrate`") from error
        found: bytes = await connection.fetchval(sql["find_key"], _KEY_NAME)
    return bytes(found)


class States:
    """Marks what leaves and proves what comes back. `key` has 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def receive(self, call: Call) -> Refusal | None:
        """Take the mark off the state that a request brings; refuse one that is not the caller's."""
        envelope = call.envelope
        if call.era is not Era.MODERN or envelope is None or not envelope.params or _MEMBER not in envelope.params:
            return None
        brought: object = envelope.params[_MEMBER]
        state = self._proven(call, brought) if isinstance(brought, str) else None
        if state is None:
            return FOREIGN
        call.envelope = envelope.with_params({**envelope.params, _MEMBER: state})
        return None

    def marked(self, call: Call, message: dict[str, object]) -> dict[str, object] | None:
        """Return the answer with its state marked for the caller; None where it brings none."""
        result = message.get("result")
        if call.era is not Era.MODERN or not isinstance(result, dict) or _MEMBER not in result:
            return None
        known = cast("dict[str, Any]", result)
        state: object = known[_MEMBER]
        if not isinstance(state, str):
            return None
        return {**message, "result": {**known, _MEMBER: f"{self._mark(call, state)}{state}"}}

    def _proven(self, call: Call, brought: str) -> str | None:
        mark, state = brought[:_MARK_CHARS], brought[_MARK_CHARS:]
        is_ours = hmac.compare_digest(mark.encode(errors="replace"), self._mark(call, state).encode())
        return state if is_ours else None

    def _mark(self, call: Call, state: str) -> str:
        said = json.dumps([call.server_name, *holder_of(call), state]).encode()
        return base64.urlsafe_b64encode(hmac.digest(self._key, said, "sha256")[:_MARK_BYTES]).decode()
