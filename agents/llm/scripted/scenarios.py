"""Scenarios in YAML: what the scripted server answers when, for tests, demonstrations and evaluations.

    rules:
      - when: {goal: "(?i)tidy", turn: 1}          # every condition must hold; the first rule that fits answers
        say: "I look first."
        calls: [{tool: files.list, arguments: {}, reason: "To see what is there."}]
      - when: {last: {tool: files.list, status: OK, text: "notes"}}
        calls: [{tool: finish, arguments: {success: true, summary: "${last.text}"}}]
      - when: {schema: [summary]}                  # asked for an answer of a shape that has this field
        answer: {summary: "Short."}
      - when: {goal: "break"}
        fault: cut                                 # any of agents.llm.scripted.faults; once: true for the first time only
        once: true

Conditions: goal, system and message (regular expressions: the first and the last thing that the user said), turn (which
answer this is, from 1), functions (that are offered, by dotted name), schema (fields of the answer's shape), last (tool,
status, text of the last call's result), model. `${goal}`, `${message}`, `${last.text}` and `${match}` (the first group of
the goal's expression) stand for what the conversation holds. Times are seconds: `delay` before the first word.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from agents.llm.scripted.faults import ALL
from agents.llm.scripted.scene import Ask, Move, Scene

_TEXT = {"type": "string"}
_CALL = {
    "type": "object",
    "properties": {"tool": _TEXT, "arguments": {"type": "object"}, "reason": _TEXT},
    "required": ["tool"],
    "additionalProperties": False,
}
_WHEN = {
    "type": "object",
    "properties": {
        "goal": _TEXT,
        "system": _TEXT,
        "message": _TEXT,
        "model": _TEXT,
        "turn": {"type": "integer", "minimum": 1},
        "functions": {"type": "array", "items": _TEXT},
        "schema": {"type": "array", "items": _TEXT},
        "last": {
            "type": "object",
            "properties": {"tool": _TEXT, "status": _TEXT, "text": _TEXT},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rules": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "when": _WHEN,
                    "say": _TEXT,
                    "calls": {"type": "array", "items": _CALL},
                    "answer": {"type": "object"},
                    "fault": {"enum": sorted(ALL)},
                    "once": {"type": "boolean"},
                    "delay": {"type": "number", "minimum": 0},
                    "usage": {
                        "type": "object",
                        "properties": {
                            "prompt_tokens": {"type": "integer", "minimum": 0},
                            "completion_tokens": {"type": "integer", "minimum": 0},
                            "cached_tokens": {"type": "integer", "minimum": 0},
                        },
                        "additionalProperties": False,
                    },
                },
                "additionalProperties": False,
            },
        }
    },
    "required": ["rules"],
    "additionalProperties": False,
}
_HOLE = re.compile(r"\$\{(goal|message|last\.text|match)\}")


class BadScenario(ValueError):
    """The file is no scenario; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """number: its place, from 0; delay_s: before the first word; usage: instead of what is counted."""

    number: int
    when: Mapping[str, Any]
    say: str = ""
    calls: Sequence[Mapping[str, Any]] = ()
    answer: Mapping[str, Any] | None = None
    fault: str = ""
    once: bool = False
    delay_s: float = 0.0
    usage: Mapping[str, int] | None = None

    @property
    def silent(self) -> bool:
        """It says nothing of its own: a fault, a delay or a count upon what the server would answer anyway."""
        return not (self.say or self.calls or self.answer is not None)

    def fits(self, scene: Scene) -> bool:
        when = self.when
        last = scene.done[-1] if scene.done else None
        wanted = when.get("last")
        return (
            _found(when.get("goal"), scene.goal)
            and _found(when.get("system"), scene.system)
            and _found(when.get("message"), scene.message)
            and _found(when.get("model"), scene.model)
            and when.get("turn", scene.turn) == scene.turn
            and all(scene.has(name) for name in when.get("functions", ()))
            and set(when.get("schema", ())) <= set((scene.schema or {}).get("properties", {}))
            and ("schema" not in when or scene.schema is not None)
            and (
                wanted is None
                or (
                    last is not None
                    and wanted.get("tool", last.name) == last.name
                    and wanted.get("status", last.status) == last.status
                    and _found(wanted.get("text"), f"{last.line}\n{last.text}")
                )
            )
        )

    def move(self, scene: Scene) -> Move:
        fill = _Filler(self, scene)
        asks = tuple(
            Ask(
                name=str(call["tool"]),
                arguments=fill(dict(call.get("arguments", {}))),
                reason=fill(call.get("reason", "")),
            )
            for call in self.calls
        )
        answer = fill(dict(self.answer)) if self.answer is not None else None
        return Move(words=fill(self.say), asks=asks, answer=answer)


class _Filler:
    """Puts what the conversation holds into a rule's texts."""

    def __init__(self, rule: Rule, scene: Scene) -> None:
        found = re.search(str(rule.when.get("goal", "")), scene.goal, re.DOTALL)
        self._known = {
            "goal": scene.goal,
            "message": scene.message,
            "last.text": scene.done[-1].text if scene.done else "",
            "match": found[1] if found and found.re.groups and found[1] else "",
        }

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return _HOLE.sub(lambda hole: self._known[hole[1]], value)
        if isinstance(value, dict):
            return {name: self(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self(one) for one in value]
        return value


def load(path: Path) -> list[Rule]:
    """Raises BadScenario."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadScenario(f"{path}: {error.strerror}") from None
    except BadScenario as error:
        raise BadScenario(f"{path}: {error}") from None


def parse(text: str) -> list[Rule]:
    """Raises BadScenario."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadScenario(f"this is no YAML: {error}") from None
    fault = next(iter(sorted(Draft202012Validator(SCHEMA).iter_errors(value), key=lambda one: one.json_path)), None)
    if fault is not None:
        raise BadScenario(f"{fault.json_path}: {fault.message[:300]}")
    return [_rule(number, one) for number, one in enumerate(value["rules"])]


def _rule(number: int, given: Mapping[str, Any]) -> Rule:
    when = given.get("when") or {}
    for name in ("goal", "system", "message", "model"):
        _compiled(when.get(name), f"$.rules[{number}].when.{name}")
    _compiled((when.get("last") or {}).get("text"), f"$.rules[{number}].when.last.text")
    return Rule(
        number=number,
        when=when,
        say=given.get("say", ""),
        calls=given.get("calls", ()),
        answer=given.get("answer"),
        fault=given.get("fault", ""),
        once=bool(given.get("once")),
        delay_s=float(given.get("delay", 0.0)),
        usage=given.get("usage"),
    )


def _compiled(expression: str | None, where: str) -> None:
    try:
        re.compile(expression or "")
    except re.error as error:
        raise BadScenario(f"{where}: no regular expression: {error}") from None


def _found(expression: str | None, text: str) -> bool:
    return expression is None or re.search(expression, text, re.DOTALL) is not None
