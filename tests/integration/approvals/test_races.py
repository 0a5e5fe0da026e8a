"""Many people, the clock and a worker at one request at once, over every channel: one outcome, and one chain of it.

`RACE_ROUNDS=1000 bin/test tests/integration/approvals/test_races.py -s --timeout=3600` is the long form.
"""

import io
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from agents.engine import reconsider
from agents.engine.cancel import cancel_job
from agents.engine.execute import claim_step, execute
from agents.engine.intake import NewJob, NewStep, create_job
from agents.models import Attempt, Job, Step
from approvals import batch, editing, expiry, glass, granting, taking_back
from approvals.decisions import decide
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest, Grant, Policy, PolicyRule, PolicyVersion, Vote
from audit.actor import Actor
from audit.models import Record
from tests.factories import people, tools
from tests.integration.agents.driving import HERE
from tools.models import Permit

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 50
ROUNDS = int(os.environ.get("RACE_ROUNDS", "20"))
ENDS = {"approved", "denied", "expired", "cancelled", "void"}


@dataclass
class Round:
    """What the actors of one round act on, and what came of it."""

    job_id: UUID
    step_id: UUID
    request_id: UUID
    start: threading.Barrier
    won: Counter[str] = field(default_factory=Counter)
    broke: list[BaseException] = field(default_factory=list)


Act = Callable[[Round, User], str]


def channel(name: str, verdict: str) -> Act:
    def act(this: Round, by: User) -> str:
        given = {"request_id": this.request_id, "by": by, "verdict": verdict, "reason": "so", "channel": name}
        return str(decide(**given, now=timezone.now()).state)

    return act


def by_api(verdict: str) -> Act:
    def act(this: Round, by: User) -> str:
        client = APIClient()
        client.force_authenticate(by)
        answer = client.post(f"/api/v1/approvals/{this.request_id}/{verdict}", {"reason": "so"}, format="json")
        assert answer.status_code in {200, 403, 409}, answer.content
        return str(answer.json()["state"] if answer.status_code == 200 else answer.json()["code"])

    return act


def by_page(verdict: str) -> Act:
    def act(this: Round, by: User) -> str:
        client = Client()
        client.force_login(by, backend="django.contrib.auth.backends.ModelBackend")
        answer = client.post(f"/approvals/{this.request_id}/", {"verdict": verdict, "reason": "so"})
        assert answer.status_code in {303, 403, 409}, answer.status_code
        return "done" if answer.status_code == 303 else "refused"

    return act


def by_command(verdict: str) -> Act:
    def act(this: Round, by: User) -> str:
        out = io.StringIO()
        more = ("--reason", "so") if verdict == "deny" else ()
        try:
            call_command(verdict, str(this.request_id), *more, "--as", by.username, "--json", stdout=out)
        except (CommandError, SystemExit):
            return "refused"
        return str(json.loads(out.getvalue()).get("state"))

    return act


def in_a_batch(this: Round, by: User) -> str:
    ((found, error),) = batch.decide_all(
        request_ids=[this.request_id], by=by, verdict="approve", reason="", now=timezone.now()
    )
    return error.code if error else str(found.state)


def with_a_grant(this: Round, by: User) -> str:
    matcher = {"text": ApprovalRequest.objects.get(pk=this.request_id).call["arguments"]["text"]}
    granting.give(request_id=this.request_id, by=by, minutes=5, uses=2, matcher=matcher, now=timezone.now())
    return "approved"


def editing_it(this: Round, by: User) -> str:
    arguments = {"text": "another"}
    now = timezone.now()
    editing.edit(request_id=this.request_id, by=by, arguments=arguments, reason="", channel="api", now=now)
    return "edited"


def taking_it_back(this: Round, by: User) -> str:
    channel("page", "approve")(this, by)
    taking_back.take_back(request_id=this.request_id, by=by, channel="page", now=timezone.now())
    return "taken_back"


def breaking_the_glass(this: Round, by: User) -> str:
    given = {"reason": "Production is down and nobody else is awake.", "channel": "page"}
    return str(glass.break_glass(request_id=this.request_id, by=by, now=timezone.now(), **given).state)


def the_clock(this: Round, by: User) -> str:
    return f"expired {expiry.expire_due(timezone.now() + timedelta(days=2))}"


def cancelling(this: Round, by: User) -> str:
    cancel_job(this.job_id, by=Actor.user(by.pk), now=timezone.now())
    return "cancelled"


def a_worker(this: Round, by: User) -> str:
    for _ in range(4):
        step = Step.objects.filter(pk=this.step_id).only("attempt").get()
        if claim_step(step.pk, step.attempt, HERE, now=timezone.now()) is not None:
            return "claimed"
    return "nothing to claim"


def the_sweeper(this: Round, by: User) -> str:
    """The approval is too old to run, and the policies are asked anew."""
    reconsider.not_run_in_time(timezone.now() + timedelta(days=3))
    reconsider.policies_changed(timezone.now())
    return "swept"


# Every channel by its own entry point; each actor is a user of its own.
OUTSIDE: list[Act] = [
    *(by_api("approve"), by_api("deny"), by_page("approve"), by_page("deny"), by_command("approve")),
    by_command("deny"),
]
INSIDE: list[Act] = [
    *(channel("admin", "approve"), channel("slack", "approve"), channel("slack", "deny"), in_a_batch, with_a_grant),
    *(editing_it, taking_it_back, breaking_the_glass, the_clock, cancelling, a_worker, the_sweeper),
]
ACTORS = [*OUTSIDE, *INSIDE * 4][:THREADS]


@pytest.fixture
def asking() -> PolicyVersion:
    """Asks one person, who may give a grant with it, or two; what it asks about is of low risk."""
    group = Group.objects.create(name="racers")
    version = PolicyVersion.objects.create(policy=Policy.objects.create(name="racing"), number=1)
    for order, (name, condition, quorum) in enumerate([("two", "call.args.text == 'two'", 2), ("one", "", 1)], start=1):
        PolicyRule.objects.create(
            version=version,
            order=order,
            name=name,
            tools=["test.*"],
            condition=condition,
            effect="ask",
            approvers=group,
            quorum=quorum,
            grant_max_s=3600,
        )
    PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    return version


@contextmanager
def at_work() -> Iterator[list[User]]:
    """The tools, and a user for each thread."""
    may_break = Permission.objects.get(codename="break_the_glass")
    users = [people.user(f"racer-{number}", groups=("racers",)) for number in range(THREADS)]
    for user in users:
        user.user_permissions.add(may_break)
    with tools.registered():
        yield [User.objects.get(pk=user.pk) for user in users]


def opened(number: int) -> tuple[Job, Step, ApprovalRequest]:
    owner = people.user("ada")
    text = "two" if number % 2 else "one"
    steps = (NewStep(key="one", tool="test.read", arguments={"text": text}, needs=()),)
    new = NewJob(owner=owner, kind="plan", goal=f"round {number}", steps=steps)
    job = create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))
    step = Step.objects.get(job=job)
    execute(step.pk, step.attempt, HERE)
    return job, step, ApprovalRequest.objects.get(subject_id=str(step.pk))


def act(place: int, this: Round, by: User, number: int) -> None:
    does = ACTORS[(place + number) % len(ACTORS)]
    try:
        this.start.wait(120)
        try:
            this.won[does(this, by)] += 1
        except DecisionError as error:
            this.won[error.code] += 1
    except BaseException as error:
        this.broke.append(error)


def chain(request: ApprovalRequest) -> list[tuple[str, str]]:
    found = Record.objects.filter(target_id=str(request.pk), event__startswith="approval.").order_by("pk")
    return [(row.event, row.outcome) for row in found if row.event != "approval.refused"]


def replayed(events: list[tuple[str, str]]) -> str:
    """The state to which the records lead; each must follow from the one before."""
    state = ""
    for event, outcome in events:
        if event == "approval.requested":
            assert state == "", events
            state = "pending"
        elif event == "approval.voted":
            assert state == "pending", events
        elif event == "approval.closed":
            assert state == ("approved" if outcome == "void" and state == "approved" else "pending"), events
            assert outcome in ENDS, events
            state = outcome
        elif event == "approval.taken_back":
            assert state in {"pending", "approved"}, events
            assert (outcome == "reopened") == (state == "approved"), events
            state = "pending"
        else:
            assert event == "approval.edited" and state == "void", events
    return state


def check(this: Round) -> str:
    """One outcome, told by one chain; and what it let through is as it says."""
    request = ApprovalRequest.objects.get(pk=this.request_id)
    assert not this.broke, this.broke
    assert replayed(chain(request)) == request.state
    standing = Vote.objects.filter(request=request, withdrawn_at=None)
    assert standing.filter(verdict="deny").count() == (1 if request.state == "denied" else 0)
    step = Step.objects.get(pk=this.step_id)
    job = Job.objects.get(pk=this.job_id)
    claims = Attempt.objects.filter(step=step).count()
    assert claims == this.won["claimed"] <= 1
    good = Permit.objects.filter(subject=str(step.pk), spent_at=None, expires_at=None).count()
    if step.state != "cancelled":  # whose permit nobody can spend any more
        assert good == (1 if step.state in {"queued", "running"} else 0), (good, step.state, chain(request))
    if request.state == "pending":
        assert step.state in {"waiting_approval", "cancelled"}
    elif request.state == "approved":
        assert step.state in {"queued", "running", "cancelled"}
        assert claims or step.state != "running"
    elif request.state in {"denied", "expired"}:
        assert step.state in {"refused", "cancelled"}
        assert not claims
    elif request.state == "cancelled":
        assert (step.state, job.cancel_requested, claims) == ("cancelled", True, 0)
    else:
        assert step.approval_id != request.pk
        assert not claims
    assert Grant.objects.filter(from_request=request).count() <= 1
    return str(request.state)


def test_of_everything_at_once_one_thing_happens(asking):
    outcomes: Counter[str] = Counter()
    done: Counter[str] = Counter()
    with at_work() as users, ThreadPoolExecutor(THREADS) as pool:
        try:
            for number in range(ROUNDS):
                job, step, request = opened(number)
                this = Round(job_id=job.pk, step_id=step.pk, request_id=request.pk, start=threading.Barrier(THREADS))
                for one in [pool.submit(act, place, this, users[place], number) for place in range(THREADS)]:
                    one.result()
                outcomes[check(this)] += 1
                done += this.won
                clear(job)
                if number % 100 == 99:
                    print(f"{number + 1} rounds: {dict(outcomes)}", flush=True)
        finally:
            barrier = threading.Barrier(THREADS)  # so that each thread takes one, and ends its own connection
            for one in [pool.submit(let_go, barrier) for _ in range(THREADS)]:
                one.result()
    assert sum(outcomes.values()) == ROUNDS
    print(f"\n{ROUNDS} rounds of {THREADS} threads: {dict(outcomes)}; what the threads met: {dict(done)}")


def clear(job: Job) -> None:
    """What is over is out of the way of the sweeps of the rounds after it."""
    cancel_job(job.pk, by=Actor.system("test"), now=timezone.now())


def let_go(barrier: threading.Barrier) -> None:
    barrier.wait(120)
    connections.close_all()
