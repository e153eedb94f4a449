"""The issuer's published keys, kept fresh: one fetch at a time, old keys while the issuer is away, no hammering."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from proxy.auth.guarded_fetch import FetchError, Limits, fetch
from proxy.auth.jwk import KeySetError, candidates, parse_key_set
from proxy.auth.tokens import VerifyKey
from registry.models import Jwks

REFRESH_AHEAD = 0.8
# While the issuer is away its last keys stay good for this long; a withdrawn key must end at some time.
STALE_LIMIT_S = 3600.0

_log = logging.getLogger("postern.jwks")


class KeysUnavailableError(Exception):
    """No keys are known, and none can be had now."""


class KeySource:
    """One key set. `on_change` is called when the keys differ from the last ones, before anything new is verified."""

    def __init__(
        self,
        settings: Jwks,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
        get: Callable[[str, Limits], Awaitable[bytes]] = fetch,
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._clock = clock
        self._get = get
        self._keys: tuple[VerifyKey, ...] = ()
        self._body: bytes | None = None
        self._fetched = -float("inf")
        self._tried = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    def fresh_for_s(self) -> float:
        """How long what was just verified may be believed before the keys are looked at again."""
        wait = max(self._fetched + self._settings.cache_s, self._tried + self._settings.cooldown_s)
        return max(0.0, min(wait, self._stale_at()) - self._clock())

    async def find(self, kid: str | None, algorithm: str) -> tuple[VerifyKey, ...]:
        """Return the keys that may have signed; empty if the issuer publishes none. Raises `KeysUnavailableError`."""
        age = self._clock() - self._fetched
        if age >= self._settings.cache_s:
            await self._refresh()
        elif age >= self._settings.cache_s * REFRESH_AHEAD:
            self._start()
        found = candidates(self._keys, kid, algorithm)
        if not found and kid is not None:
            await self._refresh()
            found = candidates(self._keys, kid, algorithm)
        if self._clock() >= self._stale_at():
            raise KeysUnavailableError
        return found

    def _stale_at(self) -> float:
        return self._fetched + max(self._settings.cache_s, STALE_LIMIT_S)

    async def _refresh(self) -> None:
        """Fetch, or wait for the fetch that is under way; nothing happens within the cool-down of the last one."""
        task = self._start()
        if task is not None:
            # Shielded: the caller that leaves must not take the fetch away from the callers that stay.
            await asyncio.shield(task)

    def _start(self) -> asyncio.Task[None] | None:
        if self._fetching is None and self._clock() >= self._tried + self._settings.cooldown_s:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        settings = self._settings
        try:
            body = await self._get(settings.url, Limits(settings.timeout_s, settings.max_bytes, settings.allow_private))
            self._learn(body)
        except (FetchError, KeySetError) as error:
            _log.warning("the key set of an issuer cannot be read", extra={"url": settings.url, "why": str(error)})
        finally:
            self._tried = self._clock()
            self._fetching = None

    def _learn(self, body: bytes) -> None:
        if body != self._body:
            self._keys, self._body = parse_key_set(body), body
            self._on_change()
        self._fetched = self._clock()

    async def aclose(self) -> None:
        """End a fetch that is under way."""
        if (task := self._fetching) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
