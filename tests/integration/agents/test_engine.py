"""The engine on a real database: what may happen to a step, and that it happens once."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from agents import feed
from agents.engine import acting, answers, intake
from agents.engine.cancel import cancel_job
from agents.engine.execute import Claim, Delivery, claim_step, execute
from agents.engine.intake import NewJob, NewStep, create_job
from agents.engine.leases import Held, leases
from agents.engine.recover import expire_leases, republish
from agents.engine.settle import settle
from agents.errors import InvalidPlan, QueueFull
from agents.models import Attempt, FeedEntry, Job, Step
from agents.states import JobState, StepState
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories.people import user
from tests.factories.policies import publish
from tools import permits
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

HERE = Delivery(queue="shell", worker="test@here", task_id="t-1")


def step(key: str, tool: str = "test.note", *needs: str, **arguments: object) -> NewStep:
    return NewStep(key=key, tool=tool, arguments=arguments, needs=needs)


def submit(*steps: NewStep) -> Job:
    owner = user("ada")
    new = NewJob(owner=owner, kind="plan", goal="a plan", steps=steps)
    return create_job(new, now=timezone.now(), actor=Actor.user(owner.pk))


def run_queued(job: Job, *, rounds: int = 30) -> Job:
    """Plays the workers: consumes what stands ready until nothing does."""
    for _ in range(rounds):
        waiting = list(Step.objects.filter(job=job, state__in=[StepState.QUEUED, StepState.READY], not_before=None))
        if not waiting:
            break
        for one in waiting:
            execute(one.pk, one.attempt, HERE)
    job.refresh_from_db()
    return job


def begin(one: Step) -> Claim:
    """What a worker has done when it dies in mid-act: claimed the step and spent its permit."""
    claim = claim_step(one.pk, one.attempt, HERE, now=timezone.now())
    assert claim is not None
    assert claim.step.permit_id is not None
    permits.spend(claim.step.permit_id, digest=claim.call.digest(), by=HERE.worker, now=timezone.now())
    return claim


def states(job: Job) -> dict[str, str]:
    return dict(Step.objects.filter(job=job).values_list("key", "state"))


def test_a_plan_runs_in_the_order_of_its_needs(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("c", "test.note", "a", "b", text="c"), step("a", text="a"), step("b", "test.note", "a", text="b"))
    assert run_queued(job).state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["a", "b", "c"]
    assert Attempt.objects.filter(step__job=job, queue="shell", outcome="succeeded").count() == 3


def test_with_no_policy_nothing_runs(test_tools):
    job = submit(step("a"), step("b", "test.note", "a"))
    assert run_queued(job).state == JobState.FAILED
    assert states(job) == {"a": "refused", "b": "skipped"}
    assert test_tools.RAN == []


def test_a_step_that_fails_skips_what_needs_it_and_nothing_else():
    publish(("test.*", "allow"))
    job = submit(step("a", fail="not_ok"), step("b", "test.note", "a"), step("c", text="c"))
    assert run_queued(job).state == JobState.FAILED
    assert states(job) == {"a": "failed", "b": "skipped", "c": "succeeded"}


def test_a_duplicate_message_runs_nothing(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"))
    one = Step.objects.get(job=job)
    for _ in range(3):
        execute(one.pk, one.attempt, HERE)
    assert len(test_tools.RAN) == 1


def test_ten_workers_claim_one_step_once():
    publish(("test.*", "allow"))
    one = Step.objects.get(job=submit(step("a")))
    won, gate = [], threading.Barrier(10)

    def claim(number: int) -> None:
        gate.wait(60)
        if claim_step(one.pk, 0, Delivery(queue="shell", worker=f"w{number}", task_id=""), now=timezone.now()):
            won.append(number)
        connections.close_all()

    threads = [threading.Thread(target=claim, args=[n]) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    one.refresh_from_db()
    assert (one.state, one.attempt) == (StepState.RUNNING, 1)


def test_a_transient_failure_runs_again_later_and_then_gives_up(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", fail="transient"))
    for attempt in (1, 2, 3):
        one = Step.objects.get(job=job)
        assert one.state == StepState.QUEUED
        Step.objects.filter(pk=one.pk).update(not_before=None)
        execute(one.pk, one.attempt, HERE)
        one.refresh_from_db()
        if attempt < 3:
            assert one.not_before is not None and one.not_before > one.created_at
    assert one.state == StepState.FAILED
    assert len(test_tools.RAN) == 3
    assert list(one.attempts.values_list("outcome", flat=True)) == ["requeued", "requeued", "failed"]


def test_a_retry_that_is_not_due_is_not_claimed():
    publish(("test.*", "allow"))
    one = Step.objects.get(job=submit(step("a", fail="transient")))
    execute(one.pk, 0, HERE)
    assert claim_step(one.pk, 1, HERE, now=timezone.now()) is None
    assert claim_step(one.pk, 1, HERE, now=timezone.now() + timedelta(seconds=70)) is not None


def test_a_crash_in_a_tool_is_a_failed_step_that_names_it():
    publish(("test.*", "allow"))
    job = run_queued(submit(step("a", fail="crash")))
    one = Step.objects.get(job=job)
    assert (one.state, one.error_code) == (StepState.FAILED, "internal_error")
    assert "RuntimeError: a bug" in one.error


def test_a_lost_repeatable_step_runs_again_and_a_late_result_is_fenced():
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"))
    one = Step.objects.get(job=job)
    first = claim_step(one.pk, 0, HERE, now=timezone.now())
    assert first is not None
    assert expire_leases(timezone.now() + timedelta(seconds=60)) == 1
    one.refresh_from_db()
    assert (one.state, one.attempt) == (StepState.QUEUED, 1)
    run_queued(job)
    one.refresh_from_db()
    assert (one.state, one.attempt) == (StepState.SUCCEEDED, 2)
    late = Result(ok=False, summary="too late")
    assert settle(first.step, late, worker="zombie", cancelled=False, now=timezone.now()) is False
    one.refresh_from_db()
    assert one.state == StepState.SUCCEEDED


@pytest.mark.parametrize(
    ("state", "ends"),
    [({"happened": True}, StepState.SUCCEEDED), ({}, StepState.QUEUED), ({"probe": "unsure"}, StepState.IN_DOUBT)],
)
def test_a_lost_once_step_is_probed_and_never_run_blindly(test_tools, state, ends):
    publish(("test.*", "allow"))
    job = submit(step("a", "test.once"))
    one = Step.objects.get(job=job)
    begin(one)
    expire_leases(timezone.now() + timedelta(seconds=60))
    one.refresh_from_db()
    assert one.state == StepState.IN_DOUBT
    test_tools.STATE.update(state)
    answers.probe(one.pk, one.attempt, worker="test@here")
    one.refresh_from_db()
    assert one.state == ends
    assert test_tools.RAN == []
    if ends == StepState.IN_DOUBT:
        answers.by_person(one.pk, happened=True, by=Actor.user(1), now=timezone.now())
        one.refresh_from_db()
        assert one.state == StepState.SUCCEEDED


def test_an_ask_waits_for_people_and_then_runs_what_they_saw(test_tools):
    publish(("test.once", "ask"), ("test.*", "allow"))
    approver = user("grace", groups=("approvers",))
    job = submit(step("a", "test.once", text="x"))
    run_queued(job)
    request = ApprovalRequest.objects.get(parent_id=str(job.pk))
    assert (request.preview, request.state) == ("would note x", "pending")
    assert Job.objects.get(pk=job.pk).state == JobState.WAITING
    decide(request_id=request.pk, by=approver, verdict="approve", reason="", channel="page", now=timezone.now())
    assert run_queued(job).state == JobState.SUCCEEDED
    assert test_tools.RAN == [("test.once", "x")]


def test_what_changed_since_the_approval_is_asked_again(test_tools):
    publish(("test.once", "ask"), ("test.*", "allow"))
    approver = user("grace", groups=("approvers",))
    job = submit(step("a", "test.once", text="x"))
    run_queued(job)
    request = ApprovalRequest.objects.get(parent_id=str(job.pk))
    decide(request_id=request.pk, by=approver, verdict="approve", reason="", channel="page", now=timezone.now())
    test_tools.STATE["target"] = "moved"
    run_queued(job)
    assert test_tools.RAN == []
    request.refresh_from_db()
    assert request.state == "void"
    assert ApprovalRequest.objects.filter(parent_id=str(job.pk), state="pending").count() == 1


def test_a_denial_reaches_the_step_with_its_reason(test_tools):
    publish(("test.once", "ask"))
    approver = user("grace", groups=("approvers",))
    job = submit(step("a", "test.once"))
    run_queued(job)
    request = ApprovalRequest.objects.get(parent_id=str(job.pk))
    decide(request_id=request.pk, by=approver, verdict="deny", reason="not today", channel="api", now=timezone.now())
    one = Step.objects.get(job=job)
    assert (one.state, one.error_code, one.error) == (StepState.REFUSED, "denied", "not today")
    assert test_tools.RAN == []


def test_cancel_ends_what_waits_and_stops_what_runs(test_tools):
    publish(("test.once", "ask"), ("test.*", "allow"))
    job = submit(step("a", fail="wait"), step("b", "test.note", "a"), step("c", "test.once"))
    worker = threading.Thread(
        target=lambda: (execute(Step.objects.get(job=job, key="a").pk, 0, HERE), connections.close_all())
    )
    worker.start()
    assert test_tools.STARTED.wait(60)
    asked = Step.objects.get(job=job, key="c")
    execute(asked.pk, 0, HERE)
    cancel_job(job.pk, by=Actor.user(1), now=timezone.now())
    assert ApprovalRequest.objects.get(parent_id=str(job.pk)).state == "cancelled"
    held = next(iter(leases._held.values()))
    deadline = timezone.now() + timedelta(seconds=10)
    while not held.cancelled and timezone.now() < deadline:
        threading.Event().wait(0.05)
    assert held.stop_requested()
    test_tools.GO_ON.set()
    worker.join(60)
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert states(job)["b"] == "cancelled"


def test_the_sweeper_sends_what_was_never_sent_once():
    publish(("test.*", "allow"))
    job = submit(step("a"))
    Step.objects.filter(job=job).update(dispatched_at=None)
    now = timezone.now()
    assert republish(now) == 1
    assert republish(now) == 0
    assert republish(now + timedelta(seconds=3600)) == 1


def test_the_feed_has_no_gaps_with_writers_side_by_side():
    publish(("test.*", "allow"))
    job = submit(step("a"))

    def write() -> None:
        sink = feed.LogSink(job.pk, Step.objects.get(job=job).pk, 1)
        for n in range(20):
            sink("stdout", f"line {n}\n")
            sink.flush()
        connections.close_all()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    seqs = list(FeedEntry.objects.filter(job=job).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= 80


def test_a_line_after_which_a_command_is_silent_is_seen_while_it_works(monkeypatch):
    job = submit(step("a"))
    monkeypatch.setattr(feed, "FLUSH_AFTER_S", 1e6)
    sink = feed.LogSink(job.pk, Step.objects.get(job=job).pk, 1)
    lines = FeedEntry.objects.filter(job=job, kind="log")
    sink("stdout", "began\n")
    sink.tick()
    assert not lines.exists(), "a few times a second at most"
    monkeypatch.setattr(feed, "FLUSH_AFTER_S", 0)
    elsewhere = threading.Thread(target=sink.tick)
    elsewhere.start()
    elsewhere.join(60)
    assert not lines.exists(), "the step's thread alone writes"
    sink.tick()
    assert lines.get().data["text"] == "began\n"


def test_the_reserved_key_is_refused_and_leaves_nothing():
    publish(("test.*", "allow"))
    with pytest.raises(InvalidPlan):
        submit(step(intake.PREPARE))
    assert not Job.objects.exists()


def test_a_full_queue_says_when_to_come_back(settings):
    publish(("test.*", "allow"))
    settings.JOBS_QUEUED_MAX = 1
    submit(step("a"))
    with pytest.raises(QueueFull) as caught:
        submit(step("a"))
    assert caught.value.retry_after_s > 0
    assert Job.objects.count() == 1


def test_the_database_refuses_a_running_step_without_a_lease():
    publish(("test.*", "allow"))
    job = submit(step("a"))
    with pytest.raises(Exception, match="running_step_has_a_lease"), connection.cursor() as cursor:
        cursor.execute("UPDATE agents_step SET state = 'running' WHERE job_id = %s", [job.pk])


def test_a_person_answers_a_question_and_the_plan_goes_on(test_tools):
    publish(("human.*", "allow"), ("test.*", "allow"))
    ask = NewStep(key="ask", tool="human.ask", arguments={"question": "Which colour?"})
    job = submit(ask, step("b", "test.note", "ask", text="after"))
    request = ApprovalRequest.objects.get(parent_id=str(job.pk))
    assert (request.kind, request.command) == ("question", "Which colour?")
    assert Job.objects.get(pk=job.pk).state == JobState.WAITING
    decide(request_id=request.pk, by=user("ada"), verdict="answer", reason="blue", channel="page", now=timezone.now())
    assert run_queued(job).state == JobState.SUCCEEDED
    assert Step.objects.get(job=job, key="ask").result["text"] == "blue"


def test_a_doubt_is_resolved_by_api_once(test_tools, client):
    publish(("test.*", "allow"))
    owner = user("ada")
    job = submit(step("a", "test.once"))
    one = Step.objects.get(job=job)
    begin(one)
    expire_leases(timezone.now() + timedelta(seconds=60))
    client.force_login(owner)
    url = f"/api/v1/jobs/{job.pk}/steps/a/resolve"
    early = client.post(url, {"happened": True}, content_type="application/json")
    assert (early.status_code, early.json()["code"]) == (409, "not_now")  # its probe has not answered yet
    test_tools.STATE["probe"] = "unsure"
    answers.probe(one.pk, 1, worker="test@here")
    answer = client.post(url, {"happened": True}, content_type="application/json")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    again = client.post(url, {"happened": False}, content_type="application/json")
    assert again.status_code == 409
    wrong = client.post(url, {"happened": "maybe"}, content_type="application/json")
    assert wrong.status_code == 400


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_an_end_that_no_row_can_hold_is_a_failure_that_says_so_and_not_a_lost_worker(text):
    publish(("test.*", "allow"))
    job = submit(step("a"))
    claim = begin(job.steps.get())
    held = Held(claim.step.pk, claim.step.attempt)
    acting.settle_patiently(claim.step, Result(ok=True, summary=text, text=text), held, HERE)
    one = job.steps.get()
    assert (one.state, one.error_code) == (StepState.FAILED, "result_not_stored")
    assert "cannot be written down" in one.error
