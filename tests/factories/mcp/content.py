"""Tools, resources and prompts that give fixed contents."""

import asyncio
import base64
import json
import struct
import zlib
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    AudioContent,
    Completion,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field

BEAT_S = 0.05


def _png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _wav() -> bytes:
    """Eight silent samples."""
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    return (
        b"RIFF" + struct.pack("<I", 44) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data\x08\0\0\0" + b"\x80" * 8
    )


PNG, WAV = _png(), _wav()
IMAGE = ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")


def _resource(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def add_to(server: MCPServer[Any]) -> None:
    _tools(server)
    _talking(server)
    _resources(server)
    _prompts(server)
    _older(server)


def _tools(server: MCPServer[Any]) -> None:
    @server.tool(description="A text.")
    async def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool(description="An image.", structured_output=False)
    async def test_image_content() -> ImageContent:
        return IMAGE

    @server.tool(description="A sound.", structured_output=False)
    async def test_audio_content() -> AudioContent:
        return AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav")

    @server.tool(description="A resource in the answer.", structured_output=False)
    async def test_embedded_resource() -> EmbeddedResource:
        return _resource("test://embedded-resource", "This is an embedded resource content.")

    @server.tool(description="Several kinds of contents.", structured_output=False)
    async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        data = json.dumps({"test": "data", "value": 123})
        return [
            TextContent(type="text", text="Multiple content types test:"),
            IMAGE,
            _resource("test://mixed-content-resource", data, "application/json"),
        ]

    @server.tool(description="Always fails.")
    async def test_error_handling() -> str:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(description="Reads a header.", structured_output=False)
    async def test_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        return region

    # the schema of the suite, which no function's signature says
    async def json_schema_2020_12_tool() -> str:
        return "fits"

    server.add_tool(json_schema_2020_12_tool, description="A schema with many words.")
    server._tool_manager.get_tool("json_schema_2020_12_tool").parameters = SCHEMA


def _talking(server: MCPServer[Any]) -> None:
    async def logs(ctx: Context[Any, Any]) -> str:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.log("info", text)
            await asyncio.sleep(BEAT_S)
        return "logged"

    for name in ("test_tool_with_logging", "test_logging_tool"):
        server.add_tool(logs, name=name, description="Sends log messages.")

    @server.tool(description="Tells its progress.")
    async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100)
            await asyncio.sleep(BEAT_S)
        return "done"

    @server.tool(description="Says that the tools changed.")
    async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
        await ctx.notify_tools_changed()
        return "told"

    @server.tool(description="Says that the prompts changed.")
    async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
        await ctx.notify_prompts_changed()
        return "told"

    @server.tool(description="Closes its stream, and answers on the next one.")
    async def test_reconnection(ctx: Context[Any, Any]) -> str:
        await ctx.close_sse_stream()
        await asyncio.sleep(BEAT_S)
        return "Reconnection test completed successfully"


def _resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", name="static text", description="A text.", mime_type="text/plain")
    async def text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static binary", description="A picture.", mime_type="image/png")
    async def binary() -> bytes:
        return PNG

    @server.resource("test://watched-resource", name="watched", description="May be watched.", mime_type="text/plain")
    async def watched() -> str:
        return "watched"

    @server.resource(
        "test://template/{id}/data", name="template", description="By a number.", mime_type="application/json"
    )
    async def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(server: MCPServer[Any]) -> None:
    @server.prompt(description="A text.")
    async def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description="With two arguments.")
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description="With a resource.")
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:
        found = _resource(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(found), UserMessage("Please process the embedded resource above.")]

    @server.prompt(description="With a picture.")
    async def test_prompt_with_image() -> list[Any]:
        return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        words = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=words, total=len(words), has_more=False)


def _older(server: MCPServer[Any]) -> None:
    """What only the handshake era has, and a server of it may leave out."""
    watched: set[str] = set()

    async def level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        watched.add(str(params.uri))
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        watched.discard(str(params.uri))
        return EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("logging/setLevel", SetLevelRequestParams, level)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


SCHEMA: dict[str, Any] = {
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
