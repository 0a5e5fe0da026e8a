"""The functions that a model is offered: the agent's tools, and `finish`."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from agents.llm.names import to_wire
from tools import registry
from tools.spec import Effect, Tool

FINISH = "finish"
REASON, DANGER = "reason", "danger"
ALWAYS = frozenset({"human.ask"})  # whoever may not ask a person has to guess

_REASON = {"type": "string", "description": "Why you make this call, in one sentence. People who approve it read this."}
_DANGER = {
    "type": "string",
    "enum": ["low", "medium", "high"],
    "description": "How dangerous you judge this call. People look closer at what you call dangerous.",
}
_FINISH: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": FINISH,
        "description": "Ends the job. Call it alone, when the goal is reached or cannot be reached.",
        "parameters": {
            "type": "object",
            "properties": {
                "success": {"type": "boolean", "description": "Is the goal reached, as seen in tool results?"},
                "summary": {
                    "type": "string",
                    "description": "What was done, what was not, and what people should know.",
                },
            },
            "required": ["success", "summary"],
            "additionalProperties": False,
        },
    },
}


def offered(patterns: Iterable[str]) -> list[Tool]:
    """The tools that an agent with these patterns (`git.*`) may ask for, by name."""
    wanted = list(patterns)
    return [
        tool
        for tool in registry.every()
        if tool.offered and (tool.name in ALWAYS or any(fnmatchcase(tool.name, pattern) for pattern in wanted))
    ]


def as_functions(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """The `tools` of a request: always in the same order, so that endpoints can reuse their cache of the prompt."""
    return [*(_function(tool) for tool in tools), _FINISH]


def takes_reason(tool: Tool) -> bool:
    """False for a tool that has a `reason` of its own: then it is an argument like the others."""
    return REASON not in tool.schema.get("properties", {})


def takes_danger(tool: Tool) -> bool:
    """False of what only reads, and of a tool that has an argument of that name."""
    return tool.effect is not Effect.READ and DANGER not in tool.schema.get("properties", {})


def _function(tool: Tool) -> dict[str, Any]:
    schema = dict(tool.schema)
    if takes_reason(tool):
        schema["properties"] = {**schema.get("properties", {}), REASON: _REASON}
    if takes_danger(tool):
        schema["properties"] = {**schema.get("properties", {}), DANGER: _DANGER}
    return {
        "type": "function",
        "function": {"name": to_wire(tool.name), "description": tool.summary, "parameters": schema},
    }
