"""The ASGI application: who may call, which era a request is of."""

import hmac
import re
from pathlib import Path
from typing import Any, Final, cast

from proxy.bridge.exchange import Exchange
from proxy.bridge.legacy import LegacyEndpoint
from proxy.bridge.modern import ModernEndpoint
from proxy.bridge.replies import Failure, Receive, Send
from proxy.errors import FORBIDDEN, INVALID_REQUEST
from proxy.wire.era import Era

TOKEN_HEADER: Final = b"x-postern-bridge"
_FORBIDDEN: Final = Failure(403, FORBIDDEN, "only the proxy may call this server")
_NOT_FOUND: Final = Failure(404, INVALID_REQUEST, "no such path")
_BAD_HOST: Final = Failure(421, INVALID_REQUEST, "Host is not a loopback address")
_BAD_ORIGIN: Final = Failure(403, FORBIDDEN, "Origin is not a loopback address")
_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_LOOPBACK_ORIGIN: Final = re.compile(rf"https?://{_LOOPBACK.pattern}", re.IGNORECASE)


class CallerToken:
    """The secret that the proxy shows, as it is in its file now: a file that was written anew is read anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._state()
        self._token = _read_token(path)

    def __repr__(self) -> str:
        return f"CallerToken({str(self._path)!r})"

    def matches(self, presented: list[str]) -> bool:
        """Whether exactly one value was presented, and it is the token. Constant time."""
        if len(presented) != 1:
            return False
        return self._equals(presented[0]) or (self._has_changed() and self._equals(presented[0]))

    def _equals(self, value: str) -> bool:
        return hmac.compare_digest(value.encode("latin-1"), self._token)

    def _has_changed(self) -> bool:
        state = self._state()
        if state in (None, self._seen):
            return False
        try:
            self._token = _read_token(self._path)
        except (OSError, ValueError):
            return False
        self._seen = state
        return True

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _read_token(path: Path) -> bytes:
    token = path.read_bytes().strip()
    if not token:
        raise ValueError(f"{path} is empty")
    return token


class App:
    """Nothing is served without the caller's token; then path, Host, Origin, era."""

    def __init__(
        self, *, token: CallerToken, path: str, cap_bytes: int, modern: ModernEndpoint, legacy: LegacyEndpoint
    ) -> None:
        self._token = token
        self._path = path
        self._cap_bytes = cap_bytes
        self._modern = modern
        self._legacy = legacy

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"only http, not {scope['type']}")
        headers = cast("list[tuple[bytes, bytes]]", scope["headers"])
        exchange = Exchange(cast("str", scope["method"]), headers, receive, send, self._cap_bytes)
        failure = self._refuse(cast("str", scope["path"]), exchange)
        if failure is not None:
            await exchange.refuse(failure)
        elif exchange.method == "POST":
            await self._post(exchange)
        else:
            await self._answer_other_methods(exchange)

    async def _post(self, exchange: Exchange) -> None:
        envelope = await exchange.read_envelope()
        found = None if envelope is None else await exchange.find_era(envelope)
        if envelope is None or found is None:
            return
        if found.era is Era.MODERN:
            await self._modern.post(exchange, envelope, found.version or "")
        else:
            await self._legacy.post(exchange, envelope)

    async def _answer_other_methods(self, exchange: Exchange) -> None:
        found = await exchange.find_era(None)
        if found is None:
            return
        if found.era is Era.MODERN:
            await self._modern.refuse_other_methods(exchange)
        else:
            await self._legacy.answer(exchange)

    def _refuse(self, path: str, exchange: Exchange) -> Failure | None:
        if not self._token.matches(exchange.values(TOKEN_HEADER)):
            return _FORBIDDEN
        if path != self._path:
            return _NOT_FOUND
        hosts = exchange.values(b"host")
        if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
            return _BAD_HOST
        if any(not _LOOPBACK_ORIGIN.fullmatch(origin) for origin in exchange.values(b"origin")):
            return _BAD_ORIGIN
        return None
