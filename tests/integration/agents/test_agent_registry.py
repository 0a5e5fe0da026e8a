"""Who is asked where a job names no agent, teams, versions of profiles, and workflows that a model drafts."""

from datetime import timedelta
from decimal import Decimal

import pytest
import yaml
from django.db import transaction
from django.utils import timezone

from agents import choosing, profiles, teams
from agents.engine import children, intake
from agents.engine.advance import advance
from agents.engine.transitions import lock_job
from agents.errors import InvalidInput, UnknownAgent
from agents.llm import conversation
from agents.models import Agent, AgentVersion, Job, Team, TeamMember, WorkflowVersion
from agents.planning import prompt
from agents.submit import submit
from audit.actor import Actor
from tests.factories import jobs, scripted_server
from tests.factories.log import bodies
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.driving import run_all, states, step_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

DRAFT = {
    "title": "Say it twice",
    "inputs": {"properties": {"text": {"type": "string"}}, "required": ["text"]},
    "steps": [
        {"key": "say", "tool": "test.note", "arguments": {"text": "${{ inputs.text }}"}},
        {"key": "again", "tool": "test.note", "needs": ["say"], "arguments": {"text": "${{ steps.say.summary }}"}},
    ],
    "outputs": {"said": "steps.again.summary"},
}
RULES = [
    {"when": {"goal": "hopeless", "schema": ["definition"]}, "answer": {"definition": {"steps": [{"key": "a"}]}}},
    {"when": {"schema": ["definition"]}, "answer": {"definition": {**DRAFT, "name": "other"}, "note": "Only twice."}},
]


def did(agent: Agent, state: str, *, cost: str = "0", number: int = 1) -> None:
    at = timezone.now() - timedelta(hours=1)
    for _ in range(number):
        web.job(
            user("ada"), state=state, agent=agent, cost_used=Decimal(cost),
            created_at=at, started_at=at, finished_at=at + timedelta(seconds=60),
        )  # fmt: skip


def test_the_best_record_wins_and_few_jobs_vouch_for_less():
    steady = jobs.agent("steady", capabilities=["code", "docs"])
    lucky = jobs.agent("lucky", capabilities=["code"])
    poor = jobs.agent("poor", capabilities=["code"])
    jobs.agent("new", capabilities=["code"])
    jobs.agent("off", capabilities=["code"], enabled=False)
    jobs.agent("writer", capabilities=["docs"])
    did(steady, "succeeded", number=9)
    did(steady, "failed")
    did(steady, "cancelled", number=5)  # people's own doing counts for nothing
    did(lucky, "succeeded")
    did(poor, "failed", number=3)
    ranked = choosing.rank(["code"], now=timezone.now())
    assert [one.agent.name for one in ranked] == ["steady", "new", "lucky", "poor"]
    best = ranked[0].record
    assert (best.jobs, best.success, best.median) == (15, 0.9, timedelta(seconds=60))
    assert best.sure < 0.9
    assert [one.agent.name for one in choosing.rank(["code", "docs"], now=timezone.now())] == ["steady"]
    job = submit({"goal": "Mend it", "capabilities": ["code"]}, user=user("ada"), now=timezone.now())[0]
    assert job.agent == steady
    with pytest.raises(UnknownAgent):
        submit({"goal": "Mend it", "capabilities": ["law"]}, user=user("ada"), now=timezone.now())
    with pytest.raises(InvalidInput):
        submit({"goal": "Mend it", "agent": "poor", "capabilities": ["code"]}, user=user("ada"), now=timezone.now())


def test_of_two_that_are_as_good_the_cheaper_one_is_asked():
    dear, cheap = (jobs.agent(name, capabilities=["code"]) for name in ("dear", "good"))
    did(dear, "succeeded", number=5, cost="2.0")
    did(cheap, "succeeded", number=5, cost="0.1")
    assert [one.agent.name for one in choosing.rank(["code"], now=timezone.now())] == ["good", "dear"]


def test_the_lower_bound_is_wilsons():
    assert choosing.lower_bound(0, 0) == 0
    assert choosing.lower_bound(10, 10) == pytest.approx(10 / (10 + choosing.Z**2))
    assert choosing.lower_bound(1, 1) < choosing.lower_bound(9, 10) < choosing.lower_bound(90, 100) < 0.9


def test_a_team_is_led_by_one_and_parts_go_to_members_only():
    publish(("*", "allow"))
    lead, member = jobs.agent("lead", planning="plan", tools=["job.*", "test.*"]), jobs.agent("member", role="Reads")
    jobs.agent("stranger")
    team = Team.objects.create(name="pair", lead=lead)
    TeamMember.objects.create(team=team, agent=member, part="Reads what there is")
    job = submit({"goal": "Read it", "team": "pair"}, user=user("ada"), now=timezone.now())[0]
    assert (job.agent, job.team) == (lead, team)
    told = prompt.wording(prompt.look(job, round=1, max_replans=1)).messages[0]["content"]
    assert "member (Reads): Reads what there is" in told and "stranger" not in told
    with transaction.atomic():
        locked = lock_job(job.pk)
        parts = [
            intake.NewStep(key=name, tool="job.delegate", arguments={"goal": "Look", "agent": name})
            for name in ("member", "stranger")
        ]
        intake.add_steps(locked, parts, now=timezone.now(), actor=Actor.system("test"))
        advance(locked, now=timezone.now())
    children.sweep(timezone.now())
    assert step_of(job, "stranger").error == "stranger is no member of this job's team."
    assert Job.objects.get(parent=job).agent == member
    Team.objects.update(enabled=False)
    with pytest.raises(UnknownAgent):
        submit({"goal": "Read it", "team": "pair"}, user=user("ada"), now=timezone.now())


def test_a_version_is_made_when_a_profile_says_something_else_and_its_labels_stand_on_its_jobs():
    publish(("*", "allow"))
    agent = jobs.agent("worker", labels={"trust": "low"})
    payload = {"goal": "x", "agent": "worker", "labels": {"trust": "high", "team": "a"}}
    one, two = (submit(payload, user=user("ada"), now=timezone.now())[0] for _ in range(2))
    assert one.labels == {"trust": "low", "team": "a"}  # a submission does not overrule the profile
    assert one.agent_version == two.agent_version
    agent.max_cost = Decimal("2.5")
    assert profiles.version_of(agent, now=timezone.now(), by=user("ada"), note="Dearer.").number == 2
    assert AgentVersion.objects.count() == 2
    made = bodies(agent.pk, "agent.changed")
    assert [body["context"]["version"] for body in made] == [1, 2]
    assert made[1]["actor"]["id"] == str(user("ada").pk)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "drafts.yaml"
    path.write_text(yaml.safe_dump({"rules": RULES}))
    with scripted_server.running("--scenario", str(path)) as found:
        yield found


def test_a_workflow_is_drafted_from_words_and_waits_for_a_person(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    publish(("*", "allow"))
    ada = user("ada", is_superuser=True, is_staff=True)
    client = web.signed_in(ada)
    assert client.get("/workflows/describe").status_code == 200
    sent = client.post("/workflows/describe", {"name": "twice", "problem": "Say a text two times."})
    job = run_all(Job.objects.get(pk=sent.url.strip("/").split("/")[-1]))
    assert (job.state, states(job)) == ("succeeded", {"draft": "succeeded"})
    draft = WorkflowVersion.objects.get(workflow__name="twice")
    assert (draft.status, draft.created_by, draft.number) == ("draft", ada, 1)
    assert draft.definition == {"name": "twice", **DRAFT}
    assert "Only twice." in draft.note
    assert job.tokens_used > 0
    assert f'href="{draft.get_absolute_url()}"' in client.get(f"/jobs/{job.pk}/").content.decode()
    assert client.post("/workflows/describe", {"name": "twice", "problem": "Again."}).status_code == 422
    sent = client.post("/workflows/describe", {"name": "never", "problem": "hopeless"})
    job = run_all(Job.objects.get(pk=sent.url.strip("/").split("/")[-1]))
    assert step_of(job, "draft").error_code == "invalid_answer"
    assert "A step does one thing" in step_of(job, "draft").error
    assert web.signed_in(user("eve")).get("/workflows/describe").status_code == 403


def test_a_lead_that_goes_step_by_step_knows_its_team_and_a_part_leads_nothing():
    lead, member = jobs.agent("lead"), jobs.agent("member")
    team = Team.objects.create(name="pair", lead=lead)
    TeamMember.objects.create(team=team, agent=member, part="Reads")
    job = submit({"goal": "Read it", "team": "pair"}, user=user("ada"), now=timezone.now())[0]
    assert "member: Reads" in conversation.build(job).messages[0]["content"]
    part = Job(parent=job, team=team, agent=member)
    assert "You lead" not in teams.told(part)
    assert not teams.may_have(part, jobs.agent("stranger"))
