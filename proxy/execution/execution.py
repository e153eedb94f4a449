"""One admitted request: to the server and back, its row committed before its answer is released.

conversation ─▶ Reply ─▶ row ─▶ answer
             └▶ End ───▶ row ─▶ error, or the stream just ends
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import time

from proxy.answers import JSON, NO_STORE, encode, execution_header, refusal_body, refusal_headers
from proxy.audit.record import Outcome, Status
from proxy.auth.identity import Authenticated
from proxy.call import Call
from proxy.exchange import Exchange
from proxy.execution.conversation import Conversation, Office
from proxy.execution.deadline import Deadline
from proxy.execution.ends import (
    CLIENT_LEFT,
    CREDENTIAL_EXPIRED,
    INTERRUPTED,
    SESSION_EXPIRED,
    STREAM_ENDED,
    STREAM_LEFT,
    UNRECORDABLE,
    BrokenAnswerError,
    End,
    EndedError,
    SessionLostError,
    end_of,
    failed,
    timed_out,
)
from proxy.execution.judgement import Judgement, judge_answer
from proxy.execution.relay import Reply
from proxy.execution.upstream_refusals import refusal_of_status
from proxy.execution.verdict import judge
from proxy.routes import Route
from proxy.sessions.store import SessionStoreUnavailableError
from proxy.upstream import UpstreamError
from proxy.wire.era import Era

_LONGEST_S = 10_000_000.0
_KEPT_OF_ERRORS = frozenset({b"allow", b"retry-after"})
_NOT_THE_CLIENTS = frozenset({401, 403, 407})
_TOLD_TO_HOOKS = frozenset({Status.FAILED, Status.TIMEOUT})
_TOTAL_OVER = timed_out("total", reached=True)
_CONVERSATION = (EndedError, UpstreamError, BrokenAnswerError, SessionLostError, SessionStoreUnavailableError)


class Execution:
    """Runs once. `stop` ends it from outside as long as its row is not being written."""

    __slots__ = (
        *("_conversation", "_deadline", "_done", "_exchange", "_is_over", "_is_recorded", "_office", "_over"),
        *("_route", "_stopped", "call"),
    )

    def __init__(self, office: Office, exchange: Exchange, call: Call, route: Route, *, intended: bool) -> None:
        self.call = call
        self._is_over = False
        self._done: asyncio.Event | None = None
        self._office = office
        self._exchange = exchange
        self._route = route
        self._conversation = Conversation(office, exchange, call, route, is_intended=intended)
        self._stopped: End | None = None
        self._over = _TOTAL_OVER
        self._deadline = Deadline(office.live.clock)
        self._is_recorded = False

    async def run(self) -> None:
        """Converse, record, release."""
        self._office.live.add(self)
        try:
            ended = await self._converse()
            if isinstance(ended, Reply):
                await self._settle(ended)
            else:
                self._conversation.close()
                await self._conclude(ended)
        except asyncio.CancelledError:
            await asyncio.shield(self._interrupt())
            raise
        finally:
            self._conversation.close()
            self._office.live.remove(self)

    async def wait(self) -> None:
        """Return when it is over."""
        if not self._is_over:
            self._done = self._done or asyncio.Event()
            await self._done.wait()

    def over(self) -> None:
        """Let go whoever waits for the end."""
        self._is_over = True
        if self._done is not None:
            self._done.set()

    def stop(self, end: End) -> None:
        """End the conversation now, and the request with it."""
        if self._stopped is None and not self._deadline.has_struck and self._deadline.is_running:
            self._stopped = end
            self._deadline.strike()

    async def _converse(self) -> Reply | End:
        """Talk to the server within the limits of the request; a client that leaves ends what its leaving cancels."""
        deadline = self._deadline
        deadline.begin(self._limit_s())
        unwatch = self._watch_client()
        try:
            return await self._conversation.run()
        except asyncio.CancelledError:
            if not deadline.is_mine():
                raise
            return self._stopped or self._over
        except _CONVERSATION as error:
            return self._stopped or end_of(error, self._route.server.name)
        finally:
            unwatch()
            deadline.end()

    def _limit_s(self) -> float | None:
        """Seconds until the request ends at the latest; what its end then is, is left in `_over`."""
        call = self.call
        if not call.is_long_lived:
            return self._route.total_s(call)
        limits = [(_LONGEST_S, STREAM_ENDED)]
        if isinstance(call.identity, Authenticated):
            limits.append((call.identity.expires + self._route.server.oauth.leeway_s - time(), CREDENTIAL_EXPIRED))
        if call.session is not None:
            limits.append((call.session.expires - time(), SESSION_EXPIRED))
        limit_s, self._over = min(limits, key=lambda limit: limit[0])
        return limit_s

    def _watch_client(self) -> Callable[[], None]:
        """A modern request is cancelled by its client's leaving, a legacy one is not; streams end in either era."""
        call = self.call
        if call.era is not Era.MODERN and not call.is_long_lived:
            return _nothing
        return self._exchange.on_gone(self._leave)

    def _leave(self) -> None:
        self.stop(STREAM_LEFT if self.call.is_long_lived else CLIENT_LEFT)

    async def _settle(self, reply: Reply) -> None:
        """Commit the row, then release the answer."""
        call, conversation, message = self.call, self._conversation, reply.message
        if reply.event is None and conversation.is_streaming:
            await self._conclude(failed(refusal_of_status(reply.status)))
            return
        judged = None
        if message is not None:
            judged = await judge_answer(self._route, call, message, reply.whole or reply.body, reply.status)
        verdict = judged.verdict if judged is not None else judge(None, reply.status)
        self._shape(reply, judged)
        decision = (judged.withheld if judged is not None else None) or call.decision
        outcome = call.outcome(
            verdict.status,
            decision.code if decision else "admitted",
            (decision.reason if decision else "") + conversation.note,
            reply.status,
            output=judged.output if judged is not None else None,
            error=verdict.error,
            upstream_us=conversation.upstream_us(),
            events=conversation.events,
        )
        if not await self._record(outcome):
            await self._give_up()
        elif reply.event is None:
            headers = (*reply.headers, execution_header(call.execution_id))
            await self._exchange.answer(reply.status, headers, reply.body)
        else:
            conversation.stream.prepare(reply.status, reply.headers)
            await conversation.stream.finish(reply.before + reply.body)

    def _shape(self, reply: Reply, judged: Judgement | None) -> None:
        """Take out of a list what the caller may not see; make a bare HTTP error a JSON-RPC one."""
        call = self.call
        if reply.message is None:
            if reply.status >= 400:
                refusal = refusal_of_status(reply.status)
                reply.status = refusal.status
                reply.body = refusal_body(refusal, call.rpc_id, call.execution_id)
                reply.headers = [JSON, NO_STORE, *(h for h in reply.headers if h[0] in _KEPT_OF_ERRORS)]
            return
        if reply.status in _NOT_THE_CLIENTS:
            reply.status = 502
        changed = judged.message if judged is not None else None
        if changed is not None:
            reply.message = changed
            reply.body = (
                encode(changed) if reply.event is None else self._conversation.stream.reframed(reply.event, changed)
            )

    async def _conclude(self, end: End) -> None:
        """Record that there was no answer, and say so where somebody listens."""
        call, conversation = self.call, self._conversation
        if end.told is not None and end.status in _TOLD_TO_HOOKS:
            await self._route.guard.failed(call, end.reason)
        outcome = call.outcome(
            end.status,
            end.code,
            end.reason + conversation.note,
            conversation.stream.status if conversation.is_streaming else end.http_status,
            error=end.told.reason if end.told is not None else None,
            upstream_us=conversation.upstream_us() if end.reached else None,
            events=conversation.events,
        )
        if not await self._record(outcome):
            await self._give_up()
        elif conversation.is_streaming:
            await conversation.stream.give_up(end.told, end.retry_ms)
        elif end.told is not None and end.in_stream:
            await conversation.stream.refuse(end.told)
        elif end.told is not None:
            body = refusal_body(end.told, call.rpc_id, call.execution_id)
            await self._exchange.answer(end.told.status, refusal_headers(end.told, call.execution_id), body)
        elif call.http_method == "GET":
            await conversation.stream.refuse(None)
        else:
            await self._exchange.answer(202, [execution_header(call.execution_id)], b"")

    def _record(self, outcome: Outcome) -> Awaitable[bool]:
        """Commit the one row; where that cannot be, say so unless a stream is open."""
        self._is_recorded = True
        return self._office.record(None if self._conversation.is_streaming else self._exchange, self.call, outcome)

    async def _give_up(self) -> None:
        """There is no row: an open stream says so and nothing else."""
        if self._conversation.is_streaming:
            await self._conversation.stream.give_up(UNRECORDABLE.told)

    async def _interrupt(self) -> None:
        """The drain's budget is used up: the request ends here."""
        self._conversation.close()
        if not self._is_recorded:
            await self._conclude(INTERRUPTED)


def _nothing() -> None:
    """Nobody watches."""
