"""Maps: a row an item, a permit and a commit a chunk, and every item decided on."""

import threading

import pytest
from django.db import connections
from django.utils import timezone

from agents.engine import fanout
from agents.engine.cancel import cancel_job
from agents.engine.control.retry import retry_job
from agents.engine.execute import claim_step, execute
from agents.engine.intake import NewStep
from agents.engine.recover import expire_leases
from agents.models import Job, MapItem, Step
from agents.states import JobState, StepState
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import HERE, run_all, states, step_of, submit
from tests.stack import wait_until
from tools.models import Permit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def mapped(over: object, *needs: str, tool: str = "test.note", arguments: object = None, **spec: object) -> NewStep:
    given = {"text": "${{ item }}"} if arguments is None else arguments
    return NewStep(
        key="m",
        tool=tool,
        arguments={},
        needs=needs,
        kind=Step.Kind.MAP,
        spec={"over": over, "arguments": given, **spec},
    )


def rows(job: Job) -> list[tuple[int, bool, str]]:
    found = MapItem.objects.filter(step__job=job).order_by("index")
    return [(one.index, one.ok, one.error_code) for one in found]


def test_every_item_runs_once_and_leaves_its_row(test_tools):
    publish(("test.*", "allow"))
    job = run_all(submit(mapped([f"i{n}" for n in range(25)], chunk=10)))
    assert job.state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == [f"i{n}" for n in range(25)]
    assert rows(job) == [(n, True, "") for n in range(25)]
    assert states(job) == {"m": "succeeded", "m.1": "succeeded", "m.2": "succeeded", "m.3": "succeeded"}
    data = step_of(job, "m").result["data"]
    assert (data["items"], data["succeeded"], data["failed"]) == (25, 25, 0)
    assert data["results"] == [f"i{n}" for n in range(25)]
    chunks = Step.objects.filter(job=job, kind=Step.Kind.CHUNK)
    assert Permit.objects.filter(subject__in=[str(one.pk) for one in chunks]).count() == 3


def test_the_list_comes_from_an_earlier_step_and_later_steps_read_the_results(test_tools):
    publish(("test.*", "allow"))
    job = run_all(
        submit(
            NewStep(key="first", tool="test.note", arguments={"text": "a b c"}),
            mapped("[steps.first.summary, steps.first.text]", "first"),
            NewStep(
                key="last",
                tool="test.note",
                arguments={},
                template={"text": "${{ steps.m.data.results[1] }} of ${{ steps.m.data.items }}"},
                needs=("m",),
            ),
        )
    )
    assert job.state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["a b c", "a b c", "noted", "noted of 2"]


def test_an_item_that_fails_does_not_stop_the_others_and_fails_the_map():
    publish(("test.*", "allow"))
    template = {"text": "${{ item }}", "fail": "${{ item == 'bad' ? 'not_ok' : '' }}"}
    job = run_all(submit(mapped(["a", "bad", "c"], arguments=template)))
    assert job.state == JobState.FAILED
    assert rows(job) == [(0, True, ""), (1, False, "not_ok"), (2, True, "")]
    step = step_of(job, "m")
    assert (step.state, step.error_code) == ("failed", "items_failed")
    assert step.result["data"]["failures"][0]["index"] == 1


def test_as_many_items_may_fail_as_the_map_says():
    publish(("test.*", "allow"))
    template = {"text": "${{ item }}", "fail": "${{ item == 'bad' ? 'refuse' : '' }}"}
    job = run_all(submit(mapped(["a", "bad", "c"], arguments=template, max_failures=1)))
    assert job.state == JobState.SUCCEEDED
    assert rows(job)[1] == (1, False, "tool_refused")


def test_policy_decides_on_every_item_and_what_it_denies_never_runs(test_tools):
    publish(("test.*", "deny", "call.args.text == 'secret'"), ("test.*", "allow"))
    job = run_all(submit(mapped(["a", "secret", "c"])))
    assert job.state == JobState.FAILED
    assert [text for _, text in test_tools.RAN] == ["a", "c"]
    assert rows(job) == [(0, True, ""), (1, False, "policy_denied"), (2, True, "")]


def test_a_chunk_asks_when_one_of_its_items_must_be_asked_about(test_tools):
    grace = user("grace", groups=("approvers",))
    publish(("test.*", "ask", "call.args.text == 'risky'"), ("test.*", "allow"))
    job = run_all(submit(mapped(["a", "risky", "c"], chunk=1)))
    assert sorted(text for _, text in test_tools.RAN) == ["a", "c"]
    request = ApprovalRequest.objects.get(parent_id=str(job.pk))
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())
    assert run_all(job).state == JobState.SUCCEEDED
    assert sorted(text for _, text in test_tools.RAN) == ["a", "c", "risky"]


def test_a_tool_that_must_not_run_twice_has_a_step_an_item():
    publish(("test.*", "allow"))
    job = run_all(submit(mapped(["a", "b"], tool="test.once", chunk=10)))
    assert job.state == JobState.SUCCEEDED
    assert list(Step.objects.filter(job=job, parent__isnull=False).values_list("kind", flat=True)) == ["call", "call"]
    assert rows(job) == [(0, True, ""), (1, True, "")]


def test_only_so_many_chunks_are_under_way_at_once():
    publish(("test.*", "allow"))
    job = submit(mapped(10, arguments={"text": "${{ string(index) }}"}, chunk=1, parallel=3))
    chunks = Step.objects.filter(job=job, kind=Step.Kind.CHUNK)
    assert chunks.filter(state=StepState.QUEUED).count() == 3
    one = chunks.filter(state=StepState.QUEUED).first()
    execute(one.pk, one.attempt, HERE)
    assert chunks.filter(state=StepState.QUEUED).count() == 3
    assert run_all(job).state == JobState.SUCCEEDED
    assert MapItem.objects.filter(step__job=job).count() == 10


def test_a_chunk_whose_worker_died_runs_again_and_no_item_has_two_rows(settings):
    publish(("test.*", "allow"))
    job = submit(mapped(["a", "b", "c"], chunk=2))
    one = Step.objects.get(job=job, key="m.1")
    assert claim_step(one.pk, one.attempt, HERE, now=timezone.now()) is not None
    Step.objects.filter(pk=one.pk).update(lease_until=timezone.now())
    expire_leases(timezone.now())
    assert run_all(job).state == JobState.SUCCEEDED
    assert rows(job) == [(0, True, ""), (1, True, ""), (2, True, "")]


def test_cancelling_ends_the_map_and_its_chunks():
    publish(("test.*", "allow"))
    job = submit(mapped(["a", "b", "c"], chunk=1, parallel=1))
    cancel_job(job.pk, by=Actor.system("test"), now=timezone.now())
    assert run_all(job).state == JobState.CANCELLED
    assert set(states(job).values()) == {"cancelled"}


def test_a_retry_runs_exactly_the_items_that_failed(test_tools):
    publish(("test.*", "deny", "call.args.text == 'secret'"), ("test.*", "allow"))
    over = ["a", "bad-1", "b", "secret", "c", "bad-2", "d"]
    template = {"text": "${{ item }}", "fail": "${{ item.startsWith('bad') ? 'not_ok' : '' }}"}
    job = run_all(submit(mapped(over, arguments=template, chunk=3)))
    assert job.state == JobState.FAILED
    before = dict(MapItem.objects.filter(step__job=job, ok=True).values_list("index", "id"))
    test_tools.RAN.clear()
    publish(("test.*", "allow"))  # what was denied is no longer
    test_tools.STATE["mended"] = True
    retry_job(job.pk, by=Actor.system("test"), now=timezone.now())
    assert run_all(job).state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["bad-1", "secret", "bad-2"]
    assert rows(job) == [(n, True, "") for n in range(7)]
    assert before.items() <= dict(MapItem.objects.filter(step__job=job).values_list("index", "id")).items()
    again = Step.objects.get(job=job, key="m.4")
    assert (again.state, again.spec) == ("succeeded", {"indexes": [1, 3, 5]})
    assert step_of(job, "m").spec["chunks"] == 4
    assert step_of(job, "m").result["data"]["results"] == over


def test_a_retry_leaves_out_what_a_stopped_chunk_had_done(test_tools):
    publish(("test.*", "allow"))
    template = {"text": "${{ item }}", "fail": "${{ item == 'b' ? 'endless' : '' }}"}
    job = submit(mapped(["a", "b", "c"], arguments=template))
    one = Step.objects.get(job=job, key="m.1")
    worker = threading.Thread(target=lambda: (execute(one.pk, one.attempt, HERE), connections.close_all()))
    worker.start()
    wait_until(lambda: ("test.note", "b") in test_tools.RAN, timeout_s=60)
    cancel_job(job.pk, by=Actor.system("test"), now=timezone.now())
    worker.join(60)
    assert run_all(job).state == JobState.CANCELLED
    assert rows(job)[0] == (0, True, "") and not any(ok for _, ok, _ in rows(job)[1:])
    test_tools.RAN.clear()
    test_tools.STATE["mended"] = True
    retry_job(job.pk, by=Actor.system("test"), now=timezone.now())
    assert run_all(job).state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["b", "c"]
    assert rows(job) == [(0, True, ""), (1, True, ""), (2, True, "")]


def test_a_retry_from_a_chunk_is_one_of_its_map_and_what_fails_again_stays_failed(test_tools):
    publish(("test.*", "allow"))
    template = {"text": "${{ item }}", "fail": "${{ item == 'bad' ? 'not_ok' : '' }}"}
    job = run_all(submit(mapped(["a", "bad", "c"], arguments=template, chunk=2)))
    test_tools.RAN.clear()
    for number in (3, 4):
        retry_job(job.pk, by=Actor.system("test"), now=timezone.now(), from_step="m.1")
        assert run_all(job).state == JobState.FAILED
        assert states(job)[f"m.{number}"] == "succeeded"
    assert rows(job) == [(0, True, ""), (1, False, "not_ok"), (2, True, "")]
    assert len(test_tools.RAN) == 2


def test_an_empty_list_succeeds_at_once():
    publish(("test.*", "allow"))
    job = submit(mapped([]))
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    assert step_of(job, "m").result["data"]["items"] == 0


@pytest.mark.parametrize(
    ("over", "arguments", "says"),
    [
        (fanout.ITEMS_MAX + 1, {}, "at most 100,000 items"),
        ("job.goal", {}, "not a list"),
        ("steps.nowhere.data", {}, "nowhere"),
        (["a"], {"nonsense": "${{ item }}"}, "Item 0: arguments.nonsense: "),
        (["a"], {"text": "${{ item.field }}"}, "Item 0"),
    ],
)
def test_a_map_that_cannot_be_made_fails_with_the_reason(over, arguments, says, test_tools):
    publish(("test.*", "allow"))
    job = submit(mapped(over, arguments=arguments))
    job.refresh_from_db()
    step = step_of(job, "m")
    assert (job.state, step.state, step.error_code, step.error_class) == ("failed", "failed", "bad_map", "bad_input")
    assert says in step.error
    assert test_tools.RAN == []
    assert Step.objects.filter(job=job).count() == 1
