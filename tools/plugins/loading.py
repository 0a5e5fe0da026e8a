"""Imports the code of a plugin: only what an administrator accepted, and only as it was accepted."""

import importlib
import threading
from collections.abc import Mapping
from typing import Any

from tools.definitions import digest_of
from tools.errors import ToolDisabled
from tools.models import ToolDefinition
from tools.plugins import packages
from tools.plugins.defining import NoTool, definition_of, tools_of
from tools.plugins.packages import Package, Unreadable
from tools.spec import Tool

# distribution -> hash of its code when this process first imported it: an import cannot be taken back
_imported: dict[str, str] = {}
_one_at_a_time = threading.Lock()


def build(row: ToolDefinition) -> Tool:
    """The tool of this accepted row.

    Raises:
        ToolDisabled: what is installed is not what was accepted, or this process runs older code, or it does not load.
    """
    pinned: Mapping[str, Any] = row.pinned or {}
    package = packages.named(row.origin.partition(":")[2])
    if package is None:
        raise ToolDisabled(f"{row.origin} is not installed here.")
    with _one_at_a_time:
        tool = next((one for one in _load(package, pinned) if one.name == row.name), None)
        if tool is None:
            raise ToolDisabled(f"{row.origin} no longer has it.")
        try:
            same = digest_of({**definition_of(tool), "package": package.facts()}) == row.pinned_sha256
        except (NoTool, Unreadable) as error:
            raise ToolDisabled(str(error)) from error
    if not same:
        raise ToolDisabled("What is installed here is not what was accepted.")
    return tool


def _load(package: Package, pinned: Mapping[str, Any]) -> list[Tool]:
    accepted = (pinned.get("package") or {}).get("code_sha256", "")
    try:
        now = package.code_sha256()
    except Unreadable as error:
        raise ToolDisabled(str(error)) from error
    if not accepted or now != accepted:
        raise ToolDisabled("Its code here is not what was accepted.")
    if _imported.setdefault(package.name, now) != now:
        raise ToolDisabled("This process has imported an older version of its code: it must be started anew.")
    try:
        return [tool for entry in package.entries for tool in tools_of(_named(entry))]
    except (Exception, SystemExit) as error:
        raise ToolDisabled(f"It does not load: {type(error).__name__}: {error}"[:500]) from error


def _named(entry: str) -> Any:
    module, _, attribute = entry.partition(":")
    found: Any = importlib.import_module(module.strip())
    for part in filter(None, attribute.strip().split(".")):
        found = getattr(found, part)
    return found
