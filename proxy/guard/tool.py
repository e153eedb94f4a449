"""What is checked about one tool, compiled once from registry and lock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.hooks.chain import Step
from proxy.wire.params import ParamHeader, declared_params
from registry.artifacts import check_result
from registry.contracts.definitions import Pin
from registry.contracts.schemas import Checker, Purpose, SchemaError, compile_schema
from registry.models import ArtifactKind, Contract, Server, Tool

OTHERS = "*"
Mode = Literal["strict", "warn", "skip"]
STRUCTURED_SINCE = "2025-06-18"


@dataclass(frozen=True, slots=True)
class ToolGuard:
    """One tool. `outputs` are the server's own schema and the registry's; a text in place of a checker is its fault."""

    digest: str | None = None
    params: tuple[ParamHeader, ...] = ()
    input: Checker | str | None = None
    outputs: tuple[Checker | str, ...] = ()
    artifact: ArtifactKind | None = None
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    failure: tuple[Step, ...] = ()
    is_idle: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        nothing = not (self.params or self.outputs or self.artifact or self.before or self.after or self.failure)
        object.__setattr__(self, "is_idle", nothing and self.input is None)

    def input_fault(self, arguments: object) -> str | None:
        """Return where the arguments break the pinned schema."""
        checker = self.input
        if checker is None:
            return None
        return checker.fault(arguments) if isinstance(checker, Checker) else f"/: {checker}"

    def output_fault(self, result: Mapping[str, Any], protocol: str | None) -> str | None:
        """Return where a complete result is not what was promised; errors of the tool promise nothing."""
        value = result.get("structuredContent")
        for checker in self.outputs:
            if isinstance(checker, str):
                return f"/structuredContent: {checker}"
            if value is None:
                if (protocol or "") >= STRUCTURED_SINCE:
                    return "/structuredContent: is missing, the tool has an output schema"
            elif (wrong := checker.fault(value)) is not None:
                return f"/structuredContent{wrong}"
        return check_result(self.artifact, result) if self.artifact is not None else None


def make_tool(server: Server, name: str, pin: Pin | None, steps: Sequence[Step]) -> ToolGuard:
    """Compile what registry and lock say about a tool."""
    contract, declared = server.contract, _declared(server, name)
    definition: Mapping[str, object] = pin.definition if pin is not None else {}
    more = dict(declared.output_schema) if declared.output_schema else None
    mine = [step for step in steps if step.is_for(name)]
    return ToolGuard(
        digest=pin.digest if pin is not None else None,
        params=declared_params(definition.get("inputSchema")) if pin is not None else (),
        input=_compiled(definition.get("inputSchema"), "input") if pin and contract.input != "skip" else None,
        outputs=_outputs((definition.get("outputSchema"), more), contract),
        artifact=declared.artifact,
        before=tuple(step for step in mine if step.event == "PreToolUse"),
        after=tuple(step for step in mine if step.event == "PostToolUse"),
        failure=tuple(step for step in mine if step.event == "PostToolUseFailure"),
    )


def _declared(server: Server, name: str) -> Tool:
    return server.tools.get(name) or server.tools.get(OTHERS) or Tool()


def _outputs(schemas: Sequence[object], contract: Contract) -> tuple[Checker | str, ...]:
    if contract.output == "skip":
        return ()
    return tuple(_compiled(schema, "output") for schema in schemas if schema is not None)


def _compiled(schema: object, purpose: Purpose) -> Checker | str:
    try:
        return compile_schema(schema, purpose)
    except SchemaError as error:
        return f"its pinned {purpose} schema cannot be used: {error}"


def is_complete(result: Mapping[str, Any], *, is_modern: bool) -> bool:
    """Whether a result is the tool's last word and no error, so that it has to be what was promised.

    Only a question to the client, which the 2026-07-28 protocol has, is not, and one brings no structured content.
    Tasks are not offered: whatever else a result calls itself, it is held to the promise.
    """
    if result.get("isError") is True:
        return False
    is_question = is_modern and result.get("resultType") == "input_required"
    return not is_question or result.get("structuredContent") is not None
