"""The connections of a step, as its page shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.web.words import readable, size

SHOWN_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One connection. outcome: "reached", "failed" or "refused"; traffic: bytes there and back, in words."""

    place: str
    address: str
    outcome: str
    badge: str
    why: str
    traffic: str
    at: datetime | None


def reached(sandbox: Mapping[str, Any]) -> tuple[list[Reached], int]:
    """(what is shown, how many more there were) of a step's record."""
    given = sandbox.get("connections")
    entries = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    more = sum(_count(one.get("left_out")) for one in entries)
    entries = [one for one in entries if "left_out" not in one]
    return [_line(one) for one in entries[:SHOWN_MAX]], more + max(0, len(entries) - SHOWN_MAX)


def _line(one: Mapping[str, Any]) -> Reached:
    allowed, address = one.get("allowed") is True, str(one.get("address") or "")
    outcome = ("reached" if address else "failed") if allowed else "refused"
    host = str(one.get("host") or "")
    sent, received = _count(one.get("sent_bytes")), _count(one.get("received_bytes"))
    return Reached(
        place=readable(f"{host}:{one.get('port')}" if host else "(no host)"),
        address=readable(address),
        outcome=outcome,
        badge={"reached": "succeeded", "failed": "failed", "refused": "refused"}[outcome],
        why=readable(str(one.get("why") or "")),
        traffic=f"{size(sent)} sent, {size(received)} received" if sent or received else "",
        at=_moment(one.get("started")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
