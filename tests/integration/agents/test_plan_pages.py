"""The page of a plan and the pages of agents, as a person uses them without JavaScript."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from agents import profiles
from agents.engine import settle
from agents.engine.advance import advance
from agents.engine.transitions import lock_job
from agents.models import Agent, Job, LlmCall, Plan, Step, Team, TeamMember
from agents.planning.shape import normal
from agents.submit import submit
from agents.web.words import duration
from audit.actor import Actor
from tests.factories import jobs
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.driving import run_all, states
from tests.integration.agents.test_web_pages import get, strict
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

STEPS = [
    {"key": "look", "tool": "test.read", "arguments": {"text": "a"}, "reason": "To see."},
    {"key": "tell", "tool": "test.note", "arguments": {"text": "${{ steps.look.summary }}"}, "needs": ["look"]},
    {
        "key": "ship",
        "tool": "test.once",
        "arguments": {"text": "b"},
        "needs": ["tell"],
        "success_check": "steps.ship.ok",
    },
]


def proposed(steps=STEPS) -> Job:
    """A job whose agent has just made this plan, and waits for a person."""
    publish(("test.once", "ask"), ("*", "allow"))
    jobs.agent("planner", planning="review")
    job = submit({"goal": "Tell what is there", "agent": "planner"}, user=user("ada"), now=timezone.now())[0]
    made = Step.objects.get(job=job, key="plan-1")
    result = Result(ok=True, summary="A plan.", data={"note": "Look first.", "finish": None, "steps": normal(steps)})
    with transaction.atomic():
        job = lock_job(job.pk)
        made.refresh_from_db()
        made.attempt = 1
        Step.objects.filter(pk=made.pk).update(state="running", attempt=1, lease_until=timezone.now())
        made.refresh_from_db()
        settle.succeed(job, made, result, actor=Actor.worker("test"), now=timezone.now())
        advance(job, now=timezone.now())
    return Job.objects.get(pk=job.pk)


def form(plan: Plan, **changed: str) -> dict[str, str]:
    """What the editor's form sends."""
    sent = {"number": str(plan.number), "action": "save"}
    for number, step in enumerate(plan.steps, start=1):
        for name in ("key", "tool", "success_check", "reason", "instead_of"):
            sent[f"{name}-{number}"] = step[name]
        sent[f"needs-{number}"] = ", ".join(step["needs"])
        sent[f"arguments-{number}"] = json.dumps(step["arguments"])
    return {**sent, **changed}


def test_a_plan_is_drawn_changed_and_let_run():
    job = proposed()
    ada, there = web.signed_in(user("ada")), f"/jobs/{job.pk}/plan/"
    assert there in get(ada, f"/jobs/{job.pk}/")
    html = get(ada, there)
    strict(html)
    for said in ("Plan 1", "Run plan 1", "mark-fine", "mark-asks", "asks people", "To see.", "steps.ship.ok"):
        assert said in html, said
    plan = Plan.objects.get(job=job)
    wrong = ada.post(there, form(plan, **{"arguments-1": "{", "tool-2": "test.nothing"}))
    assert wrong.status_code == 422 and "no JSON object" in wrong.content.decode()
    wrong = ada.post(there, form(plan, **{"needs-1": "ship"}))
    assert wrong.status_code == 422 and "in a circle" in wrong.content.decode()
    seen = ada.post(there, form(plan, action="check", **{"drop-3": "on"}))
    assert seen.status_code == 200 and "nothing is saved yet" in seen.content.decode()
    assert Plan.objects.count() == 1
    assert ada.post(there, form(plan, note="No shipping.", **{"drop-3": "on"})).status_code == 302
    html = get(ada, there)
    for said in ("Plan 2", "Changed by ada", "No shipping.", "Dropped", "What is different from plan 1"):
        assert said in html, said
    ada.post(there, {"action": "run", "number": "1"})  # who saw an older one does not let this one run
    assert states(job)["review-1"] == "waiting_approval"
    ada.post(there, {"action": "run", "number": "2"})
    assert states(job)["review-1"] == "succeeded"
    run_all(job)
    assert (states(job)["look"], states(job)["tell"]) == ("succeeded", "succeeded")
    assert "mark-succeeded" in get(ada, there)


def test_two_who_change_a_plan_at_once_lose_nothing_that_they_typed():
    job = proposed()
    plan, there = Plan.objects.get(job=job), f"/jobs/{job.pk}/plan/"
    ada, root = web.signed_in(user("ada")), web.signed_in(user("root", is_superuser=True))
    assert root.post(there, form(plan, note="Mine first.", **{"reason-1": "As root says."})).status_code == 302
    checked = ada.post(there, form(plan, action="check", **{"reason-1": "As ada says."})).content.decode()
    assert 'name="number" value="1"' in checked  # a look at the drawing is no look at what root wrote
    late = ada.post(there, form(plan, **{"reason-1": "As ada says."}))
    html = late.content.decode()
    assert late.status_code == 422
    for said in ("Plan 1 was replaced by plan 2 meanwhile", "not saved", "As ada says.", 'name="number" value="2"'):
        assert said in html, said
    strict(html)
    assert Plan.objects.count() == 2
    assert ada.post(there, form(plan, number="2", **{"reason-1": "As ada says."})).status_code == 302
    assert Plan.objects.get(number=3).steps[0]["reason"] == "As ada says."
    for number in ("²", "9" * 30, "-1", ""):  # of no plan
        assert ada.post(there, {"action": "run", "number": number}).status_code == 302
    assert states(job)["review-1"] == "waiting_approval"


def test_a_step_that_is_left_out_leaves_no_hole_and_what_is_wrong_stays_as_it_was_typed():
    job = proposed()
    plan, there, ada = Plan.objects.get(job=job), f"/jobs/{job.pk}/plan/", web.signed_in(user("ada"))
    wrong = ada.post(there, form(plan, **{"tool-2": "test.nothing"}))
    html = wrong.content.decode()
    assert wrong.status_code == 422
    assert "<option selected>test.nothing</option>" in html and "There is no tool" in html
    wrong = ada.post(there, form(plan, **{"arguments-3": '{"text": "a\\u0000"}'}))
    assert wrong.status_code == 422 and "NUL" in wrong.content.decode()
    assert ada.post(there, form(plan, note="a\0b")).status_code == 422
    assert ada.post(there, form(plan, **{"drop-2": "on"})).status_code == 302
    assert [(one["key"], one["needs"]) for one in Plan.objects.get(job=job, number=2).steps] == [
        ("look", []),
        ("ship", ["look"]),
    ]
    html = get(ada, there)
    assert 'id="arrow-narrow"' in html  # the picture for phones, two steps across
    assert html.count("url(#arrow-narrow)") == 1


def test_policy_holds_for_what_a_person_writes_too():
    job = proposed()
    publish(("test.once", "deny"), ("*", "allow"))
    plan = Plan.objects.get(job=job)
    said = web.signed_in(user("ada")).post(f"/jobs/{job.pk}/plan/", form(plan, **{"arguments-1": "{}"}))
    assert said.status_code == 422
    assert "Policy refuses ship" in said.content.decode()
    assert Plan.objects.count() == 1


def test_a_stranger_neither_sees_nor_changes_a_plan():
    job = proposed()
    there, plan = f"/jobs/{job.pk}/plan/", Plan.objects.get(job=job)
    assert web.signed_in(user("eve")).get(there).status_code == 404
    assert web.signed_in(user("eve")).post(there, form(plan)).status_code == 404
    assert Client().get(there).status_code == 302


def test_a_plan_that_is_sent_back_is_made_anew():
    job = proposed()
    there = f"/jobs/{job.pk}/plan/"
    web.signed_in(user("ada")).post(there, {"action": "back", "number": "1", "why": "Do not ship."})
    assert states(job)["plan-2"] == "queued"
    assert Step.objects.get(job=job, key="review-1").result["text"] == "Not like this: Do not ship."


def test_a_plan_is_read_and_changed_by_api():
    job = proposed()
    there, ada = f"/api/v1/jobs/{job.pk}/plans", web.signed_in(user("ada"))
    shown = ada.get(there).json()["results"]
    assert [(one["number"], one["author"], one["forecast"]["ship"]["effect"]) for one in shown] == [(1, "", "ask")]
    send = lambda **given: ada.post(there, {"plan": 1, **given}, content_type="application/json")  # noqa: E731
    wrong = send(steps=[{"key": "look", "tool": "test.nothing"}])
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_plan"), wrong.content
    made = send(steps=[{"key": "look", "tool": "test.read", "arguments": {"text": "mine"}}], note="Enough.")
    assert made.status_code == 201, made.content
    assert (made.json()["number"], made.json()["author"], made.json()["note"]) == (2, "ada", "Enough.")
    late = send(steps=[{"key": "other", "tool": "test.read"}])
    assert (late.status_code, late.json()["code"]) == (409, "not_now")
    assert web.signed_in(user("eve")).get(there).status_code == 404


def ended(agent: Agent, state: str, *, cost: str = "0", days: int = 1) -> Job:
    at = timezone.now() - timedelta(days=days)
    return web.job(
        user("ada"),
        state=state,
        agent=agent,
        agent_version=profiles.version_of(agent, now=at),
        cost_used=Decimal(cost),
        created_at=at,
        started_at=at,
        finished_at=at + timedelta(seconds=90),
    )


def test_the_pages_of_agents_tell_success_spend_and_versions():
    agent = jobs.agent("helper", capabilities=["code"], role="Mends code", instructions="Be brief.")
    for state in ("succeeded", "succeeded", "failed", "cancelled"):
        job = ended(agent, state, cost="0.5")
        step = jobs.step(job, "think-1", "llm.think")
        LlmCall.objects.create(
            step=step, job=job, attempt=1, endpoint="e", model="tiny", prompt_tokens=10, cost=Decimal("0.5"),
            at=timezone.now() - timedelta(days=1),
        )  # fmt: skip
    jobs.agent("helper", capabilities=["code"], role="Mends code", instructions="Be brief.\nRun the tests.")
    ended(Agent.objects.get(name="helper"), "succeeded")
    assert "was changed since" not in get(web.signed_in(user("ada")), "/agents/profiles/helper/")
    Agent.objects.filter(name="helper").update(max_steps=7)
    html = get(web.signed_in(user("ada")), "/agents/profiles/helper/")
    assert "was changed since" in html and "7 steps" in html  # what it is told is what it is told now
    team = Team.objects.create(name="menders", lead=agent)
    TeamMember.objects.create(team=team, agent=jobs.agent("reader"), part="Reads")
    ada = web.signed_in(user("ada"))
    html = get(ada, "/agents/")
    strict(html)
    for said in ("helper", "Mends code", "75%", "$2.00", "menders", "Reads", 'aria-current="page">Agents'):
        assert said in html, said
    assert "reader" not in get(ada, "/agents/?for=code").split("Teams")[0]
    html = get(ada, "/agents/profiles/helper/")
    strict(html)
    for said in ("From version 1 to 2", "+Run the tests.", "67%", "100%", "tiny", duration(90)):
        assert said in html, said
    assert web.signed_in(user("eve")).get("/agents/profiles/nobody/").status_code == 404
    assert "$2.00" not in get(web.signed_in(user("eve")), "/agents/")  # of others' jobs
