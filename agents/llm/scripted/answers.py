"""One question, one answer: a diff reviewed by plain rules; any other schema filled with the least that fits it."""

import re
from collections.abc import Iterator
from typing import Any

from agents.llm.scripted import chatting, searching
from agents.llm.scripted.look import WHO
from agents.llm.scripted.scene import Move, Scene

ANSWER = "answer"
FINDINGS_MOST = 20

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)")
# (what an added line shows, how grave, what to say)
RULES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"(?i)(password|secret|api_?key|token)\s*=\s*['\"][^'\"]{4,}"), "high", "A secret stands in the code."),
    (re.compile(r"\b(eval|exec)\("), "high", "It runs text as code."),
    (re.compile(r"except\s*:|except Exception:\s*pass"), "medium", "It hides every error."),
    (re.compile(r"\b(TODO|FIXME|XXX)\b"), "low", "It leaves work undone: say where it is tracked."),
    (re.compile(r"^\s*print\("), "low", "It prints: is this meant to stay?"),
    (re.compile(r"^.{121,}$"), "low", "The line is longer than 120 characters."),
)


def asked(scene: Scene) -> bool:
    """Is this a single question? Then `answer` is the only function, or there is none."""
    return set(scene.functions) <= {ANSWER}


def move(scene: Scene) -> Move:
    schema = scene.schema
    if schema is None:
        return Move(words=f"{WHO} It has no opinion of its own.")
    names = set(schema.get("properties", {}))
    value = _review(scene.goal, schema) if {"summary", "findings"} <= names else _least(schema)
    if searching.asked(names):
        value = searching.candidate(scene.goal)
    if names == {"title"}:
        value = {"title": chatting.title(scene.goal)}
    return Move(words="", answer=value if isinstance(value, dict) else {})


def _review(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What the rules find in the added lines of a diff; fields that are not known are filled with the least."""
    found = list(findings(text))[:FINDINGS_MOST]
    files = len(re.findall(r"(?m)^\+\+\+ ", text))
    grave = any(one["severity"] == "high" for one in found)
    count = f"{len(found)} finding{'s' if len(found) != 1 else ''}"
    known = {
        "summary": f"{WHO} By its rules: {count} in {files} changed file{'s' if files != 1 else ''}.",
        "verdict": "request_changes" if grave else "comment" if found else "approve",
        "findings": found,
    }
    return {**_least(schema), **{name: one for name, one in known.items() if name in schema["properties"]}}


def findings(text: str) -> Iterator[dict[str, Any]]:
    """What the rules find in the added lines of a diff."""
    path, line = "", 0
    for row in text.splitlines():
        if row.startswith("+++ "):
            path = row[4:].strip().removeprefix("b/")
        elif found := _HUNK.match(row):
            line = int(found[1]) - 1
        elif row.startswith("+"):
            line += 1
            for pattern, severity, comment in RULES:
                if path and pattern.search(row[1:]):
                    yield {"file": path, "line": line, "severity": severity, "comment": comment}
        elif not row.startswith("-"):
            line += 1


def _least(schema: Any) -> Any:
    """The smallest value that a plain schema takes."""
    if not isinstance(schema, dict):
        return None
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        return {name: _least(schema.get("properties", {}).get(name)) for name in schema.get("required", [])}
    if kind == "array":
        return [_least(schema.get("items"))] * int(schema.get("minItems", 0))
    if kind == "string":
        return "scripted".ljust(int(schema.get("minLength", 0)), ".")[: int(schema.get("maxLength", 8000))]
    return {"integer": schema.get("minimum", 0), "number": schema.get("minimum", 0), "boolean": False}.get(str(kind))
