"""Undoing under people's control, and maps that are undone item by item."""

import threading
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from agents.engine import deadlines
from agents.engine.cancel import cancel_job, stop_undoing
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.execute import execute
from agents.engine.intake import NewStep
from agents.errors import NotNow
from agents.models import Job, MapItem, Step
from agents.states import JobState, StepState
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import api
from tests.integration.agents.driving import HERE, run_all, states, step_of, submit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]

WHO = Actor.user(1)


def undo(tool: str = "test.note", **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments}


def step(key: str, *needs: str, tool: str = "test.note", compensation: Any = None, **arguments: Any) -> NewStep:
    return NewStep(key=key, tool=tool, arguments=arguments, needs=needs, compensation=compensation)


def items(over: Any, compensation: Any, *, tool: str = "test.note", **spec: Any) -> NewStep:
    arguments = spec.pop("arguments", {"text": "do ${{ item }}"})
    return NewStep(
        key="m",
        tool=tool,
        kind=Step.Kind.MAP,
        arguments={},
        spec={"over": over, "arguments": arguments, "chunk": 2, **spec},
        compensation=compensation,
    )


def run_until(job: Job, state: str) -> Job:
    """Runs one message after another until the job is in this state."""
    for _ in range(100):
        job.refresh_from_db()
        if job.state == state:
            return job
        one = Step.objects.filter(job=job, state__in=[StepState.QUEUED, StepState.READY]).order_by("seq").first()
        assert one is not None, states(job)
        execute(one.pk, one.attempt, HERE)
    raise AssertionError(states(job))


def texts(test_tools: Any, name: str = "undo") -> list[str]:
    return [text for _, text in test_tools.RAN if text.startswith(name)]


def failing(*, asks: bool = False) -> Job:
    """A job that has failed, and undoes b, then a."""
    publish(*([("test.once", "ask")] if asks else []), ("test.*", "allow"))
    tool = "test.once" if asks else "test.note"
    job = submit(
        step("a", text="a", compensation=undo(tool, text="undo a")),
        step("b", "a", text="b", compensation=undo(tool, text="undo b")),
        step("c", "b", fail="not_ok"),
    )
    return run_until(job, JobState.COMPENSATING)


def test_undoing_is_paused_and_goes_on_where_it_stood(test_tools):
    job = failing()
    queued = step_of(job, "undo-b")
    pause_job(job.pk, by=WHO, now=timezone.now())
    execute(queued.pk, queued.attempt, HERE)  # its message was under way
    assert run_all(job).state == JobState.PAUSED
    assert (states(job)["undo-b"], texts(test_tools)) == ("pending", [])
    resume_job(job.pk, by=WHO, now=timezone.now())
    assert run_all(job).state == JobState.COMPENSATED
    assert texts(test_tools) == ["undo b", "undo a"]


def test_what_runs_when_undoing_is_paused_ends_and_nothing_follows_it(test_tools):
    job = failing(asks=True)
    run_all(job)
    pause_job(job.pk, by=WHO, now=timezone.now())
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    grace = user("grace", groups=("approvers",))
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="web", now=timezone.now())
    assert run_all(job).state == JobState.PAUSED
    assert texts(test_tools) == []
    Job.objects.filter(pk=job.pk).update(deadline_at=timezone.now())
    assert deadlines.end_overdue(timezone.now()) == 0  # undoing has no limit of time
    resume_job(job.pk, by=WHO, now=timezone.now())
    run_all(job)
    assert texts(test_tools) == ["undo b"]
    assert states(job)["undo-a"] == "waiting_approval"


def test_a_cancelled_job_that_undoes_can_be_paused_too(test_tools):
    publish(("test.*", "allow"))
    job = submit(step("a", text="a", compensation=undo(text="undo a")), step("b", "a"))
    execute(step_of(job, "a").pk, 0, HERE)
    cancel_job(job.pk, by=WHO, now=timezone.now())
    pause_job(job.pk, by=WHO, now=timezone.now())
    assert run_all(job).state == JobState.PAUSED
    resume_job(job.pk, by=WHO, now=timezone.now())
    assert run_all(job).state == JobState.COMPENSATED


@pytest.mark.parametrize("paused", [False, True])
def test_undoing_is_stopped_by_a_person_and_the_job_says_what_is_left(test_tools, paused: bool):
    job = failing()
    execute(step_of(job, "undo-b").pk, 0, HERE)
    assert states(job)["undo-a"] == "queued"
    cancel_job(job.pk, by=WHO, now=timezone.now())  # which means the job, and changes nothing
    assert Job.objects.get(pk=job.pk).state == JobState.COMPENSATING
    if paused:
        pause_job(job.pk, by=WHO, now=timezone.now())
    stop_undoing(job.pk, by=WHO, now=timezone.now())
    job = run_all(job)
    assert job.state == JobState.FAILED
    assert "A person stopped the undoing. Undone: b. Not undone: a (undo-a cancelled" in job.outcome
    assert texts(test_tools) == ["undo b"]
    with pytest.raises(NotNow):
        stop_undoing(job.pk, by=WHO, now=timezone.now())


def test_an_undoing_that_runs_ends_before_the_stopped_job_does(test_tools):
    job = failing()
    one = step_of(job, "undo-b")
    Step.objects.filter(pk=one.pk).update(arguments={"text": "undo b", "fail": "wait"})
    test_tools.GO_ON.clear()
    # its permit is for the call as it was: a new decision covers the new one
    pause_job(job.pk, by=WHO, now=timezone.now())
    resume_job(job.pk, by=WHO, now=timezone.now())

    def work() -> None:
        now = step_of(job, "undo-b")
        execute(now.pk, now.attempt, HERE)
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert test_tools.STARTED.wait(60)
        stop_undoing(job.pk, by=WHO, now=timezone.now())
        assert Job.objects.get(pk=job.pk).state == JobState.COMPENSATING
    finally:
        test_tools.GO_ON.set()
        worker.join(60)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "undo-a" not in states(job)


def test_undoing_is_stopped_by_the_page_the_api_and_the_command_line(client):
    job = failing()
    ada = user("ada")
    client.force_login(ada)
    page = client.get(job.get_absolute_url()).content.decode()
    assert "Stop undoing" in page and ">Pause<" in page and "Cancel job" not in page
    client.post(f"{job.get_absolute_url()}stop-undoing")
    assert run_all(job).state == JobState.FAILED
    assert "Stop undoing" not in client.get(job.get_absolute_url()).content.decode()
    other = failing()
    stop = f"{api.JOBS}/{other.pk}/stop-undoing"
    assert api.client(ada).post(stop).json()["state"] == "failed"
    api.problem(api.client(ada).post(stop), 409, "not_now")
    third = failing()
    call_command("job", "stop-undoing", str(third.pk), username="ada")
    assert Job.objects.get(pk=third.pk).state == JobState.FAILED


# maps


def test_a_map_is_undone_item_by_item_from_the_last_to_the_first(test_tools):
    publish(("test.*", "allow"))
    said = "undo ${{ index }} ${{ item }} ${{ result.summary }}"
    job = submit(items(["x", "y", "z"], undo(text=said)), step("b", "m", fail="not_ok"))
    job = run_all(job)
    assert job.state == JobState.COMPENSATED, job.outcome
    assert texts(test_tools) == ["undo 2 z do z", "undo 1 y do y", "undo 0 x do x"]
    assert states(job)["m"] == "compensated"
    rows = MapItem.objects.filter(step=step_of(job, "undo-m")).order_by("index")
    assert list(rows.values_list("index", "ok")) == [(0, True), (1, True), (2, True)]


def test_of_a_map_that_failed_in_part_what_succeeded_is_undone(test_tools):
    publish(("test.*", "allow"))
    arguments = {"text": "do ${{ item.text }}", "fail": "${{ item.fail }}"}
    over = [{"text": "x", "fail": ""}, {"text": "y", "fail": "not_ok"}, {"text": "z", "fail": ""}]
    job = run_all(submit(items(over, undo(text="undo ${{ item.text }}"), arguments=arguments)))
    assert (job.state, states(job)["m"]) == (JobState.COMPENSATED, "failed"), job.outcome
    assert texts(test_tools) == ["undo z", "undo x"]
    assert job.outcome.endswith("Undone: m.")


def test_an_item_that_cannot_be_undone_is_named_and_the_others_are_undone(test_tools):
    publish(("test.*", "allow"))
    fails = "${{ item == 'y' ? 'not_ok' : '' }}"
    job = run_all(
        submit(items(["x", "y", "z"], undo(text="undo ${{ item }}", fail=fails)), step("b", "m", fail="not_ok"))
    )
    assert job.state == JobState.FAILED
    assert texts(test_tools) == ["undo z", "undo y", "undo x"]
    assert "Not undone: m (undo-m failed: 2 of 3 items succeeded; item 1:" in job.outcome
    bad = run_all(submit(items(["x"], undo(text="${{ item.nope }}")), step("b", "m", fail="not_ok")))
    assert bad.state == JobState.FAILED
    assert "m cannot be undone: Item 0:" in bad.outcome


def test_items_that_must_not_run_twice_are_undone_one_after_another_and_the_rest_is_stopped(test_tools):
    publish(("test.*", "allow"))
    job = submit(
        items(["x", "y", "z"], undo("test.once", text="undo ${{ item }}"), tool="test.once"),
        step("b", "m", fail="not_ok"),
    )
    run_until(job, JobState.COMPENSATING)
    one = Step.objects.get(job=job, parent=step_of(job, "undo-m"), state=StepState.QUEUED)
    execute(one.pk, one.attempt, HERE)
    pause_job(job.pk, by=WHO, now=timezone.now())
    assert run_all(job).state == JobState.PAUSED
    resume_job(job.pk, by=WHO, now=timezone.now())
    one = Step.objects.get(job=job, parent=step_of(job, "undo-m"), state=StepState.QUEUED)
    execute(one.pk, one.attempt, HERE)
    stop_undoing(job.pk, by=WHO, now=timezone.now())
    assert run_all(job).state == JobState.FAILED
    assert texts(test_tools) == ["undo z", "undo y"]


def test_undoing_a_cancelled_job_s_map_is_not_cancelled_with_it(test_tools):
    publish(("test.*", "allow"))
    job = submit(items(["x", "y", "z"], undo(text="undo ${{ item }}")), step("b", "m"))
    first = Step.objects.filter(job=job, kind=Step.Kind.CHUNK).order_by("seq").first()
    assert first is not None
    execute(first.pk, first.attempt, HERE)
    cancel_job(job.pk, by=WHO, now=timezone.now())
    assert run_all(job).state == JobState.COMPENSATED
    assert texts(test_tools) == ["undo y", "undo x"]
