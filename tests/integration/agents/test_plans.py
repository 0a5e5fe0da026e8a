"""Goals that run by a plan: made by the model, looked at by policies and people, run, and made anew. The real engine and
the scripted model over HTTP; only Celery is played."""

from typing import Any

import pytest
import yaml
from django.utils import timezone

from agents.engine import planned
from agents.engine.cancel import cancel_job
from agents.engine.control.fork import fork_job
from agents.engine.control.retry import retry_job
from agents.errors import InvalidPlan, InvalidPrompt, NotNow
from agents.models import Job, LlmCall, Plan, Step
from agents.planning import changes, editing, prompt, shape
from agents.prompts import shipped, versions
from agents.submit import submit
from approvals.decisions import decide
from approvals.errors import NotEligible
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories import jobs, scripted_server
from tests.factories.log import bodies
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import run_all, states, step_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def call(key: str, tool: str = "test.note", *needs: str, check: str = "", **arguments: Any) -> dict[str, Any]:
    step = {"key": key, "tool": tool, "arguments": arguments, "needs": list(needs)}
    return {**step, "success_check": check} if check else step


def rule(goal: str, answer: dict[str, Any], *schema: str, round: int = 0) -> dict[str, Any]:
    found = f"(?s){goal}.*This is round {round}\\b" if round else goal
    return {"when": {"goal": found, "schema": list(schema)}, "answer": answer}


def finish(summary: str, *, success: bool = True) -> dict[str, Any]:
    return {"finish": {"success": success, "summary": summary}}


LOOK = call("look", "test.read", text="a")
TELL = call("tell", "test.note", "look", text="saw ${{ steps.look.summary }}", check="steps.tell.summary == 'saw a'")
BAD = call("bad", "test.note", "look", fail="not_ok")
RULES = [
    rule("works", finish("All done."), "finish", round=2),
    rule("works", {"note": "Look first.", "steps": [LOOK, TELL]}, "steps"),
    rule("mends", finish("Mended."), "finish", round=3),
    rule("mends", {"steps": [{**call("better", text="b"), "instead_of": "bad"}]}, "steps", round=2),
    rule("mends", {"steps": [LOOK, BAD, call("after", "test.note", "bad")]}, "steps"),
    rule("endless", {"steps": [call("try3", fail="not_ok", text="3")]}, "steps", round=3),
    rule("endless", {"steps": [call("try2", fail="not_ok", text="2")]}, "steps", round=2),
    rule("endless", finish("It cannot be done.", success=False), "finish", round=4),
    rule("endless", {"steps": [call("try1", fail="not_ok", text="1")]}, "steps"),
    rule("circles", {"steps": [call("again", fail="not_ok")]}, "steps", round=2),
    rule("circles", {"steps": [call("first", fail="not_ok")]}, "steps"),
    rule("refused", {"steps": [call("mild", text="m")]}, "steps", round=2),
    rule("refused", finish("Done without."), "finish", round=3),
    rule("refused", {"steps": [call("wild", "test.once")]}, "steps"),
    rule("wrong", {"steps": [call("a", "test.note", "b"), call("b", "test.note", "a")]}, "steps"),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "plans.yaml"
    path.write_text(yaml.safe_dump({"rules": RULES}))
    with scripted_server.running("--scenario", str(path)) as found:
        yield found


@pytest.fixture(autouse=True)
def scripted(settings, endpoint):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.LLM_SCRIPTED, settings.LLM_TIMEOUT_S = False, 20
    publish(("*", "allow"))


def start(goal: str, *, planning: str = "plan", **fields: Any) -> Job:
    jobs.agent("planner", max_steps=60)
    payload = {"goal": goal, "agent": "planner", "planning": planning, **fields}
    return run_all(submit(payload, user=user("ada"), now=timezone.now())[0])


def test_a_goal_becomes_a_plan_whose_steps_run_as_rows_of_their_own():
    job = start("works")
    assert (job.state, job.outcome) == ("succeeded", "All done.")
    assert list(states(job)) == ["plan-1", "run-1", "plan-2", "look", "tell", "tell.check"]
    assert set(states(job).values()) == {"succeeded"}
    assert step_of(job, "tell").arguments == {"text": "saw a"}
    plan = Plan.objects.get(job=job)
    assert (plan.state, plan.round, plan.origin, plan.note) == ("ended", 1, "agent", "Look first.")
    assert plan.before_untrusted
    assert {key: one["effect"] for key, one in plan.forecast.items()}["look"] == "allow"
    # the model's turns count against the job as every other call of a model does
    used = sum(call.prompt_tokens + call.completion_tokens for call in LlmCall.objects.filter(job=job))
    assert job.tokens_used == used > 0
    assert len(bodies(job.pk, "plan.proposed")) == 1


WITHOUT_ROUND = """\
name: plan
variables:
  goal: {type: string}
  tools: {type: string}
  house: {type: string, default: Be kind.}
system: You plan for us. HOUSE {{ house }}
user: "GOAL {{ goal }} TOOLS {{ tools }}"
"""


def test_a_published_version_of_a_prompt_is_what_the_planner_sends_and_the_plan_says_which():
    shipped.ensure_prompts(now=timezone.now())
    plan = Plan.objects.get(job=start("works"))
    assert (str(plan.step.prompt_use.version), plan.step.result["data"]["prompt"]["name"]) == ("plan@1", "plan")
    assert str(step_of(plan.job, "plan-2").prompt_use.version) == "replan@1"
    (said,) = bodies(plan.job_id, "plan.proposed")
    assert said["context"]["prompt"]["version"] == 1
    root = user("root", is_superuser=True)
    draft = versions.save_draft(WITHOUT_ROUND, by=root, now=timezone.now())
    versions.publish(draft.pk, by=root, now=timezone.now())
    job = start("works")
    assert (job.state, str(Plan.objects.get(job=job).step.prompt_use.version)) == ("succeeded", "plan@2")
    around = prompt.look(job, round=1, max_replans=1)
    system, content = prompt.wording(around).messages
    assert system["content"].strip() == "You plan for us. HOUSE Be kind."
    assert content["content"].startswith("GOAL works TOOLS - ")
    # a text that the planner could not fill in, or that would let results pass for our words, is not published at all
    for source, why in (
        (WITHOUT_ROUND.replace(", default: Be kind.", ""), "give it a default"),
        (WITHOUT_ROUND.replace("plan", "replan").replace("house", "past"), "name it under `untrusted`"),
    ):
        with pytest.raises(InvalidPrompt, match=why):
            versions.save_draft(source, by=root, now=timezone.now())


def test_a_server_without_the_prompts_plans_by_the_text_that_it_came_with():
    job = start("works")
    assert (job.state, Plan.objects.get(job=job).step.result["data"]["prompt"]) == ("succeeded", None)


def test_the_shape_in_the_shipped_prompts_is_the_one_that_the_server_asks_for():
    asked = shape.schema([])
    del asked["properties"]["steps"]["items"]["properties"]["tool"]["enum"]
    assert shipped.definition("plan")["answer"] == shipped.definition("replan")["answer"] == asked


def test_what_failed_is_planned_anew_and_the_difference_stands_there():
    job = start("mends")
    assert (job.state, job.outcome) == ("succeeded", "Mended.")
    assert states(job)["bad"] == "failed"
    assert states(job)["after"] == "skipped"
    first, second = Plan.objects.filter(job=job).order_by("number")
    assert (first.state, second.state, second.round) == ("replaced", "ended", 2)
    assert first.before_untrusted and not second.before_untrusted
    found = changes.changes(first.steps, second.steps, succeeded=frozenset({"look"}))
    assert [(one.kind, one.key, one.was_key) for one in found] == [
        ("kept", "look", ""),
        ("replaced", "better", "bad"),
        ("dropped", "after", ""),
    ]


def test_planning_anew_is_bounded_and_the_last_round_can_only_finish():
    job = start("endless", max_replans=2)
    assert (job.state, job.outcome) == ("failed", "It cannot be done.")
    assert Plan.objects.filter(job=job).count() == 3
    assert [step_of(job, f"try{number}").state for number in (1, 2, 3)] == ["failed"] * 3


def test_the_same_plan_again_is_going_round_in_circles():
    job = start("circles")
    assert job.state == "failed"
    assert step_of(job, "plan-2").error_code == "stuck"


def test_a_plan_that_policy_refuses_is_not_begun_and_the_agent_reads_why():
    publish(("test.once", "deny"), ("*", "allow"))
    job = start("refused")
    assert (job.state, job.outcome) == ("succeeded", "Done without.")
    assert "wild" not in states(job)
    assert "run-1" not in states(job)
    plan = Plan.objects.get(job=job, number=1)
    assert planned.refused_by_policy(plan) == {"wild": "deny by test"}


def test_a_policy_may_ask_people_about_a_plan_by_what_is_in_it():
    publish(("plan.run", "ask", "'test.note' in call.args.tools"), ("*", "allow"))
    user("grace", groups=("approvers",))
    job = start("works")
    assert (job.state, states(job)["run-1"]) == ("waiting", "waiting_approval")
    request = ApprovalRequest.objects.get(subject_id=str(step_of(job, "run-1").pk))
    assert "tell: test.note" in request.preview
    decide(
        request_id=request.pk, by=user("grace"), verdict="deny", reason="Not now.", channel="test", now=timezone.now()
    )
    run_all(job)
    assert states(job)["plan-2"] == "succeeded"  # it reads the refusal, and finishes
    assert "look" not in states(job)


def test_an_unusable_plan_is_repaired_or_fails_the_step():
    job = start("wrong")
    made = step_of(job, "plan-1")
    assert (job.state, made.state, made.error_code) == ("failed", "failed", "invalid_answer")
    assert "in a circle" in made.error
    assert LlmCall.objects.filter(step=made).count() == 3
    assert not Plan.objects.exists()


def test_a_person_changes_the_plan_before_it_runs():
    job = start("works", planning="review")
    assert (job.state, states(job)["review-1"]) == ("waiting", "waiting_approval")
    ada, now = user("ada"), timezone.now()
    steps = [{**one} for one in Plan.objects.get(job=job).steps]
    with pytest.raises(InvalidPlan) as wrong:
        editing.change(job.pk, 1, [{**steps[0], "tool": "test.nothing"}], by=ada, now=now)
    assert "test.nothing" in wrong.value.message
    plan = editing.change(
        job.pk, 1, [steps[0], {**steps[1], "arguments": {"text": "mine"}, "success_check": ""}], by=ada, now=now
    )
    assert (plan.number, plan.origin, plan.author) == (2, "person", ada)
    with pytest.raises(NotNow):  # who saw the one before does not let this one run
        editing.run(job, 1, by=ada, now=now)
    with pytest.raises(NotEligible):
        editing.run(job, 2, by=user("eve"), now=now)
    editing.run(job, 2, by=ada, now=timezone.now())
    run_all(job)
    job.refresh_from_db()
    assert job.state == "succeeded"
    assert step_of(job, "tell").arguments == {"text": "mine"}
    assert bodies(job.pk, "plan.edited")[0]["actor"]["id"] == str(ada.pk)
    with pytest.raises(NotNow):
        editing.change(job.pk, 2, steps, by=ada, now=timezone.now())


def test_what_a_person_says_against_a_plan_is_planned_for():
    job = start("mends", planning="review")
    editing.send_back(job, 1, "bad is bad", by=user("ada"), now=timezone.now())
    run_all(job)
    assert states(job)["review-2"] == "waiting_approval"
    assert Plan.objects.get(job=job, number=1).state == "replaced"
    assert "look" not in states(job)
    said = Step.objects.get(job=job, key="review-1").result
    assert said["text"] == "Not like this: bad is bad"


def test_a_planned_job_is_retried_where_it_stopped_and_forked_where_a_plan_is_made():
    jobs.agent("planner", max_steps=60)
    payload = {"goal": "mends", "agent": "planner", "planning": "plan"}
    job = submit(payload, user=user("ada"), now=timezone.now())[0]
    run_all(job, rounds=2)  # the plan was made and let through; its steps are there
    cancel_job(job.pk, by=Actor.user(user("ada").pk), now=timezone.now())
    job.refresh_from_db()
    assert job.state == "cancelled"
    retry_job(job.pk, by=Actor.user(user("ada").pk), now=timezone.now())
    job = run_all(job)
    assert (job.state, job.outcome) == ("succeeded", "Mended.")
    with pytest.raises(NotNow, match="plan-"):
        fork_job(job.pk, at="look", by=user("ada"), now=timezone.now())
    fork = run_all(fork_job(job.pk, at="plan-2", by=user("ada"), now=timezone.now()))
    assert (fork.state, fork.agent_version) == ("succeeded", job.agent_version)
    assert states(fork)["better"] == "succeeded"
    assert Plan.objects.get(job=fork).round == 2
