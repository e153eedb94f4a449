"""The 2026-07-28 era: one child for all, or one per principal, started when it is needed and again when it died."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from proxy.bridge.catalogue import Catalogue
from proxy.bridge.child import Spawner
from proxy.bridge.frames import JsonObject, Kind, error_message, parse_message, render_message
from proxy.bridge.headers import CAPABILITIES_KEY, LEGACY_VERSIONS, MODERN_VERSIONS, UNSUPPORTED_VERSION, VERSION_KEY
from proxy.bridge.link import Link
from proxy.bridge.replies import Failure
from proxy.bridge.stream import Stream
from proxy.errors import BAD_GATEWAY, METHOD_NOT_FOUND, TIMED_OUT, UNAVAILABLE

Sharing: TypeAlias = Literal["shared", "per-principal"]

_CLIENT_INFO: Final = {"name": "postern-bridge", "version": "1"}
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_STABLE_S: Final = 60.0
_PATIENCE_S: Final = 1.0
FULL: Final = Failure(
    503, UNAVAILABLE, "as many server processes run as are allowed", headers=((b"retry-after", b"5"),)
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next start, after `failures` ends in a row; `ready_at` is a loop time."""

    failures: int = 0
    ready_at: float = 0.0

    def after_end(self, started_at: float, now: float) -> "Backoff":
        """A child ended. One that ran for a minute is forgiven."""
        failures = 1 if now - started_at >= _STABLE_S else self.failures + 1
        pause_s = 0.0 if failures == 1 else min(_FIRST_PAUSE_S * 2.0 ** min(failures - 2, 16), _LONGEST_PAUSE_S)
        return Backoff(failures, now + pause_s)
