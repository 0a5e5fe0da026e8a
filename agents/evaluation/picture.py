"""The table of an evaluation as a picture: a bar an arm, with the interval in which its success lies. Pure.

Widths are percent of whatever room there is, so that words keep their size on a narrow screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from agents.evaluation.table import Line

ROW, TOP, BAR = 62, 24, 14
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.quiet{fill:#59636e;font-size:12px}"
    ".ground{fill:#e7eaee}.bar{fill:#2f6fde}.whisker{stroke:#1f2328;stroke-width:3}.rule{stroke:#d1d9e0}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`said` is the arm's numbers in words; places: y in pixels, x and widths in percent."""

    name: str
    said: str
    name_y: int
    said_y: int
    bar_y: int
    bar_height: int
    bar_width: str
    low_x: str
    high_x: str
    whisker_y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """rules: (x, words, text-anchor) of the scale; height in pixels."""

    rows: list[Row]
    rules: list[tuple[str, str, str]]
    height: int


def draw(lines: Sequence[Line]) -> Picture:
    anchors = {0: "start", 100: "end"}
    return Picture(
        rows=[_row(place, one) for place, one in enumerate(lines)],
        rules=[(f"{percent}%", f"{percent}%", anchors.get(percent, "middle")) for percent in (0, 25, 50, 75, 100)],
        height=TOP + ROW * len(lines),
    )


def svg(lines: Sequence[Line], *, title: str) -> str:
    """The picture as a file of its own."""
    found = draw(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{found.height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
    ]
    for x, words, anchor in found.rules:
        parts.append(f'<line class="rule" x1="{x}" x2="{x}" y1="18" y2="{found.height}"/>')
        parts.append(f'<text class="quiet" x="{x}" y="12" text-anchor="{anchor}">{words}</text>')
    for row in found.rows:
        parts += [
            f'<text x="0" y="{row.name_y}">{escape(row.name)}</text>',
            f'<text class="quiet" x="0" y="{row.said_y}">{escape(row.said)}</text>',
            f'<rect class="ground" x="0" y="{row.bar_y}" width="100%" height="{row.bar_height}"/>',
            f'<rect class="bar" x="0" y="{row.bar_y}" width="{row.bar_width}" height="{row.bar_height}"/>',
            f'<line class="whisker" x1="{row.low_x}" x2="{row.high_x}" y1="{row.whisker_y}" y2="{row.whisker_y}"/>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(place: int, line: Line) -> Row:
    name_y = TOP + ROW * place + 12
    cost = f", ${line.cost:.4f}" if line.cost else ""
    said = (
        f"{line.passed} of {line.judged} ({line.success:.0%}){cost}, {line.latency_ms / 1000:.1f} s a trial"
        if line.judged
        else "nothing judged"
    )
    return Row(
        name=line.arm,
        said=said,
        name_y=name_y,
        said_y=name_y + 16,
        bar_y=name_y + 22,
        bar_height=BAR,
        bar_width=f"{100 * line.success:.2f}%",
        low_x=f"{100 * line.low:.2f}%" if line.judged else "0%",
        high_x=f"{100 * line.high:.2f}%" if line.judged else "0%",
        whisker_y=name_y + 22 + BAR + 5,
    )
