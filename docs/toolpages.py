"""The reference's pages about tools: one page a tool, and their index. Used by `generate.py`."""

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tools import registry
from tools.spec import Effect, Tool

EFFECTS = {
    Effect.READ: "It changes nothing: a lost attempt runs again.",
    Effect.REPEATABLE: "It may run again after a lost attempt.",
    Effect.ONCE: "A lost attempt may have happened: it is probed, and where that cannot tell, a person says.",
}
LINE_MAX = 110
PROFILES = {
    "read": "Nothing by itself: its commands write in the sandbox alone.",
    "build": "The work tree, where no command's sandbox could hold it back.",
    "git": "The work tree and the git directory, where no command's sandbox could hold it back.",
}


def pages(note: str) -> dict[str, str]:
    """File name below docs/reference -> text. Raises SystemExit where a tool declares no examples."""
    tools = registry.builtin()
    if bare := [tool.name for tool in tools if not tool.examples]:
        raise SystemExit(f"docs/generate.py: {', '.join(bare)} declare no examples.")
    return {"tools.md": note + index(tools), **{f"tools/{tool.name}.md": note + page(tool) for tool in tools}}


def index(tools: list[Tool]) -> str:
    text = (
        "# Tools\n\n"
        "What steps can do. Plans name tools; agents are offered those that their `tools` patterns cover. Each has a page "
        "with its arguments, limits and examples; `GET /api/v1/tools` gives the whole JSON Schema of each.\n\n"
        "- **Effect** says what a lost attempt means. `read` changed nothing; `repeatable` may run again; `once` may have "
        "happened: it is probed, and where that cannot tell, a person says.\n"
        "- **Risk** decides only whether people are asked (`call.risk` in a policy's condition). What contains a command "
        "is the sandbox.\n"
        "- **Engine's own** tools are governed and recorded like all others, and cannot be named by a plan or a model.\n"
        "- Further tools come as [plugins](../howto/plugins.md) and of [MCP servers](../howto/mcp-client.md): none may be "
        "used until an administrator enables it.\n"
    )
    groups: dict[str, list[Tool]] = {}
    for tool in tools:
        groups.setdefault(tool.name.partition(".")[0], []).append(tool)
    for name, members in groups.items():
        text += f"\n## {name}\n\n| Tool | Queue | Effect | |\n|---|---|---|---|\n"
        for tool in members:
            text += (
                f"| [`{tool.name}`](tools/{tool.name}.md) | {tool.queue} | {tool.effect} | {cell(_summary(tool))} |\n"
            )
    return text


def page(tool: Tool) -> str:
    text = f"# {tool.name}\n\n{_summary(tool)}\n\n[All tools](../tools.md)\n\n| | |\n|---|---|\n"
    for word, meaning in _facts(tool):
        text += f"| {word} | {cell(meaning)} |\n"
    text += "\n## Arguments\n" + _arguments(tool.schema)
    if said := _said(tool, "check"):
        text += f"\nBeyond this it checks: {_lower(said)}\n"
    for title, words in _ways(tool):
        text += f"\n## {title}\n\n{words}\n"
    text += "\n## Risk\n\n" + (_said(tool, "risk") or _plain_risk(tool)) + "\n"
    text += "\n## Examples\n"
    for arguments in tool.examples:
        registry.validate(tool, arguments)
        risk = tool.risk(arguments)
        call = {"tool": tool.name, "arguments": arguments}
        shown = json.dumps(call, ensure_ascii=False)
        if len(shown) > LINE_MAX:
            shown = json.dumps(call, indent=2, ensure_ascii=False)
        why = f": {'; '.join(risk.reasons)}" if risk.reasons else ""
        text += (
            f"\n```json\n{shown}\n```\n\nRead by people as {_code(tool.describe(arguments))}. Risk {risk.level}{why}.\n"
        )
    return text


def _summary(tool: Tool) -> str:
    return tool.summary if tool.offered else f"{tool.summary} (Engine's own.)"


def _facts(tool: Tool) -> Iterator[tuple[str, str]]:
    limits = tool.limits
    yield "Effect", f"`{tool.effect}`. {EFFECTS[tool.effect]}"
    yield "Queue", f"`{tool.queue}`"
    if tool.asks_person:
        yield "Ends", "When a person answers; no worker waits with it."
    elif tool.starts_job:
        yield "Ends", "When the job that it starts ends; no worker waits with it."
    else:
        yield "Time", f"at most {limits.timeout_s:g} s"
        yield "Memory, processes", f"{size(limits.memory_bytes)}, {limits.processes}"
        yield "Largest file", size(limits.file_size_bytes)
        kept = (
            f"the first {size(limits.output_head_bytes)} and the last {size(limits.output_tail_bytes)} of each stream"
        )
        yield "Output", f"{kept}; ended beyond {size(limits.output_kill_bytes)}"
        yield "Writes", PROFILES[tool.needs_profile]
    yield "Offered to models", "yes" if tool.offered else "no"
    yield "Schema version", str(tool.schema_version)


def _ways(tool: Tool) -> Iterator[tuple[str, str]]:
    """(heading, text) of what it does before and after it runs."""
    if _own(tool, "preview"):
        yield "Preview", _said(tool, "preview") or "What it would do, made by a dry run without effect."
    else:
        yield "Preview", "None: the call itself, as it would be typed, is what people see."
    if _own(tool, "target_state"):
        said = _said(tool, "target_state")
        said = f"`{said}`" if said.startswith("{") else said
        always = "Taken down when people are asked; where it is another when the call begins, they are asked again."
        yield "What an approval holds fast", f"{said}\n\n{always}".strip()
    if _own(tool, "probe"):
        yield "Probe", _said(tool, "probe") or "Asked after a lost attempt: did it happen?"
    elif tool.effect is Effect.ONCE and not tool.starts_job:
        yield "Probe", "None: a person says whether a lost attempt happened."
    if tool.undone_by:
        yield "Undoing", tool.undone_by


def _own(tool: Tool, method: str) -> bool:
    return getattr(type(tool), method) is not getattr(Tool, method)


def _said(tool: Tool, method: str) -> str:
    """What the tool's own method promises, in one paragraph; "" where it has none, or no words."""
    if not _own(tool, method):
        return ""
    function = getattr(type(tool), method)
    words = inspect.cleandoc(function.__doc__ or "").partition("\nRaises:")[0]
    words = words.partition("Raises ")[0] if words.startswith("Raises ") else words
    said = " ".join(words.split())
    return "" if said.startswith("See ") else said


def _plain_risk(tool: Tool) -> str:
    level = "low" if tool.effect is Effect.READ else "medium"
    return f"By its arguments, as the examples show; {level} where nothing speaks for more."


def _code(text: str) -> str:
    """As Markdown's code, whatever it holds."""
    text = cell(text)
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _arguments(schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"| `{name}` | {cell(kind)} | {'yes' if required else ''} | {cell(meaning)} |\n"
        for name, kind, required, meaning in _fields(schema, "")
    )
    if not rows:
        return "\nNone.\n"
    return f"\n| Argument | Type | Required | |\n|---|---|---|---|\n{rows}"


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, bool, str]]:
    """(path, type with bounds, must it be given, meaning) of each field, and of fields within."""
    required = set(schema.get("required", ()))
    for name, one in schema.get("properties", {}).items():
        words = [
            str(one.get("description", "")),
            f"Default: `{json.dumps(one['default'])}`." if "default" in one else "",
        ]
        yield prefix + name, kind_of(one), name in required, " ".join(filter(None, words))
        inner, mark = (one.get("items", {}), "[]") if one.get("type") == "array" else (one, "")
        if isinstance(inner, Mapping) and inner.get("properties"):
            yield from _fields(inner, f"{prefix}{name}{mark}.")


def kind_of(one: Mapping[str, Any]) -> str:
    """The type of a JSON Schema with its bounds, in words."""
    if "enum" in one:
        return "one of " + ", ".join(
            f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`" for value in one["enum"]
        )
    if "const" in one:
        return f"`{json.dumps(one['const'])}`"
    for word, joined in (("anyOf", " or "), ("oneOf", " or ")):
        if word in one and "type" not in one:
            return joined.join(dict.fromkeys(kind_of(each) for each in one[word] if each))
    kind = one.get("type", "any JSON")
    if isinstance(kind, list):
        return " or ".join(kind_of({**one, "type": each}) for each in kind)
    if kind == "array":
        return _counted("list", one, "minItems", "maxItems", "items") + f" of {kind_of(one['items'])}" * (
            "items" in one
        )
    if kind == "string":
        text = _counted("string", one, "minLength", "maxLength", "characters")
        return text + (f", like `{one['pattern']}`" if "pattern" in one else "")
    if kind == "object":
        values = one.get("additionalProperties")
        text = _counted("object", one, "minProperties", "maxProperties", "fields")
        return text + (f" of {kind_of(values)}" if isinstance(values, Mapping) and values else "")
    bounds = [
        f"from {one['minimum']}" if "minimum" in one else "",
        f"above {one['exclusiveMinimum']}" if "exclusiveMinimum" in one else "",
        f"to {one['maximum']}" if "maximum" in one else "",
    ]
    return " ".join([str(kind), *filter(None, bounds)])


def _counted(kind: str, one: Mapping[str, Any], least: str, most: str, unit: str) -> str:
    low, high = one.get(least), one.get(most)
    if low is not None and low == high:
        return f"{kind} of {low} {unit}"
    if low and high is not None:
        return f"{kind} ({low} to {high} {unit})"
    if high is not None:
        return f"{kind} (at most {high} {unit})"
    return f"{kind} (at least {low} {unit})" if low and low > 1 else f"{kind} (not empty)" if low else kind


def size(count: int) -> str:
    """Bytes, as people read them."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor and count % (factor // 4) == 0:
            return f"{count / factor:g} {unit}"
    return f"{count} bytes"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
