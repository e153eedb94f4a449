"""What tools promise must be something that can be checked."""

import json
from collections.abc import Iterator

from registry.rules.base import Context, Finding, at


def bad_output_schema(context: Context) -> Iterator[Finding]:
    """A schema that cannot be compiled fails every call; its compiler loads only where there is one."""
    judged: dict[str, str | None] = {}
    for server in context.servers():
        for name, tool in server.tools.items():
            if tool.output_schema is not None:
                text = json.dumps(tool.output_schema, sort_keys=True)
                reason = judged[text] = judged[text] if text in judged else _fault(tool.output_schema)
                if reason is not None:
                    yield Finding(at(server, "tools", name, "output_schema"), f"it cannot be used: {reason}")


def _fault(schema: object) -> str | None:
    from registry.contracts.schemas import SchemaError, compile_schema  # noqa: PLC0415 -- the compiler is large

    try:
        compile_schema(schema, "output")
    except SchemaError as error:
        return str(error)
    return None
