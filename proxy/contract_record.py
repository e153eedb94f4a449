"""Drift made known: a row and a log line for each thing that drifted or is as pinned again, and the table of it."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from proxy.audit.record import Outcome, Status
from proxy.call import Call
from proxy.contract_state import Contracts
from proxy.sessions import DATABASE_AWAY
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.database import queries
from registry.database.driver import Pool

METHOD = "postern/contract"
CHANNEL = "postern_contracts"
_LASTS = 3.0
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
        self._sql = queries.load("proxy", "contract_record.sql")

    async def publish(self, contracts: Contracts) -> None:
        """Write rows for what differs from the table, then the table; what is withheld does not wait for it."""
        current = entries(contracts)
        try:
            rows = await self._pool.fetch(self._sql["known"], self._instance, contracts.server)
            known = {(row["kind"], row["name"]): str(row["detail"]) for row in rows}
            for key, (change, detail, mode) in current.items():
                if known.get(key) != detail and not await self._tell(contracts.server, key, detail, mode):
                    return
                kept = (*key, change, detail, mode, self._lasts_s)
                await self._pool.execute(self._sql["keep"], self._instance, contracts.server, *kept)
            for key in known.keys() - current.keys():
                if not await self._tell(contracts.server, key, f"as pinned again: {known[key]}", None):
                    return
                await self._pool.execute(self._sql["forget"], self._instance, contracts.server, *key)
        except DATABASE_AWAY as error:
            _log.warning("drift of server %s cannot be recorded now: %s", contracts.server, error)

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
    return {
        (drift.kind, name): (drift.change, str(drift), contracts.mode(drift.kind))
        for (_, name), drift in contracts.findings().items()
    }
