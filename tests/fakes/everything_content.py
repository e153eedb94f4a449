"""The part of the full fixture that needs nothing of the client: plain tools, resources, prompts, completion."""

import json
from typing import Annotated, Any, Final

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, UserMessage
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

SCHEMA_2020_12: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(value: str) -> types.TextContent:
    return types.TextContent(type="text", text=value)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, mime_type: str, value: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=value)
    return types.EmbeddedResource(type="resource", resource=contents)


def add_tools(server: MCPServer) -> None:
    def test_simple_text() -> list[types.ContentBlock]:
        """Return a sentence."""
        return [text("This is a simple text response for testing.")]

    def test_image_content() -> list[types.ContentBlock]:
        """Return an image."""
        return [image()]

    def test_audio_content() -> list[types.ContentBlock]:
        """Return a sound."""
        return [types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    def test_embedded_resource() -> list[types.ContentBlock]:
        """Return an embedded resource."""
        return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]

    def test_multiple_content_types() -> list[types.ContentBlock]:
        """Return a sentence, an image and a resource."""
        mixed = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
        return [text("Multiple content types test:"), image(), mixed]

    def test_error_handling() -> types.CallToolResult:
        """Fail, as a tool fails."""
        return types.CallToolResult(
            content=[text("This tool intentionally returns an error for testing")], is_error=True
        )

    def test_header_parameter(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], note: str = ""
    ) -> list[types.ContentBlock]:
        """Mirror one argument in a header."""
        return [text(f"{region} {note}".strip())]

    for function in (
        test_simple_text,
        test_image_content,
        test_audio_content,
        test_embedded_resource,
        test_multiple_content_types,
        test_header_parameter,
    ):
        server.add_tool(function, structured_output=False)
    server.add_tool(test_error_handling)


def schema_tool() -> Tool:
    def json_schema_2020_12_tool(name: str = "", email: str = "", phone: str = "") -> list[types.ContentBlock]:
        """Tool with JSON Schema 2020-12 features"""
        return [text(f"{name} {email} {phone}")]

    tool = Tool.from_function(json_schema_2020_12_tool, structured_output=False)
    return tool.model_copy(update={"parameters": SCHEMA_2020_12})


def add_timed_tools(server: MCPServer) -> None:
    async def test_tool_with_logging(ctx: Context) -> list[types.ContentBlock]:
        """Log three times."""
        for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(line)  # pyright: ignore[reportDeprecated]
            await anyio.sleep(0.05)
        return [text("Tool with logging executed")]

    async def test_logging_tool(ctx: Context) -> list[types.ContentBlock]:
        """Log once, where the client asked for logs."""
        await ctx.info("logged")  # pyright: ignore[reportDeprecated]
        return [text("Logged")]

    async def test_tool_with_progress(ctx: Context) -> list[types.ContentBlock]:
        """Report progress three times."""
        for progress in (0, 50, 100):
            await ctx.report_progress(progress, 100)
            await anyio.sleep(0.05)
        return [text("Tool with progress executed")]

    async def test_reconnection(ctx: Context) -> list[types.ContentBlock]:
        """Close the stream in the middle, where the transport can, and answer after the client came back."""
        await ctx.close_sse_stream()
        await anyio.sleep(0.3)
        return [text("Reconnection test completed")]

    for function in (test_tool_with_logging, test_logging_tool, test_tool_with_progress, test_reconnection):
        server.add_tool(function, structured_output=False)


def add_resources(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """A picture."""
        import base64

        return base64.b64decode(PNG)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template_data(id: str) -> str:  # noqa: A002 - the name in the template
        """The data of an id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """Something that can be subscribed to."""
        return "Watched resource content"


def add_prompts(server: MCPServer) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the argument's name
        """A prompt with a resource in it."""
        resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with an image in it."""
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]

    @server.completion()
    async def complete(ref: object, argument: types.CompletionArgument, context: object) -> types.Completion:
        words = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return types.Completion(values=words, total=len(words), has_more=False)


def add_legacy_methods(server: MCPServer) -> None:
    """`resources/subscribe`, `resources/unsubscribe` and `logging/setLevel`, which the SDK leaves to the server."""

    async def accept(ctx: ServerRequestContext[Any, Any], params: types.RequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    lowlevel = server._lowlevel_server
    lowlevel.add_request_handler("resources/subscribe", types.SubscribeRequestParams, accept)
    lowlevel.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, accept)
    lowlevel.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)
