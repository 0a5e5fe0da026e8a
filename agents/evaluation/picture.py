"""The table of an evaluation as a picture: a bar an arm, with the interval in which its success lies. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from agents.evaluation.table import Line

WIDTH, ROW, TOP, LEFT, BAR = 720, 44, 28, 8, 14
SCALE = 5.2  # pixels a percent
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.quiet{fill:#59636e;font-size:12px}"
    ".ground{fill:#e7eaee}.bar{fill:#2f6fde}.whisker{stroke:#1f2328;stroke-width:1.5}.rule{stroke:#d1d9e0}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Places in pixels; `said` is the arm's numbers in words."""

    name: str
    said: str
    name_y: int
    bar_y: int
    bar_height: int
    bar_width: float
    low_x: float
    high_x: float
    middle_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """rules: (x, words) of the scale."""

    rows: list[Row]
    rules: list[tuple[float, str]]
    left: int
    full: float
    width: int
    height: int


def draw(lines: Sequence[Line]) -> Picture:
    return Picture(
        rows=[_row(place, one) for place, one in enumerate(lines)],
        rules=[(LEFT + SCALE * percent, f"{percent}%") for percent in (0, 25, 50, 75, 100)],
        left=LEFT,
        full=100 * SCALE,
        width=WIDTH,
        height=TOP + ROW * len(lines) + 8,
    )


def svg(lines: Sequence[Line], *, title: str) -> str:
    """The picture as a file of its own."""
    found = draw(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {found.width} {found.height}" '
        f'width="{found.width}" height="{found.height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
    ]
    for x, words in found.rules:
        parts.append(f'<line class="rule" x1="{x:g}" x2="{x:g}" y1="18" y2="{found.height}"/>')
        parts.append(f'<text class="quiet" x="{x:g}" y="12" text-anchor="middle">{words}</text>')
    for row in found.rows:
        parts += [
            f'<text x="{found.left}" y="{row.name_y}">{escape(row.name)} '
            f'<tspan class="quiet">{escape(row.said)}</tspan></text>',
            f'<rect class="ground" x="{found.left}" y="{row.bar_y}" width="{found.full:g}" height="{row.bar_height}"/>',
            f'<rect class="bar" x="{found.left}" y="{row.bar_y}" width="{row.bar_width:g}" height="{row.bar_height}"/>',
            f'<line class="whisker" x1="{row.low_x:g}" x2="{row.high_x:g}" y1="{row.middle_y:g}" y2="{row.middle_y:g}"/>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(place: int, line: Line) -> Row:
    name_y = TOP + ROW * place + 10
    said = (
        f"{line.passed} of {line.judged} ({line.success:.0%}), ${line.cost:.4f} and {line.latency_ms / 1000:.1f} s a trial"
        if line.judged
        else "nothing judged yet"
    )
    return Row(
        name=line.arm,
        said=said,
        name_y=name_y,
        bar_y=name_y + 6,
        bar_height=BAR,
        bar_width=round(100 * SCALE * line.success, 1),
        low_x=round(LEFT + 100 * SCALE * line.low, 1),
        high_x=round(LEFT + 100 * SCALE * line.high, 1),
        middle_y=name_y + 6 + BAR / 2,
    )
