"""What a place outside is, and what is brought there."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A checkpoint on its way. note: as published; folder: where the log's files are; since: the size that the place took
    last."""

    origin: str
    size: int
    root: bytes
    note: str
    folder: Path
    since: int
    at: datetime


class Place(Protocol):
    """name: without secrets, as people see it. every_s: seconds between two parcels."""

    name: str
    every_s: float

    def deliver(self, parcel: Parcel) -> None:
        """Brings a parcel there. Bringing one twice does no harm.

        Raises:
            NotDelivered, OSError: it is tried again later.
        """


def file_name(parcel: Parcel) -> str:
    """A name that no other checkpoint has: the size, then the beginning of the root."""
    return f"{parcel.size:016}-{parcel.root.hex()[:16]}"
