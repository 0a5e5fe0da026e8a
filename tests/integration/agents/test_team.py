"""The shipped team on the sample repository: real engine, tools, sandbox and git, the scripted model; only Celery is
played."""

import subprocess

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from agents.defaults import READING, ensure_agents
from agents.demo import repository
from agents.engine import children
from agents.engine.advance import advance
from agents.engine.intake import NewStep, add_steps
from agents.engine.transitions import lock_job
from agents.llm import conversation
from agents.models import Agent, Job, Repository, Step
from agents.states import JobState
from agents.submit import submit
from agents.workflows import shipped
from approvals.decisions import decide
from approvals.defaults import ensure_policies
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.models import Record
from tests.factories import scripted_server
from tests.factories.people import user
from tests.integration.agents import driving, web
from tests.integration.agents.driving import run_all, states, step_of

pytestmark = pytest.mark.django_db(transaction=True)

WRITING = ("files.write", "shell.exec", "git.add", "git.commit", "git.push", "git.checkout")


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


@pytest.fixture
def remote(settings, endpoint, tmp_path):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.ALLOW_LOCAL_REPOSITORIES = True
    user("grace", groups=("approvers",))
    ensure_policies(Group.objects.get(name="approvers"))
    ensure_agents()
    shipped.ensure_workflows(now=timezone.now())
    remote = repository.create(tmp_path)
    Repository.objects.create(name="sample", url=str(remote), owner=user("ada"))
    return remote


def start(**inputs: object) -> Job:
    payload = {"workflow": "team", "repository": "sample", "inputs": inputs}
    return submit(payload, user=user("ada"), now=timezone.now())[0]


def told(job: Job) -> str:
    rows = Step.objects.filter(job__in=[job, *job.children.all()]).values_list("key", "tool", "state", "error")
    return f"{job.state}: {job.outcome}\n" + "\n".join(" ".join(map(str, row)) for row in rows)


def child(job: Job, key: str) -> Job:
    return Job.objects.get(parent_step=step_of(job, key))


def test_a_team_researches_codes_and_reviews_twice_where_the_review_asks_for_it(remote):
    job = run_all(start(goal="make the tests pass", branch="team/cents", push=True))
    assert job.state == JobState.WAITING, told(job)
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    assert request.command.startswith("git push")
    decide(request_id=request.pk, by=user("grace"), verdict="approve", reason="", channel="page", now=timezone.now())
    job = run_all(job)
    assert job.state == JobState.SUCCEEDED, told(job)
    assert job.outputs is not None
    assert (job.outputs["verdict"], job.outputs["rounds"], job.outputs["branch"]) == ("approve", 2, "team/cents")
    first = child(job, "review")
    assert first.outcome.startswith("Verdict: request changes") and "RELEASE_NOTES.md" in first.outcome
    files = subprocess.run(
        ["git", "-C", str(remote), "diff", "--name-only", "main", "team/cents"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert files.stdout.split() == ["RELEASE_NOTES.md", "billing/money.py"]
    for one in job.children.all():
        assert (one.workspace_of, one.depth, one.owner_id) == (job.pk, 1, job.owner_id)
        assert not Step.objects.filter(job=one, tool="workspace.prepare").exists()
    wrote = Step.objects.filter(job__parent=job, tool__in=WRITING).values_list("job__agent__name", flat=True)
    assert set(wrote) == {"coder"}
    assert job.tokens_used == sum(one.tokens_used for one in job.children.all()) > 0


def test_a_review_that_approves_needs_no_second_round_and_nothing_is_pushed_unasked(remote):
    job = run_all(start(goal="make the tests pass, and write the release notes"))
    assert job.state == JobState.SUCCEEDED, told(job)
    assert job.outputs is not None
    assert (job.outputs["verdict"], job.outputs["rounds"]) == ("approve", 1)
    assert {key: state for key, state in states(job).items() if state != "succeeded"} == {
        "code-again": "skipped",
        "review-again": "skipped",
        "push": "skipped",
    }
    assert not ApprovalRequest.objects.exists()


def test_a_goal_that_the_coder_cannot_reach_ends_the_team(remote):
    job = run_all(start(goal="write a web shop"))
    assert job.state == JobState.FAILED, told(job)
    assert (step_of(job, "code").error_code, states(job)["review"]) == ("child_failed", "skipped")
    assert "OPENAI_BASE_URL" in child(job, "code").outcome


def test_a_reviewer_cannot_write_even_where_its_agent_could_and_the_refusal_is_on_record(remote):
    Agent.objects.filter(name="reviewer").update(tools=["*"])
    arguments = {"goal": "Look at it.", "agent": "reviewer", "tools": READING}
    sample = Repository.objects.get(name="sample")
    job = driving.submit(NewStep(key="d", tool="job.delegate", arguments=arguments), repository=sample)
    prepare = step_of(job, "prepare")
    driving.execute(prepare.pk, prepare.attempt, driving.HERE)
    now = timezone.now()
    assert children.sweep(now) == 1
    reviewer = child(job, "d")
    assert {tool.name for tool in conversation.build(reviewer).tools} == {*READING, "human.ask"}
    write = NewStep(key="w", tool="files.write", arguments={"path": "x", "content": "x"})
    with transaction.atomic():  # as if the model had got it past the offer
        locked = lock_job(reviewer.pk)
        add_steps(locked, [write], now=now, actor=Actor.system("test"))
        advance(locked, now=now)
    step = step_of(reviewer, "w")
    assert (step.state, step.error_code) == ("refused", "beyond_grant")
    assert Record.objects.filter(event="step.refused", outcome="beyond_grant", target_id=str(step.pk)).count() == 1
    page = web.signed_in(job.owner).get(f"/jobs/{reviewer.pk}/?step=w").content.decode()
    assert "files.write is more than this job was given to use." in page
