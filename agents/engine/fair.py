"""Who is next: the order of release, as a pure function of what waits and what was released before.

Start-time fair queueing (Goyal, Vin, Cheng 1996): a tenant's next step has a start tag; the smallest goes first, and
moves the tenant's tag on by 1/weight. A tenant that had nothing waiting begins at the clock, so that it saves up
nothing and owes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A step, and since when it could have run."""

    id: UUID
    due: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What one tenant has waiting at one priority, the oldest first; tenant 0: none is named."""

    tenant: int
    priority: int
    waiting: list[Waiting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """weight against the others; free: how many more may run, None: any number."""

    weight: int = 1
    free: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """ids in order; the new clock and tags; more: others could go, had there been room; blocked: others are at a bound."""

    ids: list[UUID]
    clock: float
    tags: dict[str, float]
    more: bool
    blocked: bool


def urgency(priority: int, due: datetime, now: datetime, ages: timedelta) -> int:
    """The priority with its age: one better for each `ages` that it waits, 0 at best."""
    return max(0, priority - int((now - due) / ages))


def choose(
    lanes: Sequence[Lane],
    shares: Mapping[int, Share],
    room: int,
    *,
    clock: float,
    tags: Mapping[str, float],
    now: datetime,
    ages: timedelta,
) -> Chosen:
    """Picks at most `room` steps of the lanes' heads."""
    starts = {lane.tenant: max(clock, tags.get(str(lane.tenant), clock)) for lane in lanes}
    free = {tenant: shares.get(tenant, Share()).free for tenant in starts}
    at = dict.fromkeys(range(len(lanes)), 0)
    ids: list[UUID] = []
    while at and len(ids) < room:
        open_lanes = [n for n in at if free[lanes[n].tenant] != 0]
        if not open_lanes:
            break

        def order(n: int) -> tuple[int, float, int, datetime, UUID]:
            lane, head = lanes[n], lanes[n].waiting[at[n]]
            return urgency(lane.priority, head.due, now, ages), starts[lane.tenant], lane.tenant, head.due, head.id

        best = min(open_lanes, key=order)
        tenant = lanes[best].tenant
        ids.append(lanes[best].waiting[at[best]].id)
        clock = max(clock, starts[tenant])
        starts[tenant] += 1 / shares.get(tenant, Share()).weight
        left = free[tenant]
        free[tenant] = None if left is None else left - 1
        at[best] += 1
        if at[best] == len(lanes[best].waiting):
            del at[best]
    kept = {name: tag for name, tag in tags.items() if tag > clock}
    kept |= {str(tenant): tag for tenant, tag in starts.items() if tag > clock}
    held = {n for n in at if free[lanes[n].tenant] == 0}
    return Chosen(ids=ids, clock=clock, tags=kept, more=bool(set(at) - held), blocked=bool(held))
