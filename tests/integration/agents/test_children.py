"""Jobs that a step starts: within the grant and the budget of who delegates, and once."""

import pytest
from django.utils import timezone

from agents.engine import children
from agents.engine.cancel import cancel_job
from agents.engine.control.fork import fork_job
from agents.engine.control.retry import retry_job
from agents.engine.intake import NewStep
from agents.errors import NotNow
from agents.models import Agent, Job, Step
from agents.states import JobState, StepState
from agents.workflows import versions
from audit.actor import Actor
from tests.factories.policies import publish
from tests.integration.agents.driving import run_all, states, step_of, submit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


UNDO = {"tool": "test.note", "arguments": {"text": "undone"}}


def agent(name: str, *tools: str, **fields: object) -> Agent:
    return Agent.objects.create(name=name, instructions="work", tools=list(tools), **fields)


def delegate(goal: str = "look", **arguments: object) -> NewStep:
    return NewStep(key="d", tool="job.delegate", arguments={"goal": goal, **arguments})


def version(source: str) -> None:
    """Publishes a workflow."""
    now = timezone.now()
    versions.publish(versions.save_draft(source, by=None, now=now).pk, by=None, now=now)


def child_of(job: Job) -> Job:
    return Job.objects.get(parent=job)


def test_a_sub_goal_is_a_job_of_its_own_with_no_wider_grant_and_a_share_of_the_budget():
    publish(("*", "allow"))
    agent("reader", "files.*", "git.*", max_tokens=1000)
    job = submit(delegate(agent="reader", tools=["files.read"], max_tokens=300, max_steps=7))
    assert children.sweep(timezone.now()) == 1
    child = child_of(job)
    assert (child.kind, child.goal, child.agent.name, child.owner_id) == ("goal", "look", "reader", job.owner_id)
    assert (child.max_tokens, child.max_steps, child.depth) == (300, 7, 1)
    assert child.grant == [["files.read"]]
    assert child.workspace_of == job.pk
    assert Step.objects.get(job=child, tool="llm.think").workspace_of == job.pk
    assert states(job) == {"d": "pending"}
    job.refresh_from_db()
    assert job.state == JobState.RUNNING or job.state == JobState.QUEUED


def test_what_the_grant_does_not_cover_is_refused_whatever_the_policies_say(test_tools):
    publish(("*", "allow"))
    job = submit(NewStep(key="a", tool="test.note", arguments={"text": "a"}), grant=[["test.*"], ["files.*"]])
    assert run_all(job).state == JobState.FAILED
    step = step_of(job, "a")
    assert (step.state, step.error_code) == ("refused", "beyond_grant")
    assert test_tools.RAN == []


def test_a_child_is_started_once_however_often_it_is_asked_for():
    publish(("*", "allow"))
    agent("reader", "files.*")
    job = submit(delegate(agent="reader"))
    step = step_of(job, "d")
    first = children.start(step.pk, now=timezone.now())
    assert first is not None
    assert children.start(step.pk, now=timezone.now()) is None
    assert Job.objects.filter(parent=job).count() == 1


def test_a_denied_delegation_starts_nothing():
    publish(("job.*", "deny"), ("*", "allow"))
    agent("reader", "files.*")
    job = run_all(submit(delegate(agent="reader")))
    assert (job.state, states(job)) == ("failed", {"d": "refused"})
    assert not Job.objects.filter(parent=job).exists()


def test_the_step_ends_with_its_job_and_later_steps_read_what_it_gave(test_tools):
    publish(("*", "allow"))
    source = """
name: inner
title: Inner
inputs:
  type: object
  properties: {word: {type: string}}
  required: [word]
steps:
  - key: say
    tool: test.note
    arguments: {text: "${{ inputs.word }}!"}
outputs:
  said: steps.say.summary
"""
    version(source)
    job = run_all(
        submit(
            NewStep(key="w", tool="job.workflow", arguments={"workflow": "inner", "inputs": {"word": "hello"}}),
            NewStep(
                key="after",
                tool="test.note",
                arguments={},
                template={"text": "${{ steps.w.data.outputs.said }}"},
                needs=("w",),
            ),
        )
    )
    assert job.state == JobState.SUCCEEDED
    assert [text for _, text in test_tools.RAN] == ["hello!", "hello!"]
    assert child_of(job).outputs == {"said": "hello!"}


def test_a_job_whose_child_fails_fails_with_its_reason():
    publish(("*", "allow"))
    version("name: inner\ntitle: Inner\nsteps:\n  - key: a\n    tool: test.note\n    arguments: {fail: not_ok}\n")
    job = run_all(submit(NewStep(key="w", tool="job.workflow", arguments={"workflow": "inner"})))
    step = step_of(job, "w")
    assert (job.state, step.state, step.error_code) == ("failed", "failed", "child_failed")
    assert "failed" in step.error


def test_cancelling_the_parent_cancels_its_children():
    publish(("*", "allow"))
    agent("reader", "files.*")
    job = submit(delegate(agent="reader"))
    children.sweep(timezone.now())
    cancel_job(job.pk, by=Actor.system("test"), now=timezone.now())
    children.cancel_orphans(timezone.now())
    assert child_of(job).state == JobState.CANCELLED
    job.refresh_from_db()
    assert (job.state, states(job)) == (JobState.CANCELLED, {"d": StepState.CANCELLED})


def test_jobs_start_jobs_only_so_deep():
    publish(("*", "allow"))
    agent("reader", "files.*")
    job = run_all(submit(delegate(agent="reader"), depth=children.DEPTH_MAX))
    step = step_of(job, "d")
    assert (step.state, step.error_code) == ("failed", "cannot_delegate")


def test_children_share_what_is_left_of_the_tokens():
    publish(("*", "allow"))
    agent("reader", "files.*")
    two = NewStep(key="e", tool="job.delegate", arguments={"goal": "also", "agent": "reader", "max_tokens": 900})
    job = submit(delegate(agent="reader", max_tokens=900), two, max_tokens=1000)
    children.sweep(timezone.now())
    assert sorted(Job.objects.filter(parent=job).values_list("max_tokens", flat=True)) == [100, 900]


@pytest.mark.parametrize("arguments", [{"agent": "nobody"}, {}])
def test_an_agent_that_is_not_there_fails_the_step(arguments):
    publish(("*", "allow"))
    job = run_all(submit(delegate(**arguments)))
    assert step_of(job, "d").error_code == "cannot_delegate"


# retried and forked by themselves

MENDING = """
name: mending
title: Mending
inputs: {type: object, properties: {}}
steps:
  - {key: one, tool: test.note, arguments: {text: one}}
  - {key: two, tool: test.note, arguments: {text: two, fail: not_ok}, needs: [one]}
"""


def inner(key: str = "w", *needs: str, workflow: str = "mending") -> NewStep:
    return NewStep(key=key, tool="job.workflow", arguments={"workflow": workflow}, needs=needs)


def again(job: Job) -> Job:
    return retry_job(job.pk, by=Actor.user(job.owner.pk), now=timezone.now())


def test_a_child_is_retried_and_the_job_that_started_it_goes_on_with_it(test_tools):
    publish(("*", "allow"))
    version(MENDING)
    outer = MENDING.replace("mending", "outer").replace("Mending", "Outer")
    outer = outer[: outer.index("steps:")] + "steps:\n  - {key: in, workflow: mending}\n"
    version(outer)
    after = NewStep(key="after", tool="test.note", arguments={"text": "after"}, needs=("w",))
    job = run_all(submit(inner(workflow="outer"), after))
    middle = child_of(job)
    child = child_of(middle)
    assert [one.state for one in (job, middle, child)] == ["failed"] * 3
    Job.objects.filter(pk=child.pk).update(tokens_used=70)
    test_tools.STATE["mended"] = True
    again(child)
    assert (states(job), states(middle)) == ({"w": "pending", "after": "pending"}, {"in": "pending"})
    assert run_all(job).state == JobState.SUCCEEDED
    for one in (middle, child):
        one.refresh_from_db()
        assert one.state == JobState.SUCCEEDED
    assert Job.objects.filter(parent__isnull=False).count() == 2, "no other jobs were started"
    assert [text for _, text in test_tools.RAN] == ["one", "two", "two", "after"]


def test_a_child_s_tokens_count_once_however_often_it_is_retried(test_tools):
    publish(("*", "allow"))
    version(MENDING)
    job = submit(inner())
    children.sweep(timezone.now())
    child = child_of(job)
    Job.objects.filter(pk=child.pk).update(tokens_used=70)
    assert run_all(job).tokens_used == 70
    test_tools.STATE["mended"] = True
    child.refresh_from_db()
    again(child)
    Job.objects.filter(pk=child.pk).update(tokens_used=100)
    assert run_all(job).tokens_used == 100


def test_a_child_whose_parent_went_on_says_what_to_do_instead(test_tools):
    publish(("*", "allow"))
    version(MENDING)
    other = NewStep(key="other", tool="test.note", arguments={"text": "other"}, needs=("w",), needs_success=False)
    job = submit(inner(), other)
    children.sweep(timezone.now())
    child = run_all(child_of(job), rounds=2)
    step = step_of(job, "w")
    assert step.state == StepState.FAILED
    with pytest.raises(NotNow, match="goes on without it"):
        again(child)
    run_all(job)
    first = child
    test_tools.STATE["mended"] = True
    again(job)
    run_all(job)
    with pytest.raises(NotNow, match="another job since"):
        again(first)
    test_tools.STATE["mended"] = False
    kept = run_all(submit(inner(), NewStep(key="b", tool="test.note", arguments={}, compensation=UNDO)))
    assert kept.state == JobState.COMPENSATED
    with pytest.raises(NotNow, match="has compensated, and does not wait for it"):
        again(child_of(kept))


def test_a_child_is_forked_by_itself(test_tools):
    publish(("*", "allow"))
    version(MENDING)
    job = run_all(submit(inner()))
    test_tools.STATE["mended"] = True
    made = fork_job(child_of(job).pk, at="two", by=job.owner, now=timezone.now())
    assert (made.parent_id, made.workspace_of, made.owner_id) == (None, None, job.owner_id)
    assert run_all(made).state == JobState.SUCCEEDED
    assert states(made) == {"one": "succeeded", "two": "succeeded"}
