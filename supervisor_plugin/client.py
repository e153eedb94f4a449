"""XML-RPC to supervisord over its Unix socket, from asyncio. Every call has a deadline and a connection of its own."""

import asyncio
import json
import xmlrpc.client
from pathlib import Path
from typing import Any

DEADLINE_S = 10.0
SPAWN_DEADLINE_S = 30.0
_SHUTDOWN_STATE = 6


class SupervisordError(Exception):
    """supervisord cannot be reached, or refused; `fault` is its code for a refusal."""

    def __init__(self, message: str, fault: int | None = None) -> None:
        super().__init__(message)
        self.fault = fault

    @property
    def is_shutting_down(self) -> bool:
        """Whether it refuses because it is on its way out."""
        return self.fault == _SHUTDOWN_STATE


class SupervisorClient:
    """The calls that Postern makes. A deferred answer occupies its connection, so none is shared."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def status(self) -> dict[str, Any]:
        """Return what `supervisorctl fleet status --json` shows."""
        return json.loads(await self.call("fleet.status"))

    async def spawn(self, name: str) -> tuple[int, int]:
        """Spawn a program; return its pid and start ticks."""
        answer = json.loads(await self.call("fleet.spawn", name, deadline_s=SPAWN_DEADLINE_S))
        return answer["pid"], answer["ticks"]

    async def kill(self, name: str) -> bool:
        """Send TERM, and KILL after the program's `stopwaitsecs`; False if it was not running."""
        return bool(await self.call("fleet.kill", name))

    async def hold(self, name: str, *, held: bool) -> None:
        """Record or forget that an operator wants it down."""
        await self.call("fleet.hold", name, held)

    async def report(self, body: dict[str, Any]) -> None:
        """Send the heartbeat."""
        await self.call("fleet.report", json.dumps(body, ensure_ascii=True))

    async def complete(self, number: int, answer: dict[str, Any]) -> None:
        """Answer an operator's request."""
        await self.call("fleet.complete", number, json.dumps(answer, ensure_ascii=True))

    async def apply_config(self) -> tuple[list[str], list[str], list[str]]:
        """Make supervisord read its files again; return the groups it found added, changed and removed."""
        ((added, changed, removed),) = await self.call("supervisor.reloadConfig")
        return added, changed, removed

    async def add_group(self, name: str) -> None:
        await self.call("supervisor.addProcessGroup", name)

    async def remove_group(self, name: str) -> None:
        await self.call("supervisor.removeProcessGroup", name)

    async def call(self, method: str, *arguments: Any, deadline_s: float = DEADLINE_S) -> Any:
        """Call any method; raise SupervisordError with supervisord's own words."""
        try:
            async with asyncio.timeout(deadline_s):
                raw = await self._exchange(method, arguments)
        except TimeoutError as error:
            raise SupervisordError(f"supervisord did not answer {method} in {deadline_s:g} s") from error
        except OSError as error:
            raise SupervisordError(f"supervisord cannot be reached at {self._socket}: {error}") from error
        return _value(method, raw)

    async def _exchange(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        body = xmlrpc.client.dumps(arguments, method).encode()
        head = (
            f"POST /RPC2 HTTP/1.0\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


def _value(method: str, raw: bytes) -> Any:
    head, _, payload = raw.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise SupervisordError(f"supervisord answered {method} with HTTP {b''.join(status).decode() or 'nothing'}")
    try:
        values, _ = xmlrpc.client.loads(payload.decode(), use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        raise SupervisordError(fault.faultString, fault.faultCode) from fault
    return values[0]
