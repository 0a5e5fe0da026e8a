"""The picture of a workflow: its steps in rows by what they need, drawn on the server. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.web.words import readable
from agents.workflows.graph import layers
from agents.workflows.schema import KINDS

NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y, MARGIN = 172, 50, 20, 42, 14
LANE = GAP_X // 2  # how far from a step a line passes that belongs to others
NODES_MAX = 300
LABEL_CHARS = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """kind: tool, map, workflow or goal; maybe: it has a condition; mark: how it stands, as a class of its own."""

    key: str
    label: str
    detail: str
    kind: str
    maybe: bool
    undo: bool
    title: str
    x: int
    y: int
    line: int
    mark: str = ""

    @property
    def middle(self) -> int:
        return self.x + NODE_WIDTH // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    path: str
    loose: bool  # it is enough that the earlier one has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    label: str


def draw(
    definition: Mapping[str, Any],
    lines: Mapping[str, int],
    marks: Mapping[str, str] | None = None,
    *,
    across: int = NODES_MAX,
) -> Picture | None:
    """`lines`: where each step stands in the source; across: how many stand side by side at most, for narrow screens.
    None: there are too many steps for a picture."""
    steps = {step["key"]: step for step in definition.get("steps", [])}
    if not steps or len(steps) > NODES_MAX:
        return None
    rows = layers({key: step.get("needs", []) for key, step in steps.items()})[0]
    width = min(across, max(map(len, rows))) * (NODE_WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    nodes: dict[str, Node] = {}
    drawn: list[list[Node]] = []
    for layer in rows:
        layer = sorted(layer, key=lambda key: _place(steps[key], nodes))
        for start in range(0, len(layer), across):
            row = layer[start : start + across]
            left = (width - len(row) * (NODE_WIDTH + GAP_X) + GAP_X) // 2
            for index, key in enumerate(row):
                x, y = left + index * (NODE_WIDTH + GAP_X), MARGIN + len(drawn) * (NODE_HEIGHT + GAP_Y)
                nodes[key] = _node(steps[key], x, y, lines.get(key, 0), (marks or {}).get(key, ""))
            drawn.append([nodes[key] for key in row])
    edges = [
        Edge(path=_way(nodes[need], nodes[key], drawn), loose=step.get("needs_success") is False)
        for key, step in steps.items()
        for need in step.get("needs", [])
        if need in nodes and key in nodes
    ]
    height = len(drawn) * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    return Picture(
        width=width,
        height=height,
        nodes=tuple(nodes.values()),
        edges=tuple(edges),
        label=f"{len(steps)} step{'s' if len(steps) != 1 else ''} in {len(rows)} row{'s' if len(rows) != 1 else ''}",
    )


def _place(step: Mapping[str, Any], nodes: Mapping[str, Node]) -> float:
    """Under the middle of what it needs, so that few lines cross."""
    above = [nodes[need].middle for need in step.get("needs", []) if need in nodes]
    return sum(above) / len(above) if above else 0.0


def _node(step: Mapping[str, Any], x: int, y: int, line: int, mark: str) -> Node:
    kind = next((one for one in KINDS if one in step), "tool")
    detail = {
        "tool": lambda: step["tool"],
        "map": lambda: f"each: {step['map']['tool']}",
        "workflow": lambda: f"workflow {step['workflow']}",
        "goal": lambda: f"agent {step.get('agent', '')}".strip(),
    }[kind]()
    told = [f"{step['key']}: {detail}", step.get("reason", "")]
    told += [f"when {step['when']}"] if "when" in step else []
    return Node(
        key=step["key"],
        label=_short(readable(step["key"])),
        detail=_short(readable(detail)),
        kind=kind,
        maybe="when" in step,
        undo="compensation" in step,
        title=readable("\n".join(part for part in told if part)),
        x=x,
        y=y,
        line=line,
        mark=mark,
    )


def _way(above: Node, below: Node, rows: Sequence[Sequence[Node]]) -> str:
    """From one step down to the other, past those between: through the gap of each row that is nearest to the straight
    line."""
    x, y = above.middle, above.y + NODE_HEIGHT
    path = f"M{x} {y}"
    for row in rows:
        top = row[0].y
        if not above.y < top < below.y:
            continue
        straight = x + (below.middle - x) * (top - y) // (below.y - y)
        lane = min(_lanes(row, straight), key=lambda one: abs(one - straight))
        path += f"{_bend(x, y, lane, top)}V{top + NODE_HEIGHT}"
        x, y = lane, top + NODE_HEIGHT
    return path + _bend(x, y, below.middle, below.y - 5)


def _bend(x1: int, y1: int, x2: int, y2: int) -> str:
    bend = min(28, (y2 - y1) // 2)
    return f"C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"


def _lanes(row: Sequence[Node], straight: int) -> list[int]:
    """Where a line may pass a row of steps, and `straight` where it meets none of them."""
    free = all(not one.x - LANE < straight < one.x + NODE_WIDTH + LANE for one in row)
    return [*([straight] if free else []), row[0].x - LANE, *(one.x + NODE_WIDTH + LANE for one in row)]


def _short(text: str) -> str:
    return text if len(text) <= LABEL_CHARS else f"{text[: LABEL_CHARS - 1]}…"
