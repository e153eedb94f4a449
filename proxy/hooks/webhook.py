"""Hooks that are HTTP endpoints: one signed POST, one small answer, never a redirect, never a second try.

Signed as Standard Webhooks 1.0 says, so that receivers have libraries for it: `webhook-id`, `webhook-timestamp` and
`webhook-signature: v1,base64(HMAC-SHA-256(secret, "{id}.{timestamp}.{body}"))`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import asdict
from ipaddress import ip_address
from time import time
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import msgspec

from proxy.hooks.api import Answer, HookEvent, Refuse, Replace, Rewrite
from proxy.hooks.errors import HookConfigError, HookError

_PREFIX = "whsec_"
# A compressed answer could be a thousand times its bytes before anybody has counted them.
_PLAIN = {"content-type": "application/json", "accept-encoding": "identity"}
_REASON_CHARS = 500
_SMALLEST_KEY = 16
_MEMBERS = frozenset({"decision", "reason", "retry_after_s", "arguments", "result"})


class HookClient:
    """The HTTP client that all webhooks of a worker share; made when the first one is called."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    def get(self) -> httpx2.AsyncClient:
        """Return the client: no proxies of the environment, no redirects, no cookies kept."""
        if self._client is None:
            self._client = httpx2.AsyncClient(trust_env=False, follow_redirects=False)
        return self._client

    async def aclose(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()


class Webhook:
    """One endpoint. `clock` gives the seconds since the epoch that are signed; the chain keeps the time limit."""

    def __init__(
        self, name: str, url: str, key: bytes, *, max_bytes: int, client: HookClient, clock: Callable[[], float] = time
    ) -> None:
        _check_url(name, url)
        if len(key) < _SMALLEST_KEY:
            raise HookConfigError(f"hook {name}: its secret has fewer than {_SMALLEST_KEY} bytes")
        self._name, self._url, self._key = name, url, _raw(name, key)
        self._max_bytes, self._client, self._clock = max_bytes, client, clock

    def __repr__(self) -> str:
        return f"Webhook({self._name!r})"

    async def __call__(self, event: HookEvent) -> Answer:
        """Ask the endpoint; raise `HookError` for anything but an answer."""
        body = msgspec.json.encode({"version": 1, **asdict(event), "settings": dict(event.settings)})
        if len(body) > self._max_bytes:
            raise HookError(f"the event has {len(body)} bytes, its max_bytes are {self._max_bytes}")
        try:
            return await self._ask(body, f"{event.execution_id}.{self._name}.{event.event}")
        except httpx2.HTTPError as error:
            raise HookError(f"its endpoint cannot be asked: {type(error).__name__}") from error

    async def _ask(self, body: bytes, message_id: str) -> Answer:
        headers = {**_PLAIN, **signed(self._key, message_id, int(self._clock()), body)}
        async with self._client.get().stream("POST", self._url, content=body, headers=headers, timeout=None) as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise HookError("its answer is compressed, which nobody asked for")
            raw = bytearray()
            async for chunk in answer.aiter_raw():
                raw += chunk
                if len(raw) > self._max_bytes:
                    raise HookError(f"its answer has more than {self._max_bytes} bytes")
            if answer.status_code == 204:
                return None
            if answer.status_code != 200:
                raise HookError(f"its endpoint answered HTTP {answer.status_code}")
            return parse_answer(bytes(raw))


def signed(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers that prove who sent the body, and when."""
    made = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(made).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def parse_answer(raw: bytes) -> Answer:
    """Return what an endpoint's JSON says; raise `HookError` for nonsense."""
    try:
        found: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HookError("its answer is not JSON") from error
    if not isinstance(found, dict) or not set(cast("dict[str, Any]", found)) <= _MEMBERS:
        raise HookError("its answer is not an object with `decision` and what belongs to it")
    return _answer(cast("dict[str, Any]", found))


def _answer(found: Mapping[str, Any]) -> Answer:
    reason, retry = found.get("reason", "refused"), found.get("retry_after_s")
    match found.get("decision"):
        case "allow":
            return None
        case "refuse" if isinstance(reason, str) and (retry is None or type(retry) is int):
            return Refuse(reason[:_REASON_CHARS], retry)
        case "rewrite" if isinstance(found.get("arguments"), dict):
            return Rewrite(found["arguments"])
        case "replace" if isinstance(found.get("result"), dict):
            return Replace(found["result"])
        case _:
            raise HookError("its decision is none of allow, refuse, rewrite with arguments, replace with a result")


def _raw(name: str, key: bytes) -> bytes:
    """Return the key's bytes; `whsec_` says that they are written in base64."""
    if not key.startswith(_PREFIX.encode()):
        return key
    try:
        return base64.b64decode(key[len(_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise HookConfigError(f"hook {name}: its secret begins with {_PREFIX} and is not base64 after it") from error


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    is_absolute = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.username is None
    if not is_absolute or (parts.scheme == "http" and not _is_loopback(parts.hostname or "")):
        raise HookConfigError(f"hook {name}: its url must be https (http on loopback only), without user information")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
