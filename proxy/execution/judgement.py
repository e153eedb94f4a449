"""What the row says of an answer, and what the caller gets of it: guard, filter, verdict."""

from msgspec import Struct

from proxy.audit.record import Payload, Status
from proxy.call import Call
from proxy.execution.listing import visible_only
from proxy.execution.verdict import Verdict
from proxy.guard.outcome import PASSED, Finding
from proxy.routes import Route

_REFUSED_BY_POLICY = "hook.withheld"


class Judgement(Struct, frozen=True):
    """`message` is None where the caller gets what the server sent; `withheld` says why it gets an error instead.

    `output` shows what the caller gets, with size and digest of what the server sent.
    """

    message: dict[str, object] | None
    output: Payload
    verdict: Verdict
    withheld: Finding | None = None


async def judge_answer(
    route: Route, call: Call, message: dict[str, object], whole: bytes, http_status: int
) -> Judgement:
    """Judge the message that ends a request; `whole` are its bytes as the server sent them."""
    guard = route.guard
    guarded = PASSED if guard.accepts(call, message) else await guard.after(call, message)
    shown = guarded.message if guarded.message is not None else message
    shown = route.states.marked(call, shown) or shown
    output = route.snapshot_output(call, shown, whole)
    final = visible_only(call, route.policy, shown) or (shown if shown is not message else None)
    finding = guarded.finding
    verdict = route.judge(call, shown, http_status)
    if finding is None:
        return Judgement(final, output, verdict)
    told = f"{finding.code}: {finding.reason}"
    if not finding.is_withheld:
        return Judgement(final, output, Verdict(verdict.status, verdict.error or told))
    status = Status.DENIED if finding.code == _REFUSED_BY_POLICY else Status.FAILED
    return Judgement(final, output, Verdict(status, told), finding)
