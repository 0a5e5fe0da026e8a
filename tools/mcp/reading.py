"""What a server has besides tools, resources and prompts, as tools of it whose words are ours.

They are found, accepted one by one, called and labelled as those that the server describes itself. One of the server's own
that has the same name goes before ours.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import mcp_types
from mcp import Client
from mcp.shared.exceptions import MCPError

LISTED_MAX = 300
_PAGES_MAX = 20
_URI = {"type": "string", "minLength": 1, "maxLength": 2000, "description": "As list_resources names it."}
_NAME = {"type": "string", "minLength": 1, "maxLength": 200, "description": "As list_prompts names it."}
_GIVEN = {"type": "object", "additionalProperties": {"type": "string"}, "description": "The prompt's own arguments."}


def _tool(name: str, description: str, /, **properties: dict[str, Any]) -> mcp_types.Tool:
    required = [one for one in properties if one != "arguments"]
    schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    return mcp_types.Tool(name=name, description=description, input_schema=schema)


LIST_RESOURCES = _tool("list_resources", "Lists the resources that this MCP server offers, by address.")
READ_RESOURCE = _tool("read_resource", "Reads a resource of this MCP server; what is no text is kept.", uri=_URI)
LIST_PROMPTS = _tool("list_prompts", "Lists the prompts that this MCP server offers.")
GET_PROMPT = _tool("get_prompt", "Gets a prompt of this MCP server, filled in.", name=_NAME, arguments=_GIVEN)


def offered(client: Client) -> dict[str, mcp_types.Tool]:
    """By name, as the server says what it can do."""
    can = client.server_capabilities
    found = [LIST_RESOURCES, READ_RESOURCE] if can.resources is not None else []
    return {one.name: one for one in [*found, *([LIST_PROMPTS, GET_PROMPT] if can.prompts is not None else [])]}


def ours(tool: mcp_types.Tool | None) -> bool:
    return any(tool is one for one in (LIST_RESOURCES, READ_RESOURCE, LIST_PROMPTS, GET_PROMPT))


async def call(client: Client, tool: mcp_types.Tool, arguments: Mapping[str, Any]) -> mcp_types.CallToolResult:
    """As the server's own tools answer."""
    return mcp_types.CallToolResult(content=await _CALLS[tool.name](client, arguments))


async def _read_resource(client: Client, arguments: Mapping[str, Any]) -> list[mcp_types.ContentBlock]:
    found = await client.read_resource(str(arguments["uri"]))
    return [mcp_types.EmbeddedResource(type="resource", resource=one) for one in found.contents]


async def _list_resources(client: Client, arguments: Mapping[str, Any]) -> list[mcp_types.ContentBlock]:
    lines = [
        _line(str(one.uri), one.mime_type, one.name, one.description)
        async for one in _pages(client.list_resources, "resources")
    ]
    with contextlib.suppress(MCPError):  # many servers have no templates, and say so by an error
        lines += [
            _line(f"{one.uri_template} (a template)", one.mime_type, one.name, one.description)
            async for one in _pages(client.list_resource_templates, "resource_templates")
        ]
    return _text(lines)


async def _list_prompts(client: Client, arguments: Mapping[str, Any]) -> list[mcp_types.ContentBlock]:
    lines = []
    async for one in _pages(client.list_prompts, "prompts"):
        takes = ", ".join(f"{each.name}{'' if each.required else '?'}" for each in one.arguments or [])
        lines.append(_line(f"{one.name}({takes})", one.title, one.description))
    return _text(lines)


async def _get_prompt(client: Client, arguments: Mapping[str, Any]) -> list[mcp_types.ContentBlock]:
    found = await client.get_prompt(str(arguments["name"]), dict(arguments.get("arguments") or {}))
    blocks: list[mcp_types.ContentBlock] = []
    for message in found.messages:
        blocks += [mcp_types.TextContent(type="text", text=f"{message.role}:"), message.content]
    return blocks


async def _pages(ask: Callable[..., Awaitable[Any]], field: str) -> AsyncIterator[Any]:
    cursor, left = None, LISTED_MAX
    for _ in range(_PAGES_MAX):
        page = await ask(cursor=cursor)
        for one in getattr(page, field)[:left]:
            yield one
        left -= len(getattr(page, field))
        cursor = page.next_cursor
        if not cursor or left <= 0:
            return


def _line(*words: str | None) -> str:
    return " · ".join(" ".join(word.split())[:500] for word in words if word)


def _text(lines: list[str]) -> list[mcp_types.ContentBlock]:
    return [mcp_types.TextContent(type="text", text="\n".join(lines) or "There are none.")]


_CALLS = {
    LIST_RESOURCES.name: _list_resources,
    READ_RESOURCE.name: _read_resource,
    LIST_PROMPTS.name: _list_prompts,
    GET_PROMPT.name: _get_prompt,
}
