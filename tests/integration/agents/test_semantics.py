"""What a plan may say of a step: conditions, templates, retries, alternatives, limits, and how it is undone."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from agents.engine import answers, failures, recover
from agents.engine.cancel import cancel_job
from agents.engine.execute import claim_step, execute
from agents.errors import InvalidInput, NotAllowed, NotNow
from agents.models import Job, Step
from agents.states import JobState, StepState
from agents.submit import submit as submit_payload
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE, begin, run_queued, states
from tools import permits
from tools.errors import PermitMismatch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

MINUTE = timedelta(seconds=60)


def step(key: str, *needs: str, tool: str = "test.note", **more: object) -> dict[str, object]:
    arguments = {name: more.pop(name) for name in ("text", "fail") if name in more}
    return {"key": key, "tool": tool, "needs": list(needs), "arguments": arguments, **more}


def plan(*steps: dict[str, object], **more: object) -> Job:
    job, _ = submit_payload({"steps": list(steps), **more}, user=user("ada"), now=timezone.now())
    return job


def run_due(job: Job, *, rounds: int = 40) -> Job:
    """Plays workers for whom every retry is due at once."""
    for _ in range(rounds):
        Step.objects.filter(job=job, state=StepState.QUEUED).update(not_before=None)
        if not Step.objects.filter(job=job, state__in=[StepState.QUEUED, StepState.READY]).exists():
            break
        run_queued(job, rounds=1)
    job.refresh_from_db()
    return job


def get(job: Job, key: str) -> Step:
    return Step.objects.get(job=job, key=key)


def approve(job: Job) -> None:
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    grace = user("grace", groups=("approvers",))
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())


# conditions and templates


def test_a_condition_reads_results_and_skips_without_failing_the_job_or_what_needs_it(test_tools):
    publish(("test.*", "allow"))
    job = plan(
        step("a", text="x"),
        step("no", "a", when='steps.a.summary == "y"', text="no"),
        step("yes", "a", when='steps.a.ok && steps["a"].summary == "x"', text="yes"),
        step("after", "no", text="after"),
    )
    assert run_queued(job).state == JobState.SUCCEEDED
    assert states(job) == {"a": "succeeded", "no": "skipped", "yes": "succeeded", "after": "succeeded"}
    assert job.outcome == "3 of 4 steps succeeded; 1 did not apply."


def test_a_step_may_run_only_because_another_failed(test_tools):
    publish(("test.*", "allow"))
    job = plan(
        step("a", fail="not_ok"),
        step("repair", "a", needs_success=False, when="!steps.a.ok", text="repair"),
    )
    assert run_queued(job).state == JobState.FAILED
    assert states(job) == {"a": "failed", "repair": "succeeded"}


def test_a_condition_that_cannot_be_told_fails_its_step():
    publish(("test.*", "allow"))
    job = plan(step("a", text="x"), step("b", "a", when="steps.a.data.nothing > 1"))
    assert run_queued(job).state == JobState.FAILED
    b = get(job, "b")
    assert (b.state, b.error_class, b.error_code) == ("failed", "bad_input", "bad_condition")


def test_a_template_is_what_policy_digest_and_log_see(test_tools):
    publish(("test.*", "allow"))
    job = plan(step("a", text="x"), step("b", "a", text="${{ steps.a.summary + '!' }} of ${{ job.owner }}"))
    b = get(job, "b")
    assert (b.arguments, b.template is not None) == ({}, True)
    assert run_queued(job).state == JobState.SUCCEEDED
    assert get(job, "b").arguments == {"text": "x! of ada"}
    assert test_tools.RAN[-1] == ("test.note", "x! of ada")


def test_resolved_arguments_must_fit_the_tool():
    publish(("test.*", "allow"))
    job = plan(step("a", text="x"), step("b", "a", text="${{ steps.a.exit_code }}"))
    assert run_queued(job).state == JobState.FAILED
    assert (get(job, "b").error_class, get(job, "b").error_code) == ("bad_input", "invalid_arguments")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"when": "steps.zzz.ok"}, "steps[0].when"),
        ({"when": "1 +"}, "steps[0].when"),
        ({"when": "nobody.knows"}, "steps[0].when"),
        ({"text": "${{ inputs.a "}, "steps[0].arguments.text"),
        ({"retry": {"max_attempts": 0}}, "steps[0].retry.max_attempts"),
        ({"retry": {"on": ["rain"]}}, "steps[0].retry.on[0]"),
        ({"timeout_s": 0}, "steps[0].timeout_s"),
        ({"fallbacks": [{"tool": "no.such"}]}, "steps[0].fallbacks[0].tool"),
        ({"fallbacks": [{"tool": "test.note", "on": ["Not A Code"]}]}, "steps[0].fallbacks[0].on[0]"),
        ({"compensation": {"tool": "test.note", "arguments": {"bogus": 1}}}, "steps[0].compensation.arguments.bogus"),
        ({"compensation": {"tool": "llm.think"}}, "steps[0].compensation.tool"),
    ],
)
def test_what_cannot_work_is_refused_with_its_path(more, field):
    with pytest.raises(InvalidInput) as caught:
        plan(step("a", **more))
    assert field in [one for one, _ in caught.value.problems]
    assert not Job.objects.exists()


# classes of errors


@pytest.mark.parametrize(
    ("fail", "effect", "error_class", "attempts"),
    [("transient", "note", "transient", 3), ("refuse", "note", "denied", 1), ("crash", "note", "bug", 1)],
)
def test_each_failure_has_its_class_and_strategy(test_tools, fail, effect, error_class, attempts):
    publish(("test.*", "allow"))
    job = run_due(plan(step("a", fail=fail)))
    a = get(job, "a")
    assert (a.error_class, a.attempt, len(test_tools.RAN)) == (error_class, attempts, attempts)
    assert failures.outlook(a).startswith("Given up")
    ends = Record.objects.filter(target_id=str(a.pk), event__in=["step.requeued", "step.failed", "step.refused"])
    assert [json.loads(one.body)["context"]["class"] for one in ends] == [error_class] * attempts


def test_a_step_says_itself_what_is_retried_and_how_often(test_tools):
    publish(("test.*", "allow"))
    rule = {"max_attempts": 2, "delay_s": 30.0, "on": ["bad_input"]}
    job = plan(step("a", fail="not_ok", retry=rule), step("b", fail="transient", retry=rule))
    run_queued(job, rounds=1)
    a = get(job, "a")
    assert (a.state, a.error_class) == ("queued", "bad_input")
    assert a.not_before is not None and a.not_before > timezone.now() + timedelta(seconds=10)
    assert "attempt 2 of 2" in failures.outlook(a)
    assert get(job, "b").state == StepState.FAILED  # its class is not among them
    assert get(run_due(job), "a").attempt == 2


def test_a_once_step_that_failed_is_not_repeated_whatever_its_rule_says(test_tools):
    publish(("test.*", "allow"))
    job = run_due(plan(step("a", tool="test.once", fail="crash", retry={"max_attempts": 5, "on": ["bug"]})))
    assert (get(job, "a").state, len(test_tools.RAN)) == ("failed", 1)


def test_fallbacks_are_tried_in_order_and_decided_anew(test_tools):
    publish(("test.once", "ask"), ("test.*", "allow"))
    others = [
        {"tool": "test.read", "arguments": {"fail": "not_ok"}},
        {"tool": "test.once", "arguments": {"text": "third for ${{ job.owner }}"}},
    ]
    job = plan(step("a", fail="crash", fallbacks=others), step("b", "a", text="b"))
    run_due(job)
    a = get(job, "a")
    assert (a.state, a.tool, a.effect, a.fallback_used) == ("waiting_approval", "test.once", "once", 2)
    approve(job)
    assert run_due(job).state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["", "", "third for ada", "b"]
    assert Record.objects.filter(event="step.fell_back", target_id=str(a.pk)).count() == 2


def test_a_fallback_is_for_the_errors_that_it_names(test_tools):
    publish(("test.*", "allow"))
    others = [
        {"tool": "test.note", "arguments": {"text": "for conflicts"}, "on": ["conflict"]},
        {"tool": "test.note", "arguments": {"text": "for bugs", "fail": "refuse"}, "on": ["timeout", "bug"]},
        {"tool": "test.note", "arguments": {"text": "for a code"}, "on": ["tool_refused"]},
    ]
    job = plan(step("a", fail="crash", fallbacks=others), step("b", fail="not_ok", fallbacks=others[:2]))
    run_due(job)
    assert (get(job, "a").state, get(job, "a").fallback_used) == ("succeeded", 3)
    assert (get(job, "b").state, get(job, "b").error_code, get(job, "b").fallback_used) == ("failed", "not_ok", 0)
    assert [text for _, text in test_tools.RAN if text] == ["for bugs", "for a code"]


# limits


def test_an_attempt_over_its_time_is_stopped(test_tools):
    publish(("test.*", "allow"))
    job = plan(step("a", fail="endless", timeout_s=1), step("o", tool="test.once", fail="endless", timeout_s=1))
    run_queued(job, rounds=1)
    a, o = get(job, "a"), get(job, "o")
    assert (a.state, a.error_class, a.error_code) == ("failed", "timeout", "timeout")
    assert o.state == StepState.IN_DOUBT  # it may have happened


def test_a_job_over_its_wall_clock_fails_and_its_steps_say_why(test_tools):
    publish(("test.*", "allow"))
    job = plan(step("a", text="a"), step("b", "a", text="b"), deadline_s=60)
    assert recover.sweep(timezone.now())["overdue"] == 0
    assert recover.sweep(timezone.now() + 2 * MINUTE)["overdue"] == 1
    job.refresh_from_db()
    assert (job.state, job.outcome[:25]) == (JobState.FAILED, "Over its wall-clock limit")
    assert {get(job, key).error_code for key in "ab"} == {"deadline"}
    assert test_tools.RAN == []


def test_a_delayed_job_begins_when_its_time_has_come(test_tools):
    publish(("test.*", "allow"))
    job = plan(step("a", text="a"), delay_s=3600)
    recover.sweep(timezone.now())
    assert states(job) == {"a": "pending"}
    assert recover.sweep(timezone.now() + timedelta(hours=2))["begun"] == 1
    assert run_due(job).state == JobState.SUCCEEDED
    with pytest.raises(InvalidInput):
        plan(step("a"), starts_at="2030-01-31T09:00:00")  # in which time zone?
    for edge in ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(InvalidInput, match="years 1970 to 2999"):
            plan(step("a"), starts_at=edge, deadline_s=3600)


# undoing


def undo(text: str = "undo", **more: object) -> dict[str, object]:
    return {"tool": "test.note", "arguments": {"text": text, **more}}


def test_a_failed_job_undoes_in_reverse_order_with_what_it_knows(test_tools):
    publish(("test.*", "allow"))
    job = plan(
        step("a", text="one", compensation=undo("undo ${{ steps.a.summary }}")),
        step("b", "a", text="two", compensation=undo("undo two")),
        step("c", "b", text="kept"),
        step("d", "c", fail="crash"),
    )
    assert run_due(job).state == JobState.COMPENSATED
    assert [text for _, text in test_tools.RAN] == ["one", "two", "kept", "", "undo two", "undo one"]
    assert states(job) == {
        **{"a": "compensated", "b": "compensated", "c": "succeeded", "d": "failed"},
        **{"undo-a": "succeeded", "undo-b": "succeeded"},
    }
    assert job.outcome.endswith(". Undone: a, b.")


def test_undoing_asks_people_and_goes_on_past_what_cannot_be_undone(test_tools):
    publish(("test.once", "ask"), ("test.*", "allow"))
    job = plan(
        step("a", text="a", compensation=undo("undo a")),
        step("b", "a", text="b", compensation=undo("undo b", fail="crash")),
        step("c", "b", text="c", compensation={"tool": "test.once", "arguments": {"text": "undo c"}}),
        step("d", "c", fail="not_ok"),
    )
    assert run_due(job).state == JobState.COMPENSATING
    assert get(job, "undo-c").state == StepState.WAITING_APPROVAL
    approve(job)
    assert run_due(job).state == JobState.FAILED
    assert "Undone: a, c. Not undone: b (undo-b failed: RuntimeError: a bug)." in job.outcome


def test_a_cancelled_job_undoes_too_and_one_without_anything_to_undo_ends_cancelled(test_tools):
    publish(("test.*", "allow"))
    job = plan(step("a", text="a", compensation=undo()), step("b", "a", text="b"), step("c", "b", text="c"))
    execute(get(job, "a").pk, 0, HERE)
    cancel_job(job.pk, by=Actor.user(job.owner.pk), now=timezone.now())
    assert run_due(job).state == JobState.COMPENSATED
    assert states(job) == {"a": "compensated", "b": "cancelled", "c": "cancelled", "undo-a": "succeeded"}
    other = plan(step("a", text="a"))
    cancel_job(other.pk, by=Actor.user(other.owner.pk), now=timezone.now())
    other.refresh_from_db()
    assert other.state == JobState.CANCELLED


def test_a_doubt_is_settled_before_anything_is_undone(test_tools):
    publish(("test.*", "allow"))
    test_tools.STATE["probe"] = "unsure"
    job = plan(
        step("a", text="a", compensation=undo()),
        step("b", "a", tool="test.once", text="b", compensation=undo("undo b")),
    )
    execute(get(job, "a").pk, 0, HERE)
    begin(get(job, "b"))
    recover.expire_leases(timezone.now() + MINUTE)
    cancel_job(job.pk, by=Actor.user(job.owner.pk), now=timezone.now())
    b = get(job, "b")
    assert b.state == StepState.IN_DOUBT
    answers.probe(b.pk, b.attempt, worker="test@here")
    answers.by_person(b.pk, happened=True, by=Actor.user(job.owner.pk), now=timezone.now())
    assert run_due(job).state == JobState.COMPENSATED
    assert [text for _, text in test_tools.RAN][-2:] == ["undo b", "undo"]


# in doubt


def test_only_who_may_approve_settles_an_approved_step_and_only_after_its_probe(test_tools):
    publish(("test.*", "ask"))
    test_tools.STATE["probe"] = "unsure"
    job = plan(step("a", tool="test.once", text="x"))
    run_queued(job)
    approve(job)
    begin(get(job, "a"))
    recover.expire_leases(timezone.now() + MINUTE)
    a, now = get(job, "a"), timezone.now()
    grace = user("grace", groups=("approvers",))
    with pytest.raises(NotNow):
        answers.by_person(a.pk, happened=True, by=Actor.user(grace.pk), now=now)
    answers.probe(a.pk, a.attempt, worker="test@here")
    with pytest.raises(NotAllowed):
        answers.by_person(a.pk, happened=True, by=Actor.user(job.owner.pk), now=now)
    assert get(job, "a").state == StepState.IN_DOUBT
    answers.by_person(a.pk, happened=True, by=Actor.user(grace.pk), now=now)
    assert get(job, "a").state == StepState.SUCCEEDED


def test_a_permit_of_another_step_with_the_same_call_is_refused():
    publish(("test.*", "allow"))
    job = plan(step("a", text="same"), step("b", text="same"))
    claim = claim_step(get(job, "a").pk, 0, HERE, now=timezone.now())
    assert claim is not None
    other = get(job, "b").permit_id
    assert other is not None
    with pytest.raises(PermitMismatch):
        permits.spend(other, digest=claim.call.digest(), by="w", now=timezone.now(), subject=str(claim.step.pk))


# size


def test_the_steps_of_a_long_plan_are_not_read_again_with_each_that_ends(test_tools):
    publish(("test.*", "allow"))
    job = plan(step("s0", text="0"), *(step(f"s{n}", f"s{n - 1}", text=str(n)) for n in range(1, 400)))
    run_queued(job, rounds=5)
    one = Step.objects.get(job=job, state=StepState.QUEUED)
    rows: list[int] = []
    init = Step.__init__

    def counted(self, *args, **kwargs):
        rows.append(1)
        init(self, *args, **kwargs)

    Step.__init__ = counted
    try:
        execute(one.pk, one.attempt, HERE)
    finally:
        Step.__init__ = init
    assert len(rows) < 20
    assert get(job, "s6").state == StepState.QUEUED


def test_an_approver_settles_by_api_what_the_owner_may_not(test_tools, client):
    publish(("test.*", "ask"))
    test_tools.STATE["probe"] = "unsure"
    job = plan(step("a", tool="test.once", text="x"))
    run_queued(job)
    approve(job)
    begin(get(job, "a"))
    recover.expire_leases(timezone.now() + MINUTE)
    answers.probe(get(job, "a").pk, 1, worker="test@here")
    url, said = f"/api/v1/jobs/{job.pk}/steps/a/resolve", {"happened": False}
    found = {}
    for name in ("ada", "mallory", "grace"):
        client.force_login(user(name))
        found[name] = client.post(url, said, content_type="application/json").status_code
    assert found == {"ada": 403, "mallory": 404, "grace": 200}
    assert get(job, "a").state == StepState.QUEUED


def test_the_api_tells_the_class_of_a_failure_and_what_follows(client):
    publish(("test.*", "allow"))
    job = plan(step("a", fail="transient"))
    run_queued(job, rounds=1)
    client.force_login(job.owner)
    told = client.get(f"/api/v1/jobs/{job.pk}/steps/a").json()
    assert (told["error_class"], told["next"]) == ("transient", "Runs again: attempt 2 of 3.")
    page = client.get(f"/jobs/{job.pk}/?step=a").content.decode()
    assert "Runs again: attempt 2 of 3." in page
