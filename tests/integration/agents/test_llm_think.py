"""The model's turn on real rows, against the scripted server over real HTTP."""

import socket

import pytest
from django.utils import timezone

from agents.engine import intake
from agents.engine.execute import Delivery, execute
from agents.llm.think import REPAIRS, Think, ThinkFailed
from agents.models import Job, LlmCall, Step
from agents.states import JobState, StepState
from audit.actor import Actor
from tests.factories import jobs, scripted_server
from tests.factories.policies import publish
from tools import redact
from tools.box import SandboxBox
from tools.workspaces import workspace_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


@pytest.fixture(autouse=True)
def scripted(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.LLM_SCRIPTED, settings.LLM_TIMEOUT_S = False, 20


def think(job: Job, *, number: int = 1, heard: list[tuple[str, str]] | None = None):
    step = jobs.step(job, f"think-{number}", "llm.think", state="running", arguments={"turn": number})
    box = SandboxBox(
        workspace_for(str(job.pk)),
        limits=Think.limits,
        call_id=str(step.pk),
        on_output=lambda stream, text: heard.append((stream, text)) if heard is not None else None,
    )
    try:
        return Think().run({"turn": number}, box)
    finally:
        box.close()


def with_model(model: str, **fields) -> Job:
    return jobs.goal_job(agent=jobs.agent(model=model, tools=("test.*",)), **fields)


def test_an_answer_is_calls_or_an_end_with_its_usage_and_says_that_it_is_scripted():
    heard: list[tuple[str, str]] = []
    result = think(jobs.goal_job(), heard=heard)
    data = result.data
    assert data["finish"] is not None and data["finish"]["success"] is False
    assert data["tool_calls"] == []
    assert data["scripted"] is True and data["model"] == "scripted-demo"
    assert data["usage"]["prompt_tokens"] > 0 and data["usage"]["completion_tokens"] > 0
    assert "".join(text for stream, text in heard if stream == "token") == data["content"]


def test_each_call_stands_in_the_ledger_with_what_it_asked_and_got():
    think(jobs.goal_job())
    call = LlmCall.objects.get()
    assert (call.model, call.scripted, call.finish_reason, call.error_code) == ("scripted-demo", True, "tool_calls", "")
    assert call.prompt_tokens > 0 and len(call.request_sha256) == 64
    assert call.answer["tool_calls"][0]["name"] == "finish"


@pytest.mark.parametrize("fault", ["badjson", "unknowntool", "badarguments", "plain", "mixed"])
def test_an_answer_that_cannot_be_used_is_repaired_within_the_step(fault):
    result = think(with_model(f"scripted-demo+{fault}-once"))
    assert result.data["finish"] is not None
    calls = list(LlmCall.objects.all())
    assert len(calls) == 2
    assert result.data["usage"]["prompt_tokens"] == sum(call.prompt_tokens for call in calls)


@pytest.mark.parametrize("fault", ["badjson", "unknowntool", "plain"])
def test_after_two_repairs_the_step_fails_for_good(fault):
    with pytest.raises(ThinkFailed) as caught:
        think(with_model(f"scripted-demo+{fault}"))
    assert (caught.value.code, caught.value.transient) == ("invalid_answer", False)
    assert LlmCall.objects.count() == REPAIRS + 1


@pytest.mark.parametrize(
    ("fault", "code", "transient"),
    [
        ("status500", "endpoint_failed", True),
        ("ratelimit", "rate_limited", True),
        ("quota", "quota_exhausted", False),
        ("auth", "credentials_refused", False),
        ("cut", "stream_cut", True),
        ("html", "not_an_answer", True),
        ("malformed", "malformed_answer", True),
        ("length", "answer_truncated", False),
    ],
)
def test_an_endpoint_that_fails_is_a_failed_step_that_says_whether_to_try_again(fault, code, transient):
    with pytest.raises(ThinkFailed) as caught:
        think(with_model(f"scripted-demo+{fault}"))
    assert (caught.value.code, caught.value.transient) == (code, transient)
    call = LlmCall.objects.get()
    assert call.error_code == code and call.error
    assert caught.value.details.get("retry_after_s") == (2.0 if fault == "ratelimit" else None)


def test_no_endpoint_at_all_is_said_in_one_line(settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.LLM_BASE_URL = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with pytest.raises(ThinkFailed) as caught:
        think(jobs.goal_job())
    assert (caught.value.code, caught.value.transient) == ("endpoint_unreachable", True)
    assert "\n" not in caught.value.message


def test_a_slow_endpoint_is_given_up_at_the_deadline(settings):
    settings.LLM_TIMEOUT_S = 1
    with pytest.raises(ThinkFailed) as caught:
        think(with_model("scripted-demo+drip"))
    assert caught.value.code == "endpoint_timeout"


def test_a_job_without_tokens_left_asks_nobody():
    with pytest.raises(ThinkFailed) as caught:
        think(jobs.goal_job(max_tokens=500))
    assert (caught.value.code, caught.value.transient) == ("budget_exhausted", False)
    assert not LlmCall.objects.exists()


def test_calls_that_came_to_nothing_count_against_the_budget():
    job = with_model("scripted-demo+length")
    with pytest.raises(ThinkFailed):
        think(job)
    spent = LlmCall.objects.get()
    LlmCall.objects.update(prompt_tokens=job.max_tokens)
    with pytest.raises(ThinkFailed) as caught:
        think(job, number=2)
    assert spent.prompt_tokens > 0
    assert caught.value.code == "budget_exhausted"


def test_a_live_secret_that_an_endpoint_repeats_is_kept_nowhere(monkeypatch):
    monkeypatch.setattr(redact, "_known", redact._known)
    redact.register("scripted refusal of the key")
    with pytest.raises(ThinkFailed) as caught:
        think(with_model("scripted-demo+auth"))
    assert "scripted refusal" not in caught.value.message + LlmCall.objects.get().error


def test_an_agent_in_circles_is_stopped_before_it_costs_more():
    job = jobs.goal_job()
    for number in range(1, 5):
        made = jobs.turn(job, number, ("test.read", {"text": "same"}))
        jobs.answered(job, made, 1, "test.read", result={"ok": True, "text": "same"})
    with pytest.raises(ThinkFailed) as caught:
        think(job, number=5)
    assert (caught.value.code, caught.value.transient) == ("stuck", False)
    assert not LlmCall.objects.exists()


def run_goal(job: Job, *, rounds: int = 40) -> Job:
    """Plays the workers until nothing stands ready."""
    for _ in range(rounds):
        ready = list(Step.objects.filter(job=job, state__in=[StepState.QUEUED, StepState.READY], not_before=None))
        if not ready:
            break
        for step in ready:
            execute(step.pk, step.attempt, Delivery(queue=step.queue, worker="test@here", task_id=""))
    job.refresh_from_db()
    return job


def submit(model: str, *, goal: str = "look around", tools: tuple[str, ...] = ("test.*",)) -> Job:
    publish(("llm.*", "allow"), ("test.*", "allow"))
    owner = jobs.user("ada")
    new = intake.NewJob(owner=owner, kind="goal", goal=goal, agent=jobs.agent(model=model, tools=tools))
    return intake.create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))


def test_through_the_engine_a_goal_ends_with_what_the_model_said_and_its_tokens_counted():
    job = run_goal(submit("scripted-demo"))
    assert job.state == JobState.FAILED
    assert "OPENAI_BASE_URL" in job.outcome
    step = Step.objects.get(job=job)
    assert (step.state, step.queue) == (StepState.SUCCEEDED, "llm")
    assert job.tokens_used == step.tokens > 0


def test_through_the_engine_a_refused_key_ends_the_job_with_its_reason():
    job = run_goal(submit("scripted-demo+auth"))
    assert job.state == JobState.FAILED
    assert "refuses the key" in job.outcome
    assert Step.objects.get(job=job).error_code == "credentials_refused"


def test_through_the_engine_a_passing_fault_is_tried_again_and_overcome():
    job = run_goal(submit("scripted-demo+status503-once"))
    step = Step.objects.get(job=job)
    assert step.state == StepState.QUEUED and step.not_before is not None
    assert (step.not_before - timezone.now()).total_seconds() > 1
    Step.objects.filter(pk=step.pk).update(not_before=None)
    assert "scripted" in run_goal(job).outcome
    assert list(LlmCall.objects.values_list("attempt", "error_code")) == [(1, "endpoint_failed"), (2, "")]
