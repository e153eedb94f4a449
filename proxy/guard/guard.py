"""What stands between a server's promises and its callers: pinned contracts, artifacts, hooks (SPEC C1–C3, C5).

    before   as pinned? ─▶ header = argument? ─▶ arguments fit? ─▶ PreToolUse ─▶ still fit?     or refusal
    after    result fits? ─▶ PostToolUse ─▶ still fits? ─▶ tag      else a tool error in its place
    lists    what is not as pinned is taken out (strict) or told (warn)

Where nothing is configured each of them is one comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy import errors
from proxy.call import Call
from proxy.errors import Refusal
from proxy.guard.contracts import Contracts
from proxy.guard.input import examine, has_input_fault, run_hooks
from proxy.guard.lists import GREETINGS, LISTS, judge_greeting, judge_list
from proxy.guard.outcome import PASSED, Guarded
from proxy.guard.output import is_as_promised, judge_result, judge_task, tell_failure
from proxy.guard.tool import OTHERS, ToolGuard, make_tool
from proxy.hooks.chain import Step
from proxy.tasks.wire import WITH_RESULT
from proxy.wire.params import ParamHeader
from registry.contracts.definitions import Kind
from registry.contracts.locked import ServerLock
from registry.models import Server

_REMEMBERED = 2_000
_UNUSED = ToolGuard()
_USES: Mapping[str, Kind] = {
    "tools/call": "tools",
    "prompts/get": "prompts",
    **dict.fromkeys(("tasks/get", "tasks/result", "tasks/update"), "tools"),
}
_JUDGES = {
    "tools/call": judge_result,
    "tasks/result": judge_result,
    **dict.fromkeys(WITH_RESULT, judge_task),
}
_CHANGES = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


class Watch(Protocol):
    """Looks at the server when it is asked to."""

    def ask(self) -> None: ...
    async def why_unverified(self) -> str | None: ...


@dataclass(slots=True)
class GuardCounts:
    """What the guards of one server have done: refused before, withheld after, let pass with a warning."""

    refused: int = 0
    withheld: int = 0
    warned: int = 0


class Guard:
    """One server's guard in one worker. `watch` comes later: until then nothing strict is known to be as pinned."""

    def __init__(
        self,
        server: Server,
        lock: ServerLock | None = None,
        steps: Sequence[Step] = (),
        counts: GuardCounts | None = None,
        *,
        payload_bytes: int = 65_536,
    ) -> None:
        self.server = server
        self.contracts = Contracts(server, lock)
        self.watch: Watch | None = None
        self.counts = counts or GuardCounts()
        self._payload_bytes = payload_bytes
        self._lock = lock or ServerLock()
        self._steps = tuple(steps)
        names = {*self._lock.of("tools"), *server.tools} - {OTHERS}
        self._tools = {name: self._make(name) for name in names}
        self._other = self._make(OTHERS)
        self._others_vary = bool(steps)
        tools_idle = self._other.is_idle and all(tool.is_idle for tool in self._tools.values())
        pins_nothing = all(tool.digest is None for tool in self._tools.values())
        self.is_idle = self.contracts.is_idle and not steps and tools_idle and pins_nothing

    def declared_params(self, tool: str) -> Sequence[ParamHeader]:
        """Return the headers that mirror a tool's arguments, as far as its pinned schema declares any."""
        return self._tool(tool).params

    def admits(self, call: Call) -> bool:
        """Whether a call passes without further ado: nothing to wait for, no hooks, and its arguments fit.

        Where it does not, `before` says why, or does what is to be done.
        """
        if self.is_idle:
            return True
        if self.contracts.is_strict or not call.is_tool_call or call.target is None:
            return False
        tool = self._tool(call.target)
        call.contract = tool.digest
        return tool.is_idle or not (tool.before or tool.params or has_input_fault(call, tool))

    async def before(self, call: Call) -> Refusal | None:
        """Admit an authorized request, or refuse it; hooks may have rewritten its arguments."""
        target = call.target
        if self.is_idle or target is None:
            return None
        refusal = await self._why_not_as_pinned(call.method, target) if self.contracts.is_strict else None
        if refusal is None and call.is_tool_call:
            tool = self._tool(target)
            call.contract = tool.digest
            if not tool.is_idle:
                refusal = examine(call, tool, self.server.contract.input)
            if refusal is None and tool.before:
                refusal = await run_hooks(call, tool, self._payload_bytes)
        if refusal is not None:
            self.counts.refused += 1
        elif call.note is not None:
            self.counts.warned += 1
        return refusal

    def accepts(self, call: Call, message: dict[str, object]) -> bool:
        """Whether the answer to a call passes as it is: the server's promise is kept, and no hook wants to see it.

        Where it does not, `after` says what becomes of it.
        """
        if self.is_idle:
            return True
        if not call.is_tool_call:
            return False
        tool = self._tool(call.target or "")
        if tool.is_idle:
            return True
        call.contract = tool.digest
        return is_as_promised(call, tool, message, self.server.contract.output)

    async def after(self, call: Call, message: dict[str, object]) -> Guarded:
        """Judge the answer to a request before its row is written."""
        if self.is_idle:
            return PASSED
        method = call.method
        if (judge := _JUDGES.get(method or "")) is not None:
            tool = self._tool(call.target or "")
            if tool.is_idle:
                return PASSED
            guarded = await judge(call, tool, message, self.server.contract.output)
        elif method in LISTS:
            guarded = judge_list(self.contracts, call, message)
        else:
            guarded = judge_greeting(self.contracts, message) if method in GREETINGS else PASSED
        if guarded.finding is not None:
            self.counts.withheld += guarded.finding.is_withheld
            self.counts.warned += not guarded.finding.is_withheld
        return guarded

    async def failed(self, call: Call, error: str) -> None:
        """Tell PostToolUseFailure hooks about a tool call that got no answer."""
        if self._steps and call.is_tool_call:
            await tell_failure(call, self._tool(call.target or ""), error)

    def notice(self, message: Mapping[str, object]) -> None:
        """See a message on its way to a client: one that announces changed lists is a reason to look."""
        if self.watch is not None and message.get("method") in _CHANGES:
            self.watch.ask()

    async def _why_not_as_pinned(self, method: str | None, target: str) -> Refusal | None:
        """Refuse what is not as pinned; what was not looked at yet is not known to be."""
        kind = self._kind(method, target)
        if kind is None or self.contracts.mode(kind) != "strict":
            return None
        if self.contracts.is_locked and (trouble := await self._why_unverified()) is not None:
            reason = f"server {self.server.name} cannot be compared with its lock: {trouble}"
            return Refusal("contract.unverified", 503, errors.UNAVAILABLE, reason, ((b"retry-after", b"1"),))
        withheld = self.contracts.why_withheld(kind, target)
        if withheld is None:
            return None
        code = "contract.drift" if self.contracts.is_locked else "contract.unlocked"
        return Refusal(code, 403, errors.FORBIDDEN, withheld)

    def _kind(self, method: str | None, target: str) -> Kind | None:
        """A resource that is not listed may be one of a template's: only a pinned one is compared."""
        if method == "resources/read":
            return "resources" if target in self._lock.of("resources") or not self.contracts.is_locked else None
        return _USES.get(method or "")

    async def _why_unverified(self) -> str | None:
        if self.contracts.is_verified:
            return None
        return await self.watch.why_unverified() if self.watch is not None else "nobody has looked at it"

    def _tool(self, name: str) -> ToolGuard:
        found = self._tools.get(name)
        if found is not None:
            return found
        if not self._others_vary:
            return self._other
        if len(self._tools) >= _REMEMBERED:
            return self._make(name)
        made = self._tools[name] = self._make(name)
        return made

    def _make(self, name: str) -> ToolGuard:
        return make_tool(self.server, name, self._lock.of("tools").get(name), self._steps)
