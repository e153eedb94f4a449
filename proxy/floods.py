"""A flood of refusals from one source costs few rows, and still no answer leaves before its row (SPEC A7).

Up to the limit each refusal has a row of its own. Beyond it refusals of the same source, server and code are held for a
moment, recorded together as one row with a count and its time span, and then answered with 429. A request whose client
left before it was whole counts like a refusal. A source is an address, or the /64 network of an IPv6 address, which is
what one customer of a provider has.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv6Address, IPv6Network
from uuid import UUID

from msgspec.structs import replace

from proxy import errors
from proxy.audit.record import Outcome, Status
from proxy.call import Call
from proxy.errors import Refusal

HOLD_S = 1.0
_SOURCES = 10_000

Source = tuple[str, str]
Commit = Callable[[Call, Outcome], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Told:
    """What the shared row says of each request in it: refused, if nothing else is said."""

    code: str
    reason: str
    status: Status = Status.DENIED
    http_status: int = 429


@dataclass(slots=True)
class _Window:
    """How many refusals a source has had since the window began."""

    since: float
    count: int = 0


@dataclass(slots=True)
class _Batch:
    """Refusals that will share a row: that of the first."""

    call: Call
    told: Told
    committed: "asyncio.Future[bool]"
    last_seen: datetime
    count: int = 1
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Floods:
    """Counts refusals by source and holds what is beyond the limit."""

    def __init__(self, limit: int, window_s: float, commit: Commit, hold_s: float = HOLD_S) -> None:
        self._limit = limit
        self._window_s = window_s
        self._commit = commit
        self._hold_s = hold_s
        self._windows: OrderedDict[Source, _Window] = OrderedDict()
        self._batches: dict[tuple[str, ...], _Batch] = {}

    def is_over(self, call: Call, now: float) -> bool:
        """Count one more refusal of the call's source; say whether it is too many. `now` is any steady clock."""
        source = source_of(call)
        window = self._windows.get(source)
        if window is None or now - window.since >= self._window_s:
            window = self._windows[source] = _Window(now)
            if len(self._windows) > _SOURCES:
                self._windows.popitem(last=False)
        window.count += 1
        return window.count > self._limit

    async def hold(self, call: Call, told: Told) -> tuple[UUID, bool]:
        """Wait for the shared row; return its execution id and whether it was committed.

        Servers that do not exist count as one: who may choose the name must not choose the number of rows.
        """
        key = (*source_of(call), call.server_name if call.server is not None else "", told.code)
        batch = self._batches.get(key)
        now = datetime.now(UTC)
        if batch is None:
            committed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            batch = self._batches[key] = _Batch(call, told, committed, now)
            batch.task = asyncio.create_task(self._flush(key, batch))
        else:
            batch.count += 1
            batch.last_seen = now
        return batch.call.execution_id, await asyncio.shield(batch.committed)

    async def _flush(self, key: tuple[str, ...], batch: _Batch) -> None:
        await asyncio.sleep(self._hold_s)
        del self._batches[key]
        told = batch.told
        outcome = batch.call.outcome(told.status, told.code, told.reason, told.http_status)
        outcome = replace(outcome, repeats=batch.count, last_seen=batch.last_seen)
        is_committed = False
        try:
            is_committed = await self._commit(batch.call, outcome)
        finally:
            batch.committed.set_result(is_committed)


def source_of(call: Call) -> Source:
    """An address or its network, and the principal where one was proven."""
    who = call.request().subject
    return _network(call.remote), f"{who.issuer} {who.subject}" if who.subject else ""


def _network(remote: str) -> str:
    """Return the first 64 bits of an IPv6 address, other addresses as they are."""
    if ":" not in remote:
        return remote
    try:
        address = IPv6Address(remote)
    except ValueError:
        return remote
    return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))


def too_many(refusal: Refusal, window_s: float) -> Refusal:
    """What a source beyond its limit is told, whatever was wrong: no more of it than one request is told."""
    retry = (b"retry-after", b"%d" % max(1, round(window_s)))
    return Refusal(
        "limit.refusals", 429, errors.TOO_MANY, f"too many refused requests ({refusal.answer()[1]})", (retry,)
    )
