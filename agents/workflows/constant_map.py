"""A map over a list that stands in the definition: what of it can be said before anything runs."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from agents.engine import expressions
from agents.engine.celtext import Code, InvalidExpression, compiled, parts, texts
from agents.engine.fanout import ITEMS_MAX
from agents.errors import AgentsError
from agents.models import Job
from tools import registry
from tools.errors import ToolError
from tools.spec import Tool
from tools.yamltext.places import Path

LOOKED_AT = 100  # items whose arguments are tried
_ITEM = {"item", "index"}


def faults(over: Any, template: Mapping[str, Any], tool: Tool | None) -> Iterator[tuple[Path, str]]:
    """Each by its path within the map. over: a list, a whole number, or CEL; nothing is said of CEL that reads anything.

    tool: None where it is not known.
    """
    try:
        items = _constant(over)
    except expressions.ExpressionFailed as error:
        yield ("over",), error.message
        return
    if items is None:
        return
    if isinstance(items, bool) or not isinstance(items, int | list):
        yield ("over",), "This gives neither a list nor a whole number."
        return
    if isinstance(items, int) and items < 0:
        yield ("over",), "This gives a number below 0."
        return
    count = items if isinstance(items, int) else len(items)
    if count > ITEMS_MAX:
        yield ("over",), f"A map has at most {ITEMS_MAX:,} items, not {count:,}."
        return
    if tool is not None and _of_the_item_alone(template):
        yield from _first_fault(range(items) if isinstance(items, int) else items, template, tool)


def _constant(over: Any) -> Any:
    """None: it reads what only a job has."""
    if not isinstance(over, str):
        return over
    try:
        if compiled(over).variables():
            return None
    except InvalidExpression:
        return None  # which is said elsewhere
    return expressions.value(over, expressions.Scope(Job()))


def _of_the_item_alone(template: Mapping[str, Any]) -> bool:
    try:
        codes = [one.text for _, text in texts(template, "") for one in parts(text) if isinstance(one, Code)]
        return bool(codes) and all(set(compiled(code).variables()) <= _ITEM for code in codes)
    except InvalidExpression:
        return False


def _first_fault(items: Any, template: Mapping[str, Any], tool: Tool) -> Iterator[tuple[Path, str]]:
    resolve = expressions.item_template(template, expressions.Scope(Job()))
    for index, item in enumerate(islice(items, LOOKED_AT)):
        try:
            registry.validate(tool, resolve(item, index))
        except (AgentsError, ToolError) as error:
            field = str(getattr(error, "field", "") or "")
            yield ("arguments",), f"Item {index}: {f'{field}: ' if field else ''}{error.message}"
            return
