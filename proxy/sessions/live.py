"""What this worker is answering now, so that it can be ended from outside: revoked, cancelled, resumed, drained."""

import asyncio
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from proxy.call import Call
from proxy.execution.deadline import Clock
from proxy.execution.ends import CLIENT_CANCELLED, REVOKED, STREAM_MOVED, STREAM_TAKEN_OVER, End, session_over

CANCEL_GRACE_S = 3.0
_HANDOVER_S = 2.0

RpcId = int | str


class Answering(Protocol):
    """One request on its way. `stop` ends it once; after its answer has begun to be recorded it does nothing."""

    call: Call

    def stop(self, end: End) -> None: ...
    async def wait(self) -> None: ...
    def over(self) -> None: ...


class Live:
    """The requests of one worker, by execution and by session; `clock` keeps their deadlines."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._executions: dict[UUID, Answering] = {}
        self._sessions: dict[str, dict[UUID, Answering]] = {}

    def __len__(self) -> int:
        return len(self._executions)

    def add(self, answering: Answering) -> None:
        """A request is on its way."""
        call = answering.call
        self._executions[call.execution_id] = answering
        if call.session is not None:
            self._sessions.setdefault(call.session.id, {})[call.execution_id] = answering

    def remove(self, answering: Answering) -> None:
        """It has been answered."""
        call = answering.call
        self._executions.pop(call.execution_id, None)
        if call.session is not None and (there := self._sessions.get(call.session.id)) is not None:
            there.pop(call.execution_id, None)
            if not there:
                del self._sessions[call.session.id]
        answering.over()

    def sessions(self) -> list[str]:
        """Return the ids of sessions with a request on its way or a stream open."""
        return list(self._sessions)

    def session_changed(self, session_id: str, status: str) -> None:
        """End the streams of a session that is not open any more; of a revoked one whatever is on its way."""
        if status == "open":
            return
        end = session_over(status)
        for answering in self._of(session_id):
            if end is REVOKED or answering.call.is_long_lived:
                answering.stop(end)

    def streams(self) -> list[Answering]:
        """Return what is long-lived."""
        return [answering for answering in self._executions.values() if answering.call.is_long_lived]

    def end_streams(self, end: End) -> None:
        """End every long-lived stream."""
        for answering in self.streams():
            answering.stop(end)

    def cancel(self, session_id: str, rpc_id: RpcId) -> None:
        """The client has cancelled a request: end it if the server does not within a grace."""
        for answering in self._of(session_id):
            if answering.call.rpc_id == rpc_id and type(answering.call.rpc_id) is type(rpc_id):
                asyncio.get_running_loop().call_later(CANCEL_GRACE_S, answering.stop, CLIENT_CANCELLED)

    def let_go(self, session_id: str, execution: UUID, by: UUID) -> list[Answering]:
        """The stream of a request has been resumed by another one: end whoever else has a connection for it."""
        there = [each for each in self._of(session_id) if each.call.execution_id != by]
        holders = [each for each in there if _carries(each.call, execution)]
        for answering in holders:
            answering.stop(STREAM_MOVED if answering.call.execution_id == execution else STREAM_TAKEN_OVER)
        return holders

    async def hand_over(self, session_id: str, execution: UUID, by: UUID) -> bool:
        """Let go and wait until the old connections are closed; False if there are none here."""
        holders = self.let_go(session_id, execution, by)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HANDOVER_S):
                for answering in holders:
                    await answering.wait()
        return bool(holders)

    def _of(self, session_id: str) -> list[Answering]:
        return list(self._sessions.get(session_id, {}).values())


def _carries(call: Call, execution: UUID) -> bool:
    """Whether the answer to a request arrives on this stream: on its own, or on one that resumed it."""
    origin = call.resumed.origin if call.resumed is not None else None
    return call.execution_id == execution or (origin is not None and origin.execution == execution)
