"""How far a map is, and what became of its items, as pages show it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from agents.engine import fanout
from agents.models import Job, MapItem, Step
from agents.states import StepState
from agents.web.labels import STEP_LABELS
from agents.web.words import count, first_line, readable
from approvals.visible import visible
from tools import registry
from tools.errors import ToolError

FAILED_SHOWN = 10  # items, in the panel
CHUNKS_SHOWN = 12  # of one map, in the list of steps

# Chunks that a reader wants to see, the first first; the others are counted.
_TOLD = (
    StepState.IN_DOUBT,
    StepState.WAITING_APPROVAL,
    StepState.FAILED,
    StepState.REFUSED,
    StepState.RUNNING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """items: how many there are, None before the map has fanned out; done, failed: those that have ended, and badly;
    chunks: how many are in which state."""

    items: int | None
    done: int = 0
    failed: int = 0
    chunks: Mapping[str, int] = field(default_factory=dict)

    @property
    def percent(self) -> int:
        return 100 if not self.items else min(100, 100 * self.done // self.items)

    @property
    def failed_percent(self) -> int:
        """At least one where any failed, so that it is seen."""
        return max(1, 100 * self.failed // self.items) if self.items and self.failed else 0

    @property
    def text(self) -> str:
        if self.items is None:
            return "has not fanned out"
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,} of {count(self.items, 'item')}{failed}"

    @property
    def chunks_text(self) -> str:
        total = sum(self.chunks.values())
        states = ", ".join(
            f"{self.chunks[state]:,} {STEP_LABELS[state]}" for state in StepState if self.chunks.get(state)
        )
        return f"{count(total, 'chunk')}: {states}" if total else ""


def progress_of(maps: Sequence[Step]) -> dict[UUID, Progress]:
    """By step; two queries whatever their number."""
    if not maps:
        return {}
    ids = [step.pk for step in maps]
    ended: dict[Any, tuple[int, int]] = {}
    rows = MapItem.objects.filter(step__in=ids).order_by().values("step")
    for row in rows.annotate(done=Count("pk"), failed=Count("pk", filter=Q(ok=False))):
        ended[row["step"]] = (row["done"], row["failed"])
    chunks: dict[Any, dict[str, int]] = {}
    states = Step.objects.filter(parent__in=ids).order_by().values("parent", "state")
    for parent, state, number in states.annotate(number=Count("pk")).values_list("parent", "state", "number"):
        chunks.setdefault(parent, {})[state] = number
    found = {}
    for step in maps:
        items = (step.spec or {}).get("items")
        done, failed = ended.get(step.pk, (0, 0))
        found[step.pk] = Progress(items=items, done=done, failed=failed, chunks=chunks.get(step.pk, {}))
    return found


def chunks_to_show(job: Job, maps: Mapping[UUID, Progress], *, chosen: str = "") -> list[Step]:
    """Of each map the chunks that failed, wait or run, a few of them; and the one that the reader chose."""
    ids: set[Any] = set()
    for pk, progress in maps.items():
        left = CHUNKS_SHOWN
        for state in _TOLD:
            if left > 0 and progress.chunks.get(state):
                ids |= (more := set(_first(pk, state, left)))
                left -= len(more)
    wanted = Q(pk__in=ids) | Q(key=chosen) if chosen and "\x00" not in chosen else Q(pk__in=ids)
    return list(Step.objects.filter(wanted, job=job, parent__isnull=False).defer("result").order_by("seq"))


def _first(map_id: UUID, state: str, most: int) -> list[UUID]:
    chunks = Step.objects.filter(parent=map_id, state=state)
    return list(chunks.order_by("seq").values_list("pk", flat=True)[:most])


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLine:
    """what: its call in one line; told: its result or its error; chunk: the key of the step that did it."""

    item: MapItem
    what: str
    told: str
    chunk: str


def item_lines(items: Iterable[MapItem]) -> list[ItemLine]:
    """Items for reading, each with its call; two queries whatever their number."""
    rows = list(items)
    chunks = {one.pk: one for one in Step.objects.filter(pk__in={row.chunk_id for row in rows}).defer("result")}
    calls = {pk: _calls(chunk) for pk, chunk in chunks.items()}
    lines = []
    for row in rows:
        chunk = chunks.get(row.chunk_id) if row.chunk_id else None
        told = row.error if not row.ok and row.error else str(row.result.get("summary") or row.result.get("text") or "")
        arguments = calls[chunk.pk].get(row.index) if chunk else None
        lines.append(
            ItemLine(
                item=row,
                what=_described(chunk.tool, arguments) if chunk and arguments is not None else "",
                told=readable(told)[:2000],
                chunk=chunk.key if chunk else "",
            )
        )
    return lines


def _calls(chunk: Step) -> dict[int, dict[str, Any]]:
    calls = chunk.arguments.get("calls", []) if chunk.kind == Step.Kind.CHUNK else [chunk.arguments]
    return dict(zip(fanout.indexes_of(chunk), calls, strict=False))


def _described(tool: str, arguments: Mapping[str, Any]) -> str:
    try:
        text = registry.get(tool).describe(arguments)
    except (ToolError, LookupError, TypeError, ValueError):  # arguments of an older version of the tool
        text = ""
    if not text or text == tool:
        text = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return first_line(visible(text[:2000]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """failures: the first items that failed; more_failures: how many there are besides."""

    progress: Progress
    failures: list[ItemLine]
    more_failures: int


def map_view(step: Step, progress: Progress) -> MapView:
    """What the panel of a map shows."""
    failed = MapItem.objects.filter(step=step, ok=False).order_by("index")[:FAILED_SHOWN] if progress.failed else []
    lines = item_lines(failed)
    return MapView(progress=progress, failures=lines, more_failures=progress.failed - len(lines))


def spec_of(step: Step) -> dict[str, Any]:
    """What a map fans out over and calls, as its workflow says; a list that stands there is only counted."""
    spec = {name: one for name, one in (step.spec or {}).items() if name not in {"items", "chunks"}}
    if isinstance(spec.get("over"), list):
        spec["over"] = f"a list of {count(len(spec['over']), 'item')}"
    return spec
