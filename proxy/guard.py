"""What stands between a server's promises and its callers: pinned contracts, artifacts, hooks (SPEC C1–C3, C5).

    before   header = argument? ─▶ as pinned? ─▶ arguments fit? ─▶ PreToolUse ─▶ rewritten ones fit?   or refusal
    after    result fits? ─▶ PostToolUse ─▶ still fits? ─▶ tag       else a tool error in its place
    lists    what is not as pinned is withheld (strict) or told (warn)

Where nothing is configured each of them is one comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from proxy import errors
from proxy.answers import encode
from proxy.call import Call
from proxy.contract_state import Contracts, items_of
from proxy.contract_tool import OTHERS, ToolGuard, is_complete, make_tool
from proxy.errors import Refusal
from proxy.guard_hooks import after_event, before_event, failure_text, rewritten
from proxy.hooks.api import Refuse
from proxy.hooks.chain import Passage, Step, run_after, run_before
from proxy.wire.era import Era
from proxy.wire.headers import check_params
from proxy.wire.params import ParamHeader
from registry.artifacts import META_KEY
from registry.contracts.definitions import Kind
from registry.contracts.locked import ServerLock
from registry.models import Server

_REMEMBERED = 2_000
_UNUSED = ToolGuard()
_LISTS: Mapping[str, tuple[Kind, str]] = {
    "tools/list": ("tools", "tools"),
    "prompts/list": ("prompts", "prompts"),
    "resources/list": ("resources", "resources"),
    "resources/templates/list": ("templates", "resourceTemplates"),
}
_USES: Mapping[str, Kind] = {"tools/call": "tools", "prompts/get": "prompts"}
_GREETINGS = frozenset({"initialize", "server/discover"})
_CHANGES = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


class Watch(Protocol):
    """Looks at the server when it is asked to."""

    def ask(self) -> None: ...
    def distrust(self) -> None: ...
    async def why_unverified(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What the row should say about an answer. `is_withheld`: the caller gets an error in its place."""

    code: str
    reason: str
    is_withheld: bool


@dataclass(frozen=True, slots=True)
class Guarded:
    """An answer as it may go on: `message` is None where it stays as the server sent it."""

    message: dict[str, object] | None = None
    finding: Finding | None = None


PASSED = Guarded()


@dataclass(slots=True)
class GuardCounts:
    """What one guard has done, for metrics."""

    refused: int = 0
    withheld: int = 0
    warned: int = 0
    hook_failures: int = 0


class Guard:
    """One server's guard in one worker. `watch` may come later: until then nothing strict is verified."""

    def __init__(self, server: Server, lock: ServerLock | None, steps: Sequence[Step], agents: Any = None) -> None:
        del agents
        self.server = server
        self.contracts = Contracts(server, lock)
        self.watch: Watch | None = None
        self.counts = GuardCounts()
        self._lock = lock or ServerLock()
        self._steps = tuple(steps)
        self._tools: dict[str, ToolGuard] = {}
        named = {*self._lock.of("tools"), *server.tools} - {OTHERS}
        for name in named:
            self._tools[name] = self._make(name)
        self._others_vary = bool(steps) or OTHERS in server.tools
        self.is_idle = self.contracts.is_idle and not self._others_vary and all(t.is_idle for t in self._tools.values())

    @classmethod
    def idle(cls, server: Server) -> "Guard":
        """Return the guard of a server about which nothing is declared."""
        return cls(server, None, ())

    def declared_params(self, tool: str) -> Sequence[ParamHeader]:
        """Return the headers that mirror a tool's arguments, as far as its pinned schema declares any."""
        return self._tool(tool).params

    async def before(self, call: Call) -> Refusal | None:
        """Admit an authorized request, or refuse it; hooks may have rewritten its arguments."""
        if self.is_idle:
            return None
        refusal = await self._before(call)
        if refusal is not None:
            self.counts.refused += 1
        return refusal

    async def after(self, call: Call, message: dict[str, object]) -> Guarded:
        """Judge the answer to a request before its row is written."""
        if self.is_idle:
            return PASSED
        method = call.method
        if method == "tools/call":
            tool = self._tool(call.target() or "")
            return PASSED if tool.is_idle else self._counted(await self._after_tool(call, tool, message))
        if method in _LISTS:
            return self._after_list(call, message, *_LISTS[method])
        return self._after_greeting(message) if method in _GREETINGS else PASSED

    async def failed(self, call: Call, error: str) -> None:
        """Tell PostToolUseFailure hooks about a call that got no answer."""
        if self.is_idle or not call.is_tool_call:
            return
        tool = self._tool(call.target() or "")
        if tool.failure:
            self._note(call, await run_after(tool.failure, after_event(call, None, error)))

    def notice(self, message: Mapping[str, object]) -> None:
        """A message on its way to a client: one that announces changed lists is a reason to look."""
        if self.watch is not None and message.get("method") in _CHANGES:
            self.watch.ask()

    async def _before(self, call: Call) -> Refusal | None:
        method, target = call.method, call.target()
        if self.contracts.is_strict and target is not None and (refusal := await self._why_drifted(call, target)):
            return refusal
        if method != "tools/call" or target is None:
            return None
        tool = self._tool(target)
        call.contract = tool.digest
        return None if tool.is_idle else await self._before_tool(call, tool)

    async def _why_drifted(self, call: Call, target: str) -> Refusal | None:
        """Refuse what is not as pinned; what was not looked at yet is not known to be."""
        kind = _USES.get(call.method or "") or self._resource_kind(call, target)
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

    def _resource_kind(self, call: Call, target: str) -> Kind | None:
        """A resource that is not listed may be one of a template: only a listed one is compared."""
        if call.method != "resources/read":
            return None
        is_known = target in self._lock.of("resources") or not self.contracts.is_locked
        return "resources" if is_known else None

    async def _why_unverified(self) -> str | None:
        if self.contracts.is_verified:
            return None
        return await self.watch.why_unverified() if self.watch is not None else "nobody has looked at it"

    async def _before_tool(self, call: Call, tool: ToolGuard) -> Refusal | None:
        envelope = call.envelope
        if envelope is None:
            return None
        if tool.params and call.era is Era.MODERN and (fault := check_params(call.headers, envelope, tool.params)):
            return Refusal(fault.code, fault.status, fault.jsonrpc_code, fault.message)
        arguments: object = (envelope.params or {}).get("arguments", {})
        wrong = tool.input_fault(arguments)
        if wrong is not None and (refusal := self._bad_input(call, wrong)) is not None:
            return refusal
        if not tool.before or not isinstance(arguments, dict):
            return None
        passage = await run_before(tool.before, before_event(call, cast("dict[str, Any]", arguments)))
        self._note(call, passage)
        if passage.refusal is not None:
            return _refused_by(passage, passage.refusal)
        return self._rewrite(call, tool, passage.value) if passage.is_changed else None

    def _rewrite(self, call: Call, tool: ToolGuard, arguments: dict[str, Any]) -> Refusal | None:
        """The pinned schema binds hooks, too, in whatever mode: what they write is ours."""
        wrong = tool.input_fault(arguments)
        if wrong is not None:
            reason = f"a hook rewrote the arguments so that they do not fit the tool: {wrong}"
            return Refusal("hook.invalid", 503, errors.UNAVAILABLE, reason)
        rewritten(call, arguments, tool.params)
        return None

    def _bad_input(self, call: Call, wrong: str) -> Refusal | None:
        if self.server.contract.input == "warn":
            self.counts.warned += 1
            call.note = f"contract.input: {wrong}"
            return None
        status = 200 if call.era is Era.LEGACY else 400
        data: dict[str, object] = {"path": wrong.partition(":")[0]}
        return Refusal("contract.input", status, errors.INVALID_PARAMS, f"invalid arguments: {wrong}", (), data)

    async def _after_tool(self, call: Call, tool: ToolGuard, message: dict[str, object]) -> Guarded:
        result = message.get("result")
        if not isinstance(result, dict):
            await self._after_error(call, tool, message)
            return PASSED
        known = cast("dict[str, Any]", result)
        complete = is_complete(known)
        wrong = tool.output_fault(known, call.protocol_version) if complete else None
        finding = Finding("contract.output", wrong, self._is_strict_output) if wrong is not None else None
        if finding is not None and finding.is_withheld:
            await self._after_error(call, tool, message, finding.reason)
            return _withheld(call, finding)
        steps = tool.failure if known.get("isError") is True else tool.after
        if not steps:
            return _tagged(message, known, tool, finding) if complete else Guarded(None, finding)
        return await self._hooked(call, tool, message, steps, finding)

    async def _hooked(
        self, call: Call, tool: ToolGuard, message: dict[str, object], steps: Sequence[Step], finding: Finding | None
    ) -> Guarded:
        """Run the hooks of a result; what they make of it must be what was promised, too."""
        was = cast("dict[str, Any]", message["result"])
        error = failure_text(message) if was.get("isError") is True else None
        passage = await run_after(steps, after_event(call, was, error))
        self._note(call, passage)
        if passage.refusal is not None:
            code = "hook.failed" if passage.has_failed else "hook.withheld"
            return _withheld(call, Finding(code, f"{passage.by}: {passage.refusal.reason}", is_withheld=True))
        if not passage.is_changed:
            return _tagged(message, was, tool, finding) if is_complete(was) else Guarded(None, finding)
        complete = is_complete(passage.value)
        wrong = tool.output_fault(passage.value, call.protocol_version) if complete else None
        if wrong is not None and finding is None and self._is_strict_output:
            reason = f"a hook made the result another than was promised: {wrong}"
            return _withheld(call, Finding("hook.invalid", reason, is_withheld=True))
        changed: dict[str, object] = {**message, "result": passage.value}
        tagged = _tagged(changed, passage.value, tool, finding) if complete else Guarded(None, finding)
        return Guarded(tagged.message or changed, finding)

    async def _after_error(self, call: Call, tool: ToolGuard, message: dict[str, object], error: str = "") -> None:
        if tool.failure:
            self._note(call, await run_after(tool.failure, after_event(call, None, error or failure_text(message))))

    def _after_list(self, call: Call, message: dict[str, object], kind: Kind, member: str) -> Guarded:
        result = message.get("result")
        if self.contracts.mode(kind) == "skip" or not isinstance(result, dict):
            return PASSED
        known = cast("dict[str, Any]", result)
        items = items_of(known, member)
        if items is None:
            return PASSED
        params = (call.envelope.params if call.envelope is not None else None) or {}
        is_whole = not params.get("cursor") and not known.get("nextCursor")
        withheld = self.contracts.learn_page(kind, items, is_whole=is_whole)
        if not withheld:
            return PASSED
        named = "uri" if kind == "resources" else "uriTemplate" if kind == "templates" else "name"
        shown = [item for item in items if cast("dict[str, Any]", item).get(named) not in withheld]
        reason = f"not as pinned and withheld: {', '.join(sorted(withheld)[:20])}"
        changed: dict[str, object] = {**message, "result": {**known, member: shown}}
        return Guarded(changed, Finding("contract.drift", reason, is_withheld=False))

    def _after_greeting(self, message: dict[str, object]) -> Guarded:
        result = message.get("result")
        if self.contracts.mode("instructions") == "skip" or not isinstance(result, dict):
            return PASSED
        known = cast("dict[str, Any]", result)
        text: object = known.get("instructions")
        withheld = self.contracts.learn_instructions(text if isinstance(text, str) else None)
        if withheld is None or text is None:
            return PASSED
        changed = {key: value for key, value in known.items() if key != "instructions"}
        return Guarded({**message, "result": changed}, Finding("contract.drift", withheld, is_withheld=False))

    @property
    def _is_strict_output(self) -> bool:
        return self.server.contract.output == "strict"

    def _counted(self, guarded: Guarded) -> Guarded:
        if guarded.finding is not None:
            self.counts.withheld += guarded.finding.is_withheld
            self.counts.warned += not guarded.finding.is_withheld
        return guarded

    def _note(self, call: Call, passage: Passage) -> None:
        call.hooks = (*call.hooks, *passage.records)
        self.counts.hook_failures += sum(record["did"] == "failed" for record in passage.records)

    def _tool(self, name: str) -> ToolGuard:
        found = self._tools.get(name)
        if found is not None:
            return found
        if not self._others_vary:
            return _UNUSED
        if len(self._tools) >= _REMEMBERED:
            self._tools.clear()
        self._tools[name] = self._make(name)
        return self._tools[name]

    def _make(self, name: str) -> ToolGuard:
        return make_tool(self.server, name, self._lock.of("tools").get(name), self._steps)


def _refused_by(passage: Passage, refusal: Refuse) -> Refusal:
    if passage.has_failed:
        return Refusal("hook.failed", 503, errors.UNAVAILABLE, refusal.reason, ((b"retry-after", b"1"),))
    reason = f"hook {passage.by} refuses: {refusal.reason}"
    if refusal.retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % max(1, refusal.retry_after_s)),)
        return Refusal("hook.refused", 429, errors.TOO_MANY, reason, headers)
    return Refusal("hook.refused", 403, errors.FORBIDDEN, reason)


def _withheld(call: Call, finding: Finding) -> Guarded:
    """Return a tool error in place of what the caller must not get."""
    text = f"The answer of this tool was withheld ({finding.code}): {finding.reason} (execution {call.execution_id})"
    result: dict[str, object] = {"content": [{"type": "text", "text": text}], "isError": True}
    if call.era is Era.MODERN:
        result["resultType"] = "complete"
    return Guarded({"jsonrpc": "2.0", "id": call.rpc_id, "result": result}, finding)


def _tagged(
    message: dict[str, object], result: dict[str, Any], tool: ToolGuard, finding: Finding | None
) -> Guarded:
    """Name the artifact in the result, where it is one."""
    if tool.artifact is None or finding is not None:
        return Guarded(None, finding)
    known: object = result.get("_meta")
    meta = {**(cast("dict[str, Any]", known) if isinstance(known, dict) else {}), META_KEY: tool.artifact}
    return Guarded({**message, "result": {**result, "_meta": meta}}, None)


__all__ = ["PASSED", "Finding", "Guard", "GuardCounts", "Guarded", "encode"]
