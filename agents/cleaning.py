"""The end of workspaces: of jobs that ended long ago, of jobs that are not there, and where room is needed sooner."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from agents.models import Job
from agents.states import JOB_DONE
from tools import quota, workspaces
from tools.pod.leftovers import remove_leftovers
from tools.quota import disk

ASKED = 500  # ids in one query
ORPHAN_AFTER = timedelta(days=7)  # a fork makes its workspace before its row, and a restored database may lag behind
LEFT_AFTER = timedelta(hours=6)
_ROOM = 0.9  # of the bound on all workspaces: where it is reached, the oldest go until so much is left


@dataclass(slots=True)
class Cleaned:
    """How many workspaces were removed: of jobs that had ended, of no job at all, to make room; and other leftovers."""

    ended: int = 0
    orphans: int = 0
    for_room: int = 0
    leftovers: int = 0

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def clean_workspaces(*, now: datetime) -> Cleaned:
    """Looks at the folders that are there, however many jobs there ever were. May be broken off and run again, and
    beside itself."""
    done = Cleaned()
    done.leftovers = workspaces.remove_leftovers(before=(now - LEFT_AFTER).timestamp()) + remove_leftovers()
    limit = now - timedelta(hours=settings.WORKSPACE_KEEP_HOURS)
    for some in _parts(workspaces.there()):
        jobs = {
            pk: (state, at)
            for pk, state, at in Job.objects.filter(pk__in=some).values_list("pk", "state", "finished_at")
        }
        jobs |= _later_turns(some)
        for job_id in some:
            state, ended_at = jobs.get(job_id, ("", None))
            if state in JOB_DONE and ended_at is not None and ended_at < limit:
                workspaces.remove(str(job_id))
                done.ended += 1
            elif not state and _untouched(job_id, since=now - ORPHAN_AFTER):
                workspaces.remove(str(job_id))
                done.orphans += 1
    done.for_room = _make_room()
    return done


def _later_turns(ids: list[UUID]) -> dict[UUID, tuple[str, datetime | None]]:
    """State and end of the newest turn that works in each of these workspaces, where a later turn of a conversation than
    the one that made it does."""
    talks = Job.objects.filter(pk__in=ids, conversation__isnull=False).values("conversation")
    later = Job.objects.filter(conversation__in=talks, workspace_of__in=ids).order_by("created_at", "pk")
    return {
        place: (state, at) for place, state, at in later.values_list("workspace_of", "state", "finished_at") if place
    }


def _make_room() -> int:
    """Where all workspaces together hold too much, those of ended jobs go, the oldest first."""
    most = settings.WORKSPACES_TOTAL_MB * quota.MIB
    if not most:
        return 0
    held = {job_id: _size(job_id) for job_id in workspaces.there()}
    too_much = sum(held.values()) - most
    if too_much <= 0:
        return 0
    too_much += int(most * (1 - _ROOM))
    ended = [
        found
        for some in _parts(list(held))
        for found in Job.objects.filter(pk__in=some, state__in=JOB_DONE)
        .exclude(pk__in=[job_id for job_id, (state, _) in _later_turns(some).items() if state not in JOB_DONE])
        .values_list("finished_at", "pk")
    ]
    removed = 0
    for _, job_id in sorted(ended):
        if too_much <= 0:
            break
        workspaces.remove(str(job_id))
        too_much -= held[job_id]
        removed += 1
    disk.total_bytes(fresh=True)
    return removed


def _size(job_id: UUID) -> int:
    """As it was measured last; one that a crash left unmeasured is measured now."""
    place = workspaces.place_of(str(job_id))
    quota.known(place)
    found = disk.recorded(place.root)
    return found.size_bytes + found.snapshots_bytes if found else 0


def _untouched(job_id: UUID, *, since: datetime) -> bool:
    try:
        return workspaces.place_of(str(job_id)).root.stat().st_mtime < since.timestamp()
    except FileNotFoundError:
        return False


def _parts(names: list[UUID]) -> Iterator[list[UUID]]:
    for first in range(0, len(names), ASKED):
        yield names[first : first + ASKED]
