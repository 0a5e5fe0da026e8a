"""What a fresh installation has. Each part is created once, and left alone when people have changed it."""

from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from guardian.shortcuts import assign_perm

from agents.defaults import ensure_agents
from agents.demo import GOAL
from agents.demo import repository as sample
from agents.evolution import example as primes
from agents.models import Job, Repository
from agents.prompts.shipped import ensure_prompts
from agents.repositories import create_repository
from agents.submit import submit
from agents.workflows.shipped import ensure_workflows
from approvals.defaults import ensure_policies
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

APPROVERS = "approvers"
ADMIN = "admin"
REQUESTER = "demo"
SAMPLE, PRIMES = "sample", "primes"
DEMO_KEY = "demo-1"


@transaction.atomic
def seed_people(*, admin_password: str | None, now: datetime) -> list[str]:
    """The group of approvers, the administrator (an approver), the policies and the agents; names what is new.

    Without `admin_password` a new administrator cannot sign in until `manage.py changepassword` gives one.
    """
    made = []
    approvers, new = Group.objects.get_or_create(name=APPROVERS)
    if new:
        made.append(_created("group", approvers.pk, APPROVERS))
    admin, new = User.objects.get_or_create(
        username=ADMIN, defaults={"email": "admin@localhost", "is_staff": True, "is_superuser": True}
    )
    if new:
        admin.set_password(admin_password)
        admin.save(update_fields=["password"])
        admin.groups.add(approvers)
        made.append(_created("user", admin.pk, ADMIN))
    ensure_policies(approvers)
    ensure_agents()
    ensure_prompts(now=now)
    ensure_workflows(now=now)
    _ensure_schedule()
    return made


def _ensure_schedule() -> None:
    """What beat does by itself; the engine needs none of it."""
    hourly, _ = CrontabSchedule.objects.get_or_create(minute="37", hour="*", timezone="UTC")
    for name, task in (
        ("Remove workspaces whose time is over, and what crashes left", "agents.clean_workspaces"),
        ("Purge artifacts whose time is over", "agents.purge_artifacts"),
    ):
        PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, "crontab": hourly, "queue": "control"})
    later, _ = CrontabSchedule.objects.get_or_create(minute="47", hour="3", timezone="UTC")
    PeriodicTask.objects.get_or_create(
        name="Move the logs of old jobs into the archive",
        defaults={"task": "agents.archive_logs", "crontab": later, "queue": "control"},
    )


def seed_demo(*, now: datetime) -> tuple[Job, bool]:
    """The sample repositories and the job of user `demo` on the first: (job, created just now). The second is what
    docs/howto/evolution.md makes faster.

    The job belongs to `demo`, who cannot sign in, because nobody approves their own.
    """
    with transaction.atomic():
        requester, new = User.objects.get_or_create(username=REQUESTER, defaults={"email": "demo@localhost"})
        if new:
            requester.set_unusable_password()
            requester.save(update_fields=["password"])
            _created("user", requester.pk, REQUESTER)
        for name, create in ((SAMPLE, sample.create), (PRIMES, primes.create)):
            if not Repository.objects.filter(name=name).exists():
                remote = create(settings.DATA_DIR / "demo")
                admin = User.objects.get(username=ADMIN)
                given = {"name": name, "url": str(remote), "default_branch": "main"}
                assign_perm("agents.view_repository", requester, create_repository(given, user=admin, now=now))
    return submit(
        {"goal": GOAL, "repository": SAMPLE, "labels": {"demo": "true"}},
        user=requester,
        idempotency_key=DEMO_KEY,
        now=now,
    )


def _created(kind: str, pk: int, name: str) -> str:
    """Records it; gives "user admin"."""
    record(
        Event.ADMIN_CHANGED,
        actor=Actor.system("seed"),
        target=Target(type=kind, id=str(pk)),
        context={"action": "created", "by": "seed"},
    )
    return f"{kind} {name}"
