"""Names and definitions of what MCP servers offer: the same every time, and none that passes for another."""

import mcp_types
import pytest

from tools.definitions import NAME, flaw
from tools.mcp.defining import found_of
from tools.mcp.models import McpServer
from tools.mcp.naming import tool_names

SERVER = McpServer(name="s", command="x", args=["y"])


@pytest.mark.parametrize(
    ("original", "word"),
    [
        ("git_status", "git_status"),
        ("getTinyImage", "get_tiny_image"),
        ("get-tiny-image", "get_tiny_image"),
        ("HTTPGet", "http_get"),
        ("2fa", "t_2fa"),
        ("admin.tools.list", "admin_tools_list"),
    ],
)
def test_names_are_words(original, word):
    assert tool_names("s", [original]) == {original: f"mcp.s.{word}"}


@pytest.mark.parametrize("original", ["", "…", "ünïcode", "a" * 200, "\u0440ush", "a\nb", "A" + "b" * 60])
def test_odd_names_are_names_of_their_own(original):
    made = tool_names("s", [original, "push", "code"])
    assert len(set(made.values())) == 3 and all(NAME.fullmatch(name) for name in made.values())


def test_names_do_not_depend_on_the_order():
    originals = ["a-b", "a_b", "aB", "c", "x" * 60, "x" * 61]
    made = tool_names("s", originals)
    assert made == tool_names("s", reversed(originals))
    assert len(set(made.values())) == len(originals) and made["c"] == "mcp.s.c"


def tool(**fields):
    return mcp_types.Tool(**{"name": "t", "description": "Does it.", "input_schema": {"type": "object"}, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "Look\u202e here"},
        {"description": "tag \U000e0041"},
        {"input_schema": {"type": "array"}},
        {"input_schema": {"type": "object", "properties": {"a": {"$ref": "https://example.org/schema"}}}},
        {"input_schema": {"type": "object", "properties": {"a": {"type": "nothing"}}}},
        {"description": "x", "input_schema": {"type": "object", "description": "x" * 200_000}},
        {"input_schema": {"type": "object", "properties": {"a": {"default": 2**60}}}},
    ],
)
def test_what_is_no_plain_definition_cannot_be_accepted(fields):
    (found,) = found_of(SERVER, [tool(**fields)])
    assert found.problem or flaw(found.name, found.origin, found.definition)


def test_a_plain_definition_can():
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}}
    (found,) = found_of(SERVER, [tool(input_schema=schema, description="Line one.\n\n  Line two. " + "x" * 3000)])
    assert not found.problem and flaw(found.name, found.origin, found.definition) == ""
    assert found.definition["summary"].startswith("Line one. Line two. x") and len(found.definition["summary"]) == 1000
    assert found.definition["mcp"]["reached"]["args"] == ["y"]
    again = found_of(McpServer(name="s", command="x", args=["z"]), [tool(input_schema=schema)])
    assert again[0].definition != found.definition
