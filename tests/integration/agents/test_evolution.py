"""A search for better files: real engine, policies, sandbox and scoring; the scripted server writes the candidates."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from agents.evolution import picture, population
from agents.evolution.example import create
from agents.models import Candidate, Job, LlmCall, PromptUse, Repository
from agents.prompts.shipped import ensure_prompts
from agents.states import JobState
from agents.submit import submit
from agents.workflows import shipped
from approvals.decisions import decide
from approvals.defaults import ensure_policies
from approvals.models import ApprovalRequest
from audit.models import Record
from tests.factories import scripted_server
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.driving import run_all, states, step_of
from tests.integration.agents.test_web_pages import strict
from tools.workspaces import workspace_for

pytestmark = pytest.mark.django_db(transaction=True)

SCENARIO = """\
rules:
  - when: {schema: [idea, files], goal: "Join what makes"}
    answer:
      idea: Both ideas at once.
      files: [{path: primes.py, text: "def primes(below):\\n    sieve = [True] * below\\n    for n in range(2, int(below**0.5) + 1):\\n        if sieve[n]:\\n            sieve[n * n :: n] = [False] * len(range(n * n, below, n))\\n    return [n for n in range(2, below) if sieve[n]]\\n"}]
  - when: {schema: [idea, files], goal: "The answer was wrong|it failed"}
    answer:
      idea: Try divisors up to the root.
      files: [{path: primes.py, text: "def primes(below):\\n    return [n for n in range(2, below) if all(n % d for d in range(2, int(n**0.5) + 1))]\\n"}]
  - when: {schema: [idea, files]}
    answer:
      idea: Skip even numbers.
      files: [{path: primes.py, text: "def primes(below):\\n    return [2] + list(range(3, below, 2))\\n"}]
"""


@pytest.fixture
def remote(settings, tmp_path):
    scenario = tmp_path / "search.yaml"
    scenario.write_text(SCENARIO)
    user("grace", groups=("approvers",))
    ensure_policies(Group.objects.get(name="approvers"))
    ensure_prompts(now=timezone.now())
    shipped.ensure_workflows(now=timezone.now())
    settings.ALLOW_LOCAL_REPOSITORIES = True
    Repository.objects.create(name="primes", url=str(create(tmp_path)), owner=user("ada"))
    with scripted_server.running("--scenario", str(scenario)) as endpoint:
        settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
        yield


def search(max_tokens: int | None = None, **inputs) -> Job:
    given = {
        "paths": ["primes.py"],
        "command": ["python3", "fitness.py"],
        "goal": "Fewer steps; the same answer.",
        **inputs,
    }
    payload: dict[str, Any] = {"workflow": "evolve", "repository": "primes", "inputs": given}
    if max_tokens is not None:
        payload["max_tokens"] = max_tokens
    job, _ = submit(payload, user=user("ada"), now=timezone.now())
    return run_all(job, rounds=400)


def test_a_slow_function_becomes_faster_and_people_let_it_in(remote):
    job = search(population=2, generations=3)
    assert job.state not in (JobState.FAILED,), job.outcome
    found = {f"{one.generation}.{one.number}": one for one in Candidate.objects.filter(job=job)}
    assert found["0.0"].operator == "origin"
    assert found["1.0"].viable is False
    assert "wrong" in found["1.0"].output
    best = population.ranked(job.pk, "min")[0]
    assert best.score < found["0.0"].score / 3
    assert {one.operator for one in found.values()} == {"origin", "mutate", "cross"}
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    assert request.call["tool"] == "evolve.apply"
    assert "+++ b/primes.py" in request.preview
    assert request.command.endswith(f"{found['0.0'].score:g} becomes {best.score:g}")
    assert states(job)["apply"] == "waiting_approval"
    decide(request_id=request.pk, by=user("grace"), verdict="approve", reason="", channel="page", now=timezone.now())
    run_all(job)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, job.outcome
    assert job.outputs["best"] == best.score
    assert job.outputs["applied"] is True
    # each candidate was a step, decided on and recorded; each question to the model stands in ledger and budget
    asked = LlmCall.objects.filter(job=job)
    steps = set(asked.values_list("step", flat=True))
    assert len(steps) == 3 * 2 == PromptUse.objects.filter(job=job).count()
    assert {one.proposed_by_id for one in found.values() if one.generation} <= steps
    assert Record.objects.filter(event="step.confirmed", target_id__in=[str(one) for one in steps]).count() == 6
    client = web.signed_in(user("ada"))
    shown = client.get(f"/jobs/{job.pk}/search")
    assert f"{picture.came_of(found['0.0'])} became {picture.came_of(best)}" in shown.text
    assert shown.text.count("<circle") == len(found)
    strict(shown.text)
    assert "wrong" in client.get(f"/jobs/{job.pk}/search?candidate=1.0&part=1").text
    assert client.get(f"/jobs/{job.pk}/search?candidate=9.9").status_code == 404
    assert f"/jobs/{job.pk}/search" in client.get(f"/jobs/{job.pk}/").text
    assert web.signed_in(user("zoe")).get(f"/jobs/{job.pk}/search").status_code == 404
    assert 0 < job.tokens_used <= sum(one.prompt_tokens + one.completion_tokens for one in asked)


def test_a_search_without_progress_ends_early_and_asks_nobody(remote):
    job = search(population=1, generations=6, patience=1, command=["python3", "fitness.py", "--constant"])
    assert job.state == JobState.SUCCEEDED, job.outcome
    now = states(job)
    assert (now["rank_1"], now["propose_2"], now["rank_6"], now["apply"]) == (
        "succeeded",
        "skipped",
        "skipped",
        "skipped",
    )
    assert job.outputs["patch"] == ""
    assert not ApprovalRequest.objects.filter(parent_id=str(job.pk)).exists()


def test_a_search_says_why_it_cannot_go_on_and_a_dangerous_command_asks(remote):
    job = search(command=["python3", "-m", "compileall", "-q", "."])
    assert job.state == JobState.FAILED
    begin = step_of(job, "begin")
    assert (begin.error_code, "its last line is no number" in begin.error) == ("origin_fails", True)
    job = search(max_tokens=10, population=1, command=["echo", "1"])
    assert (job.state, step_of(job, "rank_1").error_code) == (JobState.FAILED, "no_candidates")
    assert "No candidate could be written" in job.outcome
    job = search(command=["rm", "-rf", "/"])
    assert states(job)["begin"] == "waiting_approval"


def test_the_work_tree_is_as_it_was_however_candidates_write(remote):
    job = search(
        population=1,
        generations=1,
        command=["/bin/sh", "-c", "echo x > primes.py; echo y > new.txt; rm -f fitness.py; echo 1"],
    )
    request = ApprovalRequest.objects.filter(parent_id=str(job.pk), state="pending").first()
    if request is not None:  # a shell's text is no plain command: people are asked
        decide(
            request_id=request.pk, by=user("grace"), verdict="approve", reason="", channel="page", now=timezone.now()
        )
        run_all(job)
    tree = workspace_for(str(job.pk)).tree
    assert (tree / "primes.py").read_text().startswith("def primes")
    assert sorted(one.name for one in tree.iterdir() if one.name != ".git") == ["fitness.py", "primes.py"]
