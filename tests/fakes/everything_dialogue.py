"""The part of the full fixture that asks the client back: by request (legacy era) or by result (2026-07-28)."""

from typing import Any, Final, TypeAlias

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError

from tests.fakes.everything_content import text

Answer: TypeAlias = list[types.ContentBlock] | types.InputRequiredResult

NAME_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
USER_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}


def _titled(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in pairs]


ENUMS_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": _titled(("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")),
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": _titled(("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice"))
            },
        },
    },
}


def add_requests_to_the_client(server: MCPServer) -> None:
    """Sampling and elicitation as the handshake era has them."""

    async def elicit(ctx: Context, message: str, form: dict[str, Any]) -> str:
        result = await ctx.session.elicit_form(message, form, related_request_id=ctx.request_context.request_id)
        return f"action={result.action}, content={result.content}"

    async def test_sampling(prompt: str, ctx: Context) -> list[types.ContentBlock]:
        """Ask the client's model."""
        message = types.SamplingMessage(role="user", content=text(prompt))
        result = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
            [message], max_tokens=100, related_request_id=ctx.request_context.request_id
        )
        return [text(f"LLM response: {_said(result)}")]

    async def test_elicitation(message: str, ctx: Context) -> list[types.ContentBlock]:
        """Ask the user."""
        return [text(f"User response: {await elicit(ctx, message, USER_FORM)}")]

    async def test_elicitation_sep1034_defaults(ctx: Context) -> list[types.ContentBlock]:
        """Ask with defaults."""
        return [text(f"Elicitation completed: {await elicit(ctx, 'Please review', DEFAULTS_FORM)}")]

    async def test_elicitation_sep1330_enums(ctx: Context) -> list[types.ContentBlock]:
        """Ask with choices."""
        return [text(f"Elicitation completed: {await elicit(ctx, 'Please choose', ENUMS_FORM)}")]

    for function in (
        test_sampling,
        test_elicitation,
        test_elicitation_sep1034_defaults,
        test_elicitation_sep1330_enums,
    ):
        server.add_tool(function, structured_output=False)


def ask_form(message: str, form: dict[str, Any]) -> types.ElicitRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=form))


def ask_model(prompt: str, max_tokens: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=text(prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def ask_one(key: str, property_name: str, kind: str, message: str) -> dict[str, types.InputRequest]:
    form = {"type": "object", "properties": {property_name: {"type": kind}}, "required": [property_name]}
    return {key: ask_form(message, form)}


def _said(result: object) -> str:
    content = getattr(result, "content", None)
    return content.text if isinstance(content, types.TextContent) else str(content)


def form_value(ctx: Context, key: str, property_name: str) -> object:
    """What the user filled in, or None when it was not answered as asked."""
    response = (ctx.input_responses or {}).get(key)
    if not isinstance(response, types.ElicitResult) or response.action != "accept":
        return None
    return (response.content or {}).get(property_name)


def add_input_required_tools(server: MCPServer) -> None:
    """The same questions as results that the client answers by calling again."""

    async def test_input_required_result_elicitation(ctx: Context) -> Answer:
        """Ask for a name."""
        name = form_value(ctx, "user_name", "name")
        if not isinstance(name, str):
            return types.InputRequiredResult(
                input_requests=ask_one("user_name", "name", "string", "What is your name?")
            )
        return [text(f"Hello, {name}!")]

    async def test_input_required_result_sampling(ctx: Context) -> Answer:
        """Ask the model for a capital."""
        answer = (ctx.input_responses or {}).get("capital_question")
        if answer is None:
            question = ask_model("What is the capital of France?", 100)
            return types.InputRequiredResult(input_requests={"capital_question": question})
        return [text(f"Model said: {_said(answer)}")]

    async def test_input_required_result_list_roots(ctx: Context) -> Answer:
        """Ask for the roots."""
        answer = (ctx.input_responses or {}).get("client_roots")
        if not isinstance(answer, types.ListRootsResult):
            return types.InputRequiredResult(input_requests={"client_roots": types.ListRootsRequest()})
        return [text(f"Roots: {[str(root.uri) for root in answer.roots]}")]

    async def test_input_required_result_capabilities(ctx: Context) -> Answer:
        """Ask only what the client can answer."""
        if ctx.input_responses:
            return [text("done")]
        known = ctx.client_capabilities
        requests: dict[str, types.InputRequest] = {}
        if known is not None and known.elicitation is not None:
            requests |= ask_one("form", "name", "string", "What is your name?")
        if known is not None and known.sampling is not None:
            requests["model"] = ask_model("Say something", 50)
        return types.InputRequiredResult(input_requests=requests) if requests else [text("nothing to ask")]

    for function in (
        test_input_required_result_elicitation,
        test_input_required_result_sampling,
        test_input_required_result_list_roots,
        test_input_required_result_capabilities,
    ):
        server.add_tool(function, structured_output=False)


def add_stateful_tools(server: MCPServer) -> None:
    """Questions with `requestState`, which the SDK seals against changes."""

    async def test_input_required_result_request_state(ctx: Context) -> Answer:
        """Ask, and check the state that comes back."""
        if not ctx.input_responses:
            questions = ask_one("confirm", "ok", "boolean", "Please confirm")
            return types.InputRequiredResult(input_requests=questions, request_state="confirming")
        return [text("state-ok" if ctx.request_state == "confirming" else "state-wrong")]

    async def test_input_required_result_tampered_state(ctx: Context) -> Answer:
        """Ask, and never accept a state that was changed."""
        if ctx.request_state is None:
            questions = ask_one("confirm", "ok", "boolean", "Please confirm")
            return types.InputRequiredResult(input_requests=questions, request_state="untampered")
        return [text("state-ok")]

    async def test_input_required_result_multiple_inputs(ctx: Context) -> Answer:
        """Ask three things at once."""
        if len(ctx.input_responses or {}) >= 3 and ctx.request_state == "three":
            return [text("all three answered")]
        questions = ask_one("user_name", "name", "string", "What is your name?")
        questions["greeting"] = ask_model("Generate a greeting", 50)
        questions["client_roots"] = types.ListRootsRequest()
        return types.InputRequiredResult(input_requests=questions, request_state="three")

    async def test_input_required_result_multi_round(ctx: Context) -> Answer:
        """Ask twice."""
        if ctx.request_state is None:
            questions = ask_one("step1", "name", "string", "Step 1: What is your name?")
            return types.InputRequiredResult(input_requests=questions, request_state="round-1")
        if ctx.request_state == "round-1":
            questions = ask_one("step2", "color", "string", "Step 2: What is your favorite color?")
            return types.InputRequiredResult(input_requests=questions, request_state="round-2")
        return [text(f"color {form_value(ctx, 'step2', 'color')}")]

    for function in (
        test_input_required_result_request_state,
        test_input_required_result_tampered_state,
        test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round,
    ):
        server.add_tool(function, structured_output=False)


def add_input_required_prompt(server: MCPServer) -> None:
    async def test_input_required_result_prompt(ctx: Context) -> str | types.InputRequiredResult:
        """A prompt that asks for its context."""
        context = form_value(ctx, "user_context", "context")
        if not isinstance(context, str):
            questions = ask_one("user_context", "context", "string", "What context should the prompt use?")
            return types.InputRequiredResult(input_requests=questions)
        return f"Use this context: {context}"

    server.prompt()(test_input_required_result_prompt)


def add_stateless_probes(server: MCPServer) -> None:
    """What the `server-stateless` scenario calls."""

    async def test_missing_capability(ctx: Context) -> list[types.ContentBlock]:
        """Need sampling."""
        known = ctx.client_capabilities
        if known is None or known.sampling is None:
            raise MCPError(
                code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="this tool needs sampling",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return [text("sampling is there")]

    async def test_streaming_elicitation(ctx: Context) -> Answer:
        """Ask on a stream, never by a request of its own."""
        await ctx.report_progress(1, 2)
        if form_value(ctx, "user_name", "name") is None:
            return types.InputRequiredResult(input_requests=ask_one("user_name", "name", "string", "Name?"))
        return [text("named")]

    async def test_trigger_tool_change(ctx: Context) -> list[types.ContentBlock]:
        """Add a tool, take it away again, and say so."""

        def test_dynamic_tool() -> str:
            """Come and go."""
            return "dynamic"

        server.add_tool(test_dynamic_tool, structured_output=False)
        server.remove_tool("test_dynamic_tool")
        await ctx.notify_tools_changed()
        return [text("tools changed")]

    async def test_trigger_prompt_change(ctx: Context) -> list[types.ContentBlock]:
        """Say that the prompts changed."""
        await ctx.notify_prompts_changed()
        return [text("prompts changed")]

    for function in (
        test_missing_capability,
        test_streaming_elicitation,
        test_trigger_tool_change,
        test_trigger_prompt_change,
    ):
        server.add_tool(function, structured_output=False)
