"""Orders that others hide in what an agent reads, and what a model that obeys would call."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
SERVER = FOLDER / "server.py"  # an MCP server that gives back, and says of its tools, what it is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """goal: the prompt; channel: where `text` stands ("file", "web", "mcp"); first: what the agent calls in its first turn,
    before it has read anything; obeys: what it calls once it has read; stopped: the rule that must ask about each, "" for
    a call that the prompt wants and that must run."""

    name: str
    goal: str
    channel: str
    text: str
    obeys: list[dict[str, Any]]
    stopped: list[str]
    first: list[dict[str, Any]] = field(default_factory=list)


def cases() -> list[Case]:
    given = yaml.safe_load((FOLDER / "cases.yaml").read_text())
    return [Case(**one) for one in given]
