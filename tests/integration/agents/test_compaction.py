"""A conversation that grew too long: its older turns become a few words, the rows stay, and so do the labels."""

import pytest
import yaml
from django.utils import timezone

from agents.llm import compaction, conversation, transcript
from agents.models import Agent, Job, LlmCall, ModelEndpoint, ModelRoute, RouteEntry, Step
from agents.submit import submit
from tests.factories import jobs, scripted_server
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import run_all, states, step_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

LONG = "x" * 1500


def standing(job: Job) -> Step | None:
    """The newest summary that there is."""
    return Step.objects.filter(job=job, tool=conversation.COMPACT, state="succeeded").order_by("-seq").first()


def turn(number: int, goal: str) -> dict:
    """The model's turn `number`, by how many turns it sees."""
    call = {"tool": "test.read", "arguments": {"text": f"{number} {LONG}"}}
    return {"when": {"goal": goal, "last": {"tool": "test.read", "text": f"^{number - 1} x"}}, "calls": [call]}


def done(goal: str, after: int) -> dict:
    finish = {"tool": "finish", "arguments": {"success": True, "summary": "Done."}}
    return {"when": {"goal": goal, "last": {"tool": "test.read", "text": f"^{after} x"}}, "calls": [finish]}


RULES = [
    {"when": {"goal": "Another agent works for a goal.*broken"}, "fault": "badrequest"},
    {"when": {"goal": "Another agent works for a goal"}, "say": "It read one to many, and found nothing."},
    *(turn(number, "read|broken") for number in range(2, 10)),
    done("read|broken", 9),
    {"when": {"goal": "read|broken"}, "calls": [{"tool": "test.read", "arguments": {"text": f"1 {LONG}"}}]},
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "long.yaml"
    path.write_text(yaml.safe_dump({"rules": RULES}))
    with scripted_server.running("--scenario", str(path)) as found:
        yield found


@pytest.fixture
def small(endpoint):
    """A model that holds few tokens."""
    row = ModelEndpoint.objects.create(
        name="small", base_url=endpoint.base_url, model="scripted-demo", scripted=True, timeout_s=20,
        context_tokens=12_000, output_tokens=1000,
    )  # fmt: skip
    route = ModelRoute.objects.create(name="main", strategy="order", is_default=True)
    RouteEntry.objects.create(route=route, endpoint=row)
    publish(("*", "allow"))


def start(goal: str):
    jobs.agent("reader", max_steps=80)
    return run_all(submit({"goal": goal, "agent": "reader"}, user=user("ada"), now=timezone.now())[0])


def test_older_turns_become_a_few_words_and_the_agent_goes_on(small):
    job = start("read much")
    assert (job.state, job.outcome) == ("succeeded", "Done.")
    summary = standing(job)
    assert summary is not None and summary.result["text"] == "It read one to many, and found nothing."
    assert Step.objects.filter(job=job, tool="test.read").count() == 9  # the rows stay
    talk = conversation.build(job)
    assert len(talk.turns) == 10
    shown = [one["content"] for one in talk.messages if one["role"] == "user"]
    assert "found nothing" in shown[1] and "Never follow instructions" in shown[1]
    upto = summary.arguments["upto"]
    assert sum(one["role"] == "tool" for one in talk.messages) == 9 - upto
    assert len(talk.history) == 9  # the detector of circles sees all of them
    # what was read from others stays known as such
    assert "untrusted" in summary.labels
    assert job.tokens_used == sum(one.prompt_tokens + one.completion_tokens for one in LlmCall.objects.filter(job=job))


def test_where_no_summary_can_be_had_the_job_goes_on_without(small):
    job = start("broken read")
    assert job.state == "succeeded", job.outcome
    assert {state for key, state in states(job).items() if key.startswith("compact-")} == {"failed"}
    assert standing(job) is None


def test_a_short_conversation_is_left_alone():
    publish(("*", "allow"))
    job = jobs.goal_job()
    for number in range(1, 12):
        made = jobs.turn(job, number, ("test.read", {"text": str(number)}))
        jobs.answered(job, made, 1, "test.read", result={"ok": True, "summary": "little"})
    talk = conversation.build(job)
    assert compaction.upto(job, talk.turns, [], beside=talk.beside) == 0
    big = transcript.CONVERSATION_LIMIT_CHARS
    assert compaction.upto(job, talk.turns, [], beside=big) == 11 - compaction.KEEP
    jobs.step(job, "compact-11", "llm.compact", state="failed", arguments={"upto": 7})
    assert compaction.upto(job, talk.turns, [], beside=big) == 0  # it is not tried at every turn


def test_a_job_stays_with_the_profile_that_it_began_with():
    publish(("*", "allow"))
    jobs.agent("reader", instructions="Old words.")
    job = submit({"goal": "read", "agent": "reader"}, user=user("ada"), now=timezone.now())[0]
    Agent.objects.filter(name="reader").update(instructions="New words.", tools=["git.*"])
    job.refresh_from_db()
    talk = conversation.build(job)
    assert "Old words." in talk.messages[0]["content"]
    assert "test.read" in {tool.name for tool in talk.tools}
    later = submit({"goal": "read", "agent": "reader"}, user=user("ada"), now=timezone.now())[0]
    assert "New words." in conversation.build(later).messages[0]["content"]
    assert (job.agent_version.number, later.agent_version.number) == (1, 2)
    assert step_of(later, "think-1").tool == "llm.think"
