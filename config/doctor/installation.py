"""What the installation holds: the log, policies, agents, workers."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from agents.engine import duty
from agents.models import Agent, WorkerProcess
from approvals.defaults import uncovered
from approvals.models import PolicyVersion
from audit.status import status
from config.doctor.finding import Finding, fail, ok, warn

SEEN_WITHIN = timedelta(seconds=60)


def audit_log() -> Iterator[Finding]:
    found = status()
    if found["healthy"]:
        yield ok("audit log", str(found["message"]))
    else:
        yield warn(
            "audit log",
            str(found["message"]),
            "Start manage.py audit_sequencer; manage.py audit_verify checks the log.",
        )


def policies() -> Iterator[Finding]:
    published = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).select_related("policy")
    names = [str(version) for version in published]
    if names:
        yield ok("policies", f"published: {', '.join(names)}")
        denied = uncovered()
        if denied:
            yield warn(
                "policies",
                f"no published rule names {', '.join(denied)}: every call of {'it' if len(denied) == 1 else 'them'} is denied",
                "manage.py policy cover makes a draft with rules for them.",
            )
    else:
        yield fail(
            "policies", "none is published, so every call is denied", "manage.py seed, or publish one in the admin."
        )


def agents() -> Iterator[Finding]:
    names = list(Agent.objects.filter(enabled=True).values_list("name", flat=True))
    if names:
        yield ok("agents", ", ".join(names))
    else:
        yield warn(
            "agents", "none is enabled, so goals cannot be submitted", "manage.py seed, or add one in the admin."
        )


def workers() -> Iterator[Finding]:
    """One worker group at least for each queue."""
    seen = WorkerProcess.objects.filter(seen_at__gte=timezone.now() - SEEN_WITHIN, stopped_at=None)
    names, served = [], set()
    for worker in seen:
        names.append(worker.name)
        served |= set(worker.queues)
    missing = [queue for queue in settings.QUEUES if queue not in served]
    if missing:
        yield fail(
            "workers",
            f"nobody serves the queue{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            "Start the workers: bin/up, or the countersign-worker@ units of deploy/systemd.",
        )
    else:
        yield ok("workers", ", ".join(sorted(names)))


def sweeper() -> Iterator[Finding]:
    if duty.somebody_has("sweeper", timezone.now()):
        yield ok("sweeper", "looks for what was lost and what is due")
    else:
        yield warn(
            "sweeper",
            "none gives a sign of life: retries, timers, schedules and lost steps wait",
            "Start manage.py sweeper: bin/up, or the countersign-sweeper unit of deploy/systemd.",
        )
