"""Drift made known: a row and a log line for each thing that drifted or is as pinned again, and the table of it."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice

from proxy.audit.record import Outcome, Status
from proxy.call import Call
from proxy.guard.contracts import Contracts
from proxy.sessions.store import DATABASE_AWAY
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.contracts.canonical import digest
from registry.database import queries
from registry.database.driver import Pool
from registry.problems import printable

METHOD = "postern/contract"
CHANNEL = "postern_contracts"
_LASTS = 3.0
_MOST_TOLD = 100
"""A server that lists thousands of strange things makes a hundred rows and a number, not thousands of rows."""
_NAME_CHARS, _SENTENCE_CHARS = 200, 2_000
_log = logging.getLogger("postern.contracts")

Record = Callable[[Call, Outcome], Awaitable[bool]]
Entry = tuple[str, str, str]


class DriftLedger:
    """Writes what is new; `recheck_s` says for how long a finding counts if nobody renews it."""

    def __init__(self, pool: Pool, instance: str, record: Record, recheck_s: float) -> None:
        self._pool = pool
        self._instance = instance
        self._record = record
        self._lasts_s = recheck_s * _LASTS
        self._sql = queries.load("proxy.guard", "drift_record.sql")

    async def publish(self, contracts: Contracts) -> bool:
        """Write rows for what differs from the table, then the table; what is withheld does not wait for it.

        Returns whether all of it is recorded.
        """
        current = entries(contracts)
        try:
            rows = await self._pool.fetch(self._sql["known"], self._instance, contracts.server)
            known = {(row["kind"], row["name"]): str(row["detail"]) for row in rows}
            for key, (change, detail, mode) in current.items():
                if known.get(key) != detail and not await self._tell(contracts.server, key, detail, mode):
                    return False
                kept = (*key, change, detail, mode, self._lasts_s)
                await self._pool.execute(self._sql["keep"], self._instance, contracts.server, *kept)
            for key in known.keys() - current.keys():
                if not await self._tell(contracts.server, key, f"as pinned again: {known[key]}", None):
                    return False
                await self._pool.execute(self._sql["forget"], self._instance, contracts.server, *key)
        except DATABASE_AWAY as error:
            _log.warning("drift of server %s cannot be recorded now: %s", contracts.server, error)
            return False
        return True

    async def _tell(self, server: str, key: tuple[str, str], detail: str, mode: str | None) -> bool:
        """Write the audit row of one finding, or of its end."""
        call = Call.arrive(server, "POST", (), "proxy")
        call.take(Envelope(EnvelopeKind.NOTIFICATION, None, METHOD, {"name": key[1] or key[0]}, {}))
        status = Status.DENIED if mode == "strict" else Status.SUCCESS
        code = "contract.restored" if mode is None else "contract.drift"
        _log.log(logging.INFO if mode is None else logging.WARNING, "server %s: %s: %s", server, code, detail)
        error = None if mode is None else detail
        return await self._record(call, call.outcome(status, code, detail, 200, error=error))


def entries(contracts: Contracts) -> Mapping[tuple[str, str], Entry]:
    """Return change, sentence and mode of everything that is to be known now."""
    if not contracts.is_locked and contracts.is_strict:
        reason = contracts.why_withheld("tools", "") or contracts.why_withheld("resources", "") or ""
        return {("lock", ""): ("unlocked", reason, "strict")}
    found = contracts.findings()
    told = {
        (drift.kind, _key(name)): (drift.change, str(drift)[:_SENTENCE_CHARS], contracts.mode(drift.kind))
        for (_, name), drift in islice(found.items(), _MOST_TOLD)
    }
    if len(found) > _MOST_TOLD:
        told["lock", "more"] = (
            "more",
            f"{len(found) - _MOST_TOLD} more things are not as pinned",
            _strictest(contracts),
        )
    return told


def _key(name: str) -> str:
    """Return a server's name for a thing as a database and a log can hold it: short, and without control characters."""
    return printable(name) if len(name) <= _NAME_CHARS else f"{printable(name[:_NAME_CHARS])}… ({digest(name)[7:19]})"


def _strictest(contracts: Contracts) -> str:
    return "strict" if contracts.is_strict else "warn"
