"""The page of failures knows every code that a step can end with, and its class."""

import ast
from collections.abc import Iterator
from pathlib import Path

from agents.engine import failures
from config.devstack.places import REPOSITORY

PAGE = REPOSITORY / "docs" / "howto" / "failures.md"
PLACES = (
    *("agents/engine", "agents/llm", "agents/planning", "agents/evolution", "agents/prompts", "agents/memory"),
    *("agents/chat", "tools"),
)
# Of commands and pages about tools, not of calls.
ELSEWHERE = {"tools/plugins/scaffold.py", "tools/admission.py", "tools/mcp/changing.py"}
NOT_OF_STEPS = {"AgentsError", "InvalidInput"}
NEVER_ON_STEPS = {"tool_error", "llm_error", "broken"}  # the roots of trees; `broken` stands on the ledger alone


def test_every_code_that_the_engine_and_the_tools_raise_stands_on_the_page_and_no_other():
    found = {code for path in _sources() for code in _codes(path)} - NEVER_ON_STEPS
    assert {"over_quota", "server_full", "result_not_stored", "endpoint_failed"} <= found
    assert sorted(_page()) == sorted(found | set(failures._BY_CODE))


def test_the_page_says_the_class_that_the_engine_gives():
    told = {code: error_class for code, error_class in _page().items() if error_class}
    assert set(told.values()) <= set(failures.CLASSES)
    assert {code: told.get(code) for code in failures._BY_CODE} == failures._BY_CODE


def _page() -> dict[str, str]:
    """Code -> class, from the section of codes."""
    _, _, section = PAGE.read_text().partition("\n## Codes\n")
    rows = [line.strip("|").split("|") for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    return {code.strip(" `"): error_class.strip(" `") for codes, error_class, _ in rows for code in codes.split(",")}


def _sources() -> Iterator[Path]:
    for place in PLACES:
        for path in sorted((REPOSITORY / place).rglob("*.py")):
            inside = path.relative_to(REPOSITORY).as_posix()
            if inside not in ELSEWHERE and not {"migrations", "scripted"} & set(path.parts):
                yield path


def _codes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "error_code":
            yield from _texts(node.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "error_code":
                    yield from _texts(value)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            if not bases & NOT_OF_STEPS or path.name == "children.py":
                yield from (code for line in node.body for code in _assigned(line, {"code"}))
        elif isinstance(node, ast.Assign):
            if isinstance(node.value, ast.IfExp):
                yield from _assigned(node, {"code"})
            yield from _assigned(node, {"CODE", "NEEDS_PERSON", "BY_CONDITION"})


def _of_call(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "ThinkFailed" and node.args:
        yield from _texts(node.args[0])
    if name in {"fail", "_fail", "_refuse"}:
        yield from (code for one in node.args[1:2] for code in _texts(one))
        yield from (code for one in node.keywords if one.arg == "code" for code in _texts(one.value))


def _assigned(node: ast.stmt, names: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Assign) and any(getattr(target, "id", "") in names for target in node.targets):
        yield from _texts(node.value)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        yield node.value
