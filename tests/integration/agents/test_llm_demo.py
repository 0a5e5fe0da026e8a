"""The demo job through the real engine, tools, sandbox and git, driven by the scripted model; only Celery is played."""

import subprocess

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from agents.defaults import ensure_agents
from agents.demo import GOAL, repository
from agents.engine import intake
from agents.engine.control import pause
from agents.engine.execute import Delivery, execute
from agents.models import Job, LlmCall, Repository, Step
from agents.states import JobState, StepState
from approvals.decisions import decide
from approvals.defaults import ensure_policies
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories import scripted_server
from tests.factories.people import user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


@pytest.fixture
def remote(settings, endpoint, tmp_path):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.ALLOW_LOCAL_REPOSITORIES = True
    return repository.create(tmp_path)


@pytest.fixture
def job(remote):
    user("grace", groups=("approvers",))
    ensure_policies(Group.objects.get(name="approvers"))
    owner = user("demo")
    sample = Repository.objects.create(name="sample", url=str(remote), owner=owner)
    new = intake.NewJob(owner=owner, kind="goal", goal=GOAL, agent=ensure_agents(), repository=sample)
    return intake.create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))


def work(job: Job, *, rounds: int = 60) -> Job:
    """Plays the workers until the job waits for people or has ended."""
    for _ in range(rounds):
        ready = list(Step.objects.filter(job=job, state__in=[StepState.QUEUED, StepState.READY], not_before=None))
        if not ready:
            break
        for step in ready:
            execute(step.pk, step.attempt, Delivery(queue=step.queue, worker="test@here", task_id=""))
    job.refresh_from_db()
    return job


def answer(verdict: str, reason: str = "") -> None:
    request = ApprovalRequest.objects.get(state="pending")
    decide(request_id=request.pk, by=user("grace"), verdict=verdict, reason=reason, channel="page", now=timezone.now())


def git(remote, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=remote, capture_output=True, text=True, check=True)
    return done.stdout


def branches(remote) -> set[str]:
    return set(git(remote, "for-each-ref", "--format=%(refname:short)", "refs/heads").split())


def told(job: Job) -> str:
    """The job's steps in words, for a failed assertion."""
    steps = Step.objects.filter(job=job).values_list("key", "tool", "state", "error_code", "error")
    return f"{job.state}: {job.outcome}\n" + "\n".join(" ".join(map(str, one)) for one in steps)


def test_the_demo_waits_for_a_person_and_an_approval_finishes_it(job, remote):
    assert work(job).state == JobState.WAITING, told(job)
    assert branches(remote) == {"main"}
    answer("approve")
    assert work(job).state == JobState.SUCCEEDED, told(job)
    assert "scripted" in job.outcome
    assert len(branches(remote)) == 2
    branch = next(iter(branches(remote) - {"main"}))
    assert "ROUND_HALF_UP" in git(remote, "show", f"{branch}:billing/money.py")
    assert "Test that half a cent rounds up" in git(remote, "show", f"{branch}:RELEASE_NOTES.md")
    assert all(LlmCall.objects.values_list("scripted", flat=True))


def test_a_denial_with_a_reason_sends_the_demo_another_way_and_it_asks_again(job, remote):
    assert work(job).state == JobState.WAITING, told(job)
    answer("deny", "Please use the branch `hotfix/cents`.")
    assert work(job).state == JobState.WAITING, told(job)
    assert ApprovalRequest.objects.count() == 2
    answer("deny", "Not before Jonas has seen it.")
    assert work(job).state == JobState.WAITING, told(job)
    answer("approve")
    assert work(job).state == JobState.SUCCEEDED, told(job)
    pushed = next(iter(branches(remote) - {"main"}))
    assert pushed == "hotfix/cents"
    assert "Not before Jonas has seen it." in git(remote, "show", f"{pushed}:RELEASE_NOTES.md")


def test_three_denials_pause_the_demo_and_then_end_it_and_nothing_is_pushed(job, remote):
    for reason in ("No.", "Still no.", "Never."):
        assert work(job).state == JobState.WAITING, told(job)
        answer("deny", reason)
    assert work(job).state == JobState.PAUSED, told(job)
    assert job.paused_because
    pause.resume_job(job.pk, by=Actor.user(job.owner_id), now=timezone.now())
    assert work(job).state == JobState.FAILED, told(job)
    assert "Never." in job.outcome
    assert branches(remote) == {"main"}
