"""The state of the log as a small picture: what is written, in its place, signed, and taken by others."""

from dataclasses import dataclass
from datetime import datetime

from audit.models import Delivery
from audit.status import status

GOOD, LATE, BAD, IDLE = "good", "late", "bad", "idle"
BOXES = 60  # a witness that is left out would look like one that nobody asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One stage. level: good, late, bad or idle."""

    title: str
    value: str
    note: str
    level: str

    @property
    def said(self) -> str:
        return f"{self.title}: {self.value}, {self.note}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    boxes: list[Box]
    healthy: bool
    message: str

    @property
    def said(self) -> str:
        return "; ".join(box.said for box in self.boxes)


def picture(now: datetime) -> Picture:
    found = status(now)
    size, signed = found["size"], found["checkpoint_size"]
    stages: list[tuple[str, str, str, str]] = [
        (
            "Written",
            f"{size + found['pending']:,}",
            f"{found['pending']:,} wait for a place" if found["pending"] else "all in their place",
            GOOD if found["healthy"] or not found["pending"] else LATE,
        ),
        (
            "Signed",
            f"{signed:,}" if signed is not None else "none",
            "the latest checkpoint" if signed is not None else "no checkpoint yet",
            (GOOD if found["healthy"] else BAD) if signed is not None else IDLE,
        ),
    ]
    stages += [_delivery(one, signed) for one in Delivery.objects.all()[:BOXES]] or [
        ("Taken elsewhere", "nowhere", "no witness and no other place is set up", IDLE)
    ]
    boxes = [Box(title=title, value=value, note=note, level=level) for title, value, note, level in stages]
    return Picture(boxes=boxes, healthy=found["healthy"], message=found["message"])


def _delivery(one: Delivery, signed: int | None) -> tuple[str, str, str, str]:
    kind, _, name = one.name.rpartition(":")
    title = "Witness" if kind == "witness" else "Witnesses" if one.name == "witnesses" else "Published"
    note = name if kind == "witness" else one.name
    if one.failures:
        note = f"{note}: {one.failures} failed"
    behind = (signed or 0) - one.size
    level = BAD if one.failures > 3 else LATE if one.failures else GOOD if behind <= 1_000 else LATE
    return title, f"{one.size:,}", note if len(note) < 24 else f"{note[:23]}…", level
