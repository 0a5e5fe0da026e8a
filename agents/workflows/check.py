"""Everything that is wrong with a definition, each at its line."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from agents.workflows import cel_check, constant_map
from agents.workflows.cel_check import ITEM_DONE, JOB, MAP_ITEM, STEP, Findings
from agents.workflows.graph import ancestors, layers
from agents.workflows.schema import RESERVED_KEYS, as_list, bounded, faults, say
from tools import registry
from tools.errors import InvalidArguments, ToolError, UnknownTool
from tools.spec import Tool
from tools.yamltext.places import Path, Places, Problem
from tools.yamltext.read import parse

PROBLEMS_MAX = 500

# Is there a published workflow of this name, and version where one is given? None: nobody knows.
Known = Callable[[str, int | None], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a source says, and what is wrong with it, in the order of the text. data: None where it is no object."""

    data: dict[str, Any] | None
    problems: tuple[Problem, ...]


def check(source: str, *, known: Known | None = None) -> Checked:
    """Reads and checks a definition. `known` says which workflows may be named by steps."""
    document = parse(source)
    found = list(document.problems)
    if document.data is not None or not document.problems:
        found += list(_Check(document.data, document.places, known).run())
    data = document.data if isinstance(document.data, dict) else None
    return Checked(data=data, problems=tuple(sorted(set(found)))[:PROBLEMS_MAX])


@dataclass(slots=True)
class _Step:
    """A step that has the right shape as far as its graph goes."""

    index: int
    key: str
    raw: dict[str, Any]

    @property
    def path(self) -> Path:
        return ("steps", self.index)

    @property
    def needs(self) -> list[str]:
        return [one for one in as_list(self.raw.get("needs")) if isinstance(one, str)]


class _Check:
    def __init__(self, data: Any, places: Places, known: Known | None) -> None:
        self.data, self.places, self.known = data, places, known
        self.faults: list[Problem] = []
        self.steps: list[_Step] = []
        self.odd: list[_Step] = []  # without a key of their own
        self.before: dict[str, set[str]] = {}
        self.inputs: set[str] | None = None

    def run(self) -> list[Problem]:
        for path, message, at_key in faults(self.data):
            self._add(path, message, key=at_key)
        if not isinstance(self.data, dict):
            return self.faults
        self._collect()
        self._graph()
        for step in (*self.steps, *self.odd):
            self._step(step)
        self._whole()
        return self.faults

    def _add(self, path: Path, message: str, *, key: bool = False) -> None:
        self.faults.append(self.places.problem(path, bounded(message), key=key))

    def _collect(self) -> None:
        inputs = self.data.get("inputs", {})
        if isinstance(inputs, dict):
            properties = inputs.get("properties", {})
            closed = inputs.get("additionalProperties", False) is False and not {"$ref", "allOf"} & set(inputs)
            if closed and isinstance(properties, dict) and "patternProperties" not in inputs:
                self.inputs = set(properties)
        seen: dict[str, int] = {}
        for index, raw in enumerate(as_list(self.data.get("steps"))):
            if not isinstance(raw, dict):
                continue
            if not isinstance(raw.get("key"), str):
                self.odd.append(_Step(index, "", raw))
                continue
            key, path = raw["key"], ("steps", index, "key")
            if key in seen:
                self._add(path, f"The key {key!r} is used twice: steps[{seen[key]}] has it.")
                self.odd.append(_Step(index, "", raw))
                continue
            if key in RESERVED_KEYS:
                self._add(path, f"The key {key!r} is the engine's own.")
            seen[key] = index
            self.steps.append(_Step(index, key, raw))

    def _graph(self) -> None:
        keys = {step.key for step in self.steps}
        for step in (*self.steps, *self.odd):
            for position, need in enumerate(as_list(step.raw.get("needs"))):
                if isinstance(need, str) and need not in keys:
                    self._add((*step.path, "needs", position), f"There is no step {need!r}.")
        needs = {step.key: step.needs for step in self.steps}
        cycle = layers(needs)[1]
        if cycle:
            first = next(step for step in self.steps if step.key in cycle)
            turn = cycle.index(first.key)
            told = [*cycle[turn:-1], *cycle[:turn], first.key]
            self._add((*first.path, "needs"), f"The steps wait in a circle: {' → '.join(told)}.")
        else:
            self.before = ancestors(needs)

    def _step(self, step: _Step) -> None:
        raw, path, before = step.raw, step.path, self.before.get(step.key)
        self._expression(raw.get("when"), (*path, "when"), STEP, before)
        if "tool" in raw:
            self._call(raw, path, STEP, before)
        for index, call in enumerate(as_list(raw.get("fallbacks"))):
            if isinstance(call, dict):
                self._call(call, (*path, "fallbacks", index), STEP, before)
        if isinstance(raw.get("compensation"), dict):
            within = None if before is None else before | {step.key}
            self._call(raw["compensation"], (*path, "compensation"), ITEM_DONE if "map" in raw else STEP, within)
        if isinstance(raw.get("map"), dict):
            self._map(raw["map"], (*path, "map"), before)
        if isinstance(raw.get("workflow"), str):
            self._workflow(raw["workflow"], (*path, "workflow"))
            self._template(raw.get("inputs"), (*path, "inputs"), STEP, before)
        self._template(raw.get("goal"), (*path, "goal"), STEP, before)

    def _map(self, given: dict[str, Any], path: Path, before: set[str] | None) -> None:
        if isinstance(given.get("over"), str):
            self._expression(given["over"], (*path, "over"), STEP, before)
        faulty = len(self.faults)
        tool = self._call(given, path, MAP_ITEM, before) if "tool" in given else None
        if tool is not None and (tool.asks_person or tool.starts_job):
            self._add((*path, "tool"), f"{tool.name} cannot be called for many items: no worker runs it.")
            return
        arguments = given.get("arguments", {})
        if "over" in given and isinstance(arguments, dict):
            for below, message in constant_map.faults(
                given["over"], arguments, None if len(self.faults) > faulty else tool
            ):
                self._add((*path, *below), message)

    def _workflow(self, given: str, path: Path) -> None:
        name, _, number = given.partition("@")
        if number and not number.isdigit():
            return
        if name == self.data.get("name") and not number:
            self._add(path, "A workflow cannot run itself.")
        elif self.known is not None and not self.known(name, int(number) if number else None):
            self._add(path, f"There is no published workflow {given!r}.")

    def _whole(self) -> None:
        keys = {step.key for step in self.steps}
        outputs = self.data.get("outputs")
        for name, source in outputs.items() if isinstance(outputs, dict) else ():
            self._expression(source, ("outputs", name), STEP, keys)
        self._template(self.data.get("concurrency_key"), ("concurrency_key",), JOB, keys)
        self._template(self.data.get("labels"), ("labels",), JOB, keys)

    # expressions

    def _expression(self, source: Any, path: Path, names: Collection[str], before: set[str] | None) -> None:
        if isinstance(source, str) and source:
            self._told(path, cel_check.expression(source, names), before)

    def _template(self, value: Any, path: Path, names: Collection[str], before: set[str] | None) -> None:
        for below, found in cel_check.template(value, names):
            self._told((*path, *below), found, before)

    def _told(self, path: Path, found: Findings, before: set[str] | None) -> None:
        for message in found.problems:
            self._add(path, message)
        keys = {step.key for step in self.steps}
        for name in sorted(found.steps):
            if name not in keys:
                self._add(path, f"There is no step {name!r}.")
            elif before is not None and name not in before:
                self._add(path, f"It reads steps.{name}, which need not have ended yet: add it to needs.")
        for name in sorted(found.inputs - self.inputs) if self.inputs is not None else ():
            self._add(path, f"There is no input {name!r}.")

    # calls of tools

    def _call(
        self, call: Mapping[str, Any], path: Path, names: Collection[str], before: set[str] | None
    ) -> Tool | None:
        """The tool that a call names; None where there is none."""
        arguments = call.get("arguments", {})
        self._template(arguments, (*path, "arguments"), names, before)
        if not isinstance(call.get("tool"), str) or not isinstance(arguments, dict):
            return None
        try:
            tool = registry.get(call["tool"])
        except UnknownTool as error:
            self._add((*path, "tool"), error.message)
            return None
        if not tool.offered:
            self._add((*path, "tool"), f"{tool.name} is the engine's own tool: a workflow cannot name it.")
            return None
        for below, message, at_key in _argument_faults(tool, arguments):
            self._add((*path, "arguments", *below), message, key=at_key)
        return tool


def _argument_faults(tool: Tool, arguments: dict[str, Any]) -> Iterator[tuple[Path, str, bool]]:
    """What the tool's schema says of the arguments, as far as it can be said before templates have their values."""
    found = False
    for error in Draft202012Validator(tool.schema).iter_errors(arguments):
        if _depends_on_template(error.instance, str(error.validator)):
            continue
        found = True
        yield from say(error)
    if found or cel_check.templated(arguments):
        return
    try:
        registry.validate(tool, arguments)
    except InvalidArguments as error:
        parts = error.field.replace("[", ".").replace("]", "").split(".")[1:]
        yield tuple(int(part) if part.isdigit() else part for part in parts), error.message, False
    except ToolError as error:
        yield (), error.message, False


def _depends_on_template(instance: Any, validator: str) -> bool:
    if isinstance(instance, str) or validator not in {"required", "additionalProperties", "type", "maxItems"}:
        return cel_check.templated(instance)
    return False
