"""What people do to jobs: pause and resume, retry, fork, edit. On a real database, exactly once."""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connections
from django.utils import timezone

from agents.engine.cancel import cancel_job
from agents.engine.control.edit import edit_step
from agents.engine.control.fork import fork_job
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.control.retry import retry_job
from agents.engine.execute import claim_step, execute
from agents.engine.recover import expire_leases, republish
from agents.engine.settle import settle
from agents.errors import AlreadyDone, InvalidInput, MayHaveHappened, NotNow
from agents.models import Attempt, FeedEntry, Job, Step
from agents.states import JobState, StepState
from approvals.decisions import decide
from approvals.errors import NotEligible
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import HERE, begin, run_queued, states, step, submit
from tests.stack import wait_until
from tools import workspaces
from tools.spec import Result

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

WHO = Actor.user(1)


def only(job: Job, key: str) -> Step:
    return Step.objects.get(job=job, key=key)


def pause(job: Job) -> Job:
    return pause_job(job.pk, by=WHO, now=timezone.now())


def resume(job: Job) -> Job:
    return resume_job(job.pk, by=WHO, now=timezone.now())


def retry(job: Job, **more: object) -> Job:
    return retry_job(job.pk, by=WHO, now=timezone.now(), **more)  # type: ignore[arg-type]


# ---- pause and resume ----


def test_a_paused_job_ends_what_runs_and_begins_nothing_else(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"), step("b", text="b"), step("c", "test.note", "a", text="c"))
    running, queued = begin(only(job, "a")), only(job, "b")
    pause(job)
    assert claim_step(queued.pk, queued.attempt, HERE, now=timezone.now()) is None
    execute(queued.pk, queued.attempt, HERE)  # its message was under way
    settle(running.step, Result(ok=True, summary="done"), worker="w", cancelled=False, now=timezone.now())
    republish(timezone.now())
    assert run_queued(job).state == JobState.PAUSED
    assert states(job) == {"a": "succeeded", "b": "pending", "c": "pending"}
    assert test_tools.RAN == []
    resume(job)
    resume(job)
    assert run_queued(job).state == JobState.SUCCEEDED
    assert sorted(text for _, text in test_tools.RAN) == ["b", "c"]


def test_an_attempt_that_is_lost_in_a_paused_job_waits_with_it():
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"))
    begin(only(job, "a"))
    pause(job)
    Step.objects.filter(job=job).update(lease_until=timezone.now() - timedelta(seconds=1))
    expire_leases(timezone.now())
    assert states(job) == {"a": "pending"}
    resume(job)
    assert run_queued(job).state == JobState.SUCCEEDED
    assert list(Attempt.objects.filter(step__job=job).values_list("outcome", flat=True)) == ["lost", "succeeded"]


def test_people_may_approve_in_a_paused_job_and_it_starts_nothing(test_tools):
    publish(("test.once", "ask"))
    job = submit(step("a", "test.once", text="a"), step("b", "test.once", text="b"))
    one = only(job, "a")
    execute(one.pk, one.attempt, HERE)
    pause(job)  # b still stood before its preview
    request = ApprovalRequest.objects.get(subject_id=str(one.pk))
    grace = user("grace", groups=("approvers",))
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="web", now=timezone.now())
    assert states(job) == {"a": "pending", "b": "pending"}
    assert run_queued(job).state == JobState.PAUSED
    resume(job)
    assert states(job) == {"a": "queued", "b": "ready"}
    run_queued(job)
    assert test_tools.RAN == [("test.once", "a")]
    assert ApprovalRequest.objects.filter(subject_id=str(one.pk)).count() == 1


def test_a_paused_job_is_cancelled_and_an_ended_one_is_not_paused():
    publish(("test.*", "allow"))
    job = submit(step("a"), step("b", "test.note", "a"))
    pause(job)
    pause(job)
    assert cancel_job(job.pk, by=WHO, now=timezone.now()).state == JobState.CANCELLED
    for control in (pause, resume):
        with pytest.raises(AlreadyDone):
            control(job)
    running = submit(step("a"))
    begin(only(running, "a"))
    cancel_job(running.pk, by=WHO, now=timezone.now())
    with pytest.raises(NotNow):
        pause(running)


def test_pausing_against_ten_claims_leaves_each_step_either_running_or_waiting():
    publish(("test.*", "allow"))
    job = submit(*(step(f"s{number}", text="x") for number in range(10)))
    queued = list(Step.objects.filter(job=job))
    gate, won = threading.Barrier(11), []

    def claim(one: Step) -> None:
        gate.wait(60)
        if claim_step(one.pk, one.attempt, HERE, now=timezone.now()) is not None:
            won.append(one.key)
        connections.close_all()

    threads = [threading.Thread(target=claim, args=[one]) for one in queued]
    for thread in threads:
        thread.start()
    gate.wait(60)
    pause(job)
    for thread in threads:
        thread.join(60)
    found = states(job)
    assert {key for key, state in found.items() if state == "running"} == set(won)
    assert set(found.values()) <= {"running", "pending"}
    job.refresh_from_db()
    assert job.state == JobState.PAUSED


# ---- retry ----


def test_a_job_of_fifty_steps_that_died_at_47_goes_on_from_47(test_tools):
    publish(("test.note", "allow"))
    steps = [step("s1", text="1")]
    steps += [step(f"s{n}", "test.once" if n == 47 else "test.note", f"s{n - 1}", text=str(n)) for n in range(2, 51)]
    job = submit(*steps)
    assert run_queued(job, rounds=60).state == JobState.FAILED
    assert [text for _, text in test_tools.RAN] == [str(n) for n in range(1, 47)]
    before, events = only(job, "s46"), FeedEntry.objects.filter(job=job).count()
    publish(("test.*", "allow"))
    job = retry(job)
    assert (job.state, job.finished_at, job.outcome) == (JobState.RUNNING, None, "")
    assert run_queued(job, rounds=60).state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == [str(n) for n in range(1, 51)]
    assert only(job, "s46").finished_at == before.finished_at
    assert FeedEntry.objects.filter(job=job).count() > events
    with pytest.raises(AlreadyDone):
        retry(job)


def test_a_retry_counts_attempts_on_and_gives_the_whole_budget_again(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", fail="not_ok"), step("b", "test.note", "a"), step("c", fail="not_ok"))
    assert run_queued(job).state == JobState.FAILED
    retry(job, from_step="c")
    assert states(job) == {"a": "failed", "b": "skipped", "c": "queued"}
    one = only(job, "c")
    assert (one.attempt, one.max_attempts) == (1, 4)
    with pytest.raises(NotNow):
        retry(job)
    assert run_queued(job).state == JobState.FAILED
    assert list(one.attempts.values_list("number", flat=True)) == [1, 2]


def test_what_was_stopped_in_mid_act_and_must_not_run_twice_is_looked_at_before_a_retry():
    publish(("test.*", "allow"))
    job = submit(step("a", "test.once", text="a"))
    claim = begin(only(job, "a"))
    cancel_job(job.pk, by=WHO, now=timezone.now())
    settle(claim.step, Result(ok=False, summary="stopped"), worker="w", cancelled=True, now=timezone.now())
    with pytest.raises(MayHaveHappened) as refused:
        retry(job)
    assert refused.value.steps == ["a"]
    retry(job, did_not_happen=["a"])
    assert states(job) == {"a": StepState.QUEUED}


# ---- edit ----


def edit(one: Step, by: str = "ada", **arguments: object) -> Step:
    return edit_step(one.pk, arguments, by=user(by), now=timezone.now())


def test_an_edited_step_is_asked_about_anew_and_its_editor_cannot_approve_it(test_tools):
    publish(("test.once", "ask"))
    job = submit(step("a", "test.once", text="old"))
    one = only(job, "a")
    execute(one.pk, one.attempt, HERE)
    first = ApprovalRequest.objects.get(subject_id=str(one.pk))
    heidi = user("heidi", groups=("approvers",))
    one = edit(one, "heidi", text="new")
    assert one.state == StepState.READY
    execute(one.pk, one.attempt - 1, HERE)  # a doubled message about the old arguments
    assert only(job, "a").state == StepState.READY
    execute(one.pk, one.attempt, HERE)
    second = ApprovalRequest.objects.get(subject_id=str(one.pk), state="pending")
    first.refresh_from_db()
    assert (first.state, second.call["arguments"], second.digest != first.digest) == ("void", {"text": "new"}, True)
    with pytest.raises(NotEligible):
        decide(request_id=second.pk, by=heidi, verdict="approve", reason="", channel="web", now=timezone.now())
    grace = user("grace", groups=("approvers",))
    decide(request_id=second.pk, by=grace, verdict="approve", reason="", channel="web", now=timezone.now())
    assert run_queued(job).state == JobState.SUCCEEDED
    assert test_tools.RAN == [("test.once", "new")]


def test_an_approval_of_a_paused_job_does_not_cover_what_was_edited_since():
    publish(("test.once", "ask"))
    job = submit(step("a", "test.once", text="old"))
    one = only(job, "a")
    execute(one.pk, one.attempt, HERE)
    pause(job)
    request = ApprovalRequest.objects.get(subject_id=str(one.pk))
    grace = user("grace", groups=("approvers",))
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="web", now=timezone.now())
    edit(one, text="new")
    resume(job)
    request.refresh_from_db()
    assert (request.state, states(job)) == ("void", {"a": "ready"})


def test_only_what_has_not_begun_is_edited_and_only_to_what_its_tool_takes():
    publish(("test.*", "allow"))
    job = submit(step("a"), step("b", "test.note", "a"))
    with pytest.raises(NotNow):
        edit(only(job, "a"), text="late")
    with pytest.raises(InvalidInput):
        edit(only(job, "b"), unknown="x")
    assert edit(only(job, "b"), text="new").arguments == {"text": "new"}
    assert edit(only(job, "b"), text="new").attempt == 1  # the same again changes nothing
    edited = Record.objects.filter(body__contains="step.edited").filter(body__contains=str(only(job, "b").pk))
    assert edited.count() == 1


# ---- fork ----


def fork(job: Job, at: str, by: str = "ada", **more: object) -> Job:
    return fork_job(job.pk, at=at, by=user(by), now=timezone.now(), **more)  # type: ignore[arg-type]


def test_a_fork_begins_at_its_step_with_the_results_of_those_before(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"), step("b", "test.note", "a", fail="not_ok"), step("c", "test.note", "b", text="c"))
    assert run_queued(job).state == JobState.FAILED
    made = fork(job, "b", "bob", arguments={"text": "mended"})
    assert (made.owner.username, made.forked_from_id) == ("bob", job.pk)
    assert run_queued(made).state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["a", "", "mended", "c"]
    copy = only(made, "a")
    assert copy.result == only(job, "a").result
    assert copy.decision is not None and copy.decision["effect"] == "copied"
    assert (copy.attempt, copy.attempts.count()) == (0, 0)
    assert run_queued(job).state == JobState.FAILED


def test_a_fork_has_a_copy_of_the_workspace_or_is_refused():
    publish(("test.*", "allow"))
    job = submit(step("a", text="a"), step("b", "test.note", "a"), step("c", "test.read", "b"))
    place = workspaces.workspace_for(str(job.pk))
    execute(only(job, "a").pk, 0, HERE)
    (place.tree / "file").write_text("as a left it")
    (place.tree / "link").symlink_to("/etc/hostname")
    made = fork(job, "b")
    copied = workspaces.workspace_for(str(made.pk))
    assert (copied.tree / "file").read_text() == "as a left it"
    assert (copied.tree / "link").is_symlink()
    run_queued(job)
    with pytest.raises(NotNow, match="b may have changed it"):
        fork(job, "b")
    later = fork(job, "c")
    assert run_queued(later).state == JobState.SUCCEEDED
    with pytest.raises(NotNow, match="b may have changed it"):
        fork(later, "b")  # what b did stands in the copy
    workspaces.remove(str(job.pk))
    with pytest.raises(NotNow, match="removed"):
        fork(job, "c")
    with pytest.raises(InvalidInput):
        fork(job, "x")


# ---- cancel ----

STUBBORN = "trap '' TERM; echo began; (trap '' TERM; exec sleep 321) & sleep 321; wait"


def test_cancel_ends_the_process_tree_of_a_command_that_will_not_end():
    publish(("shell.*", "allow"))
    mark = f"mark-{uuid4().hex}"
    job = submit(step("a", "shell.exec", argv=["sh", "-c", STUBBORN, mark]), step("b", "test.note", "a"))

    def work() -> None:
        execute(only(job, "a").pk, 0, HERE)
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_until(lambda: FeedEntry.objects.filter(job=job, kind="log").exists(), timeout_s=120)
        assert processes_with(mark)
    finally:
        asked_s = time.monotonic()
        cancel_job(job.pk, by=WHO, now=timezone.now())
    wait_until(lambda: not processes_with(mark), timeout_s=60)
    print(f"the process tree was dead {time.monotonic() - asked_s:.2f} s after the cancel")
    worker.join(60)
    job.refresh_from_db()
    assert (job.state, states(job)) == (JobState.CANCELLED, {"a": "cancelled", "b": "cancelled"})


def processes_with(mark: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
    return found
