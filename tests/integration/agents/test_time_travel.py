"""A fork works in what the workspace held when its step began, whatever was done there since."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.utils import timezone

from agents.engine import answers, recover
from agents.engine.control.fork import fork_job
from agents.engine.execute import execute
from agents.engine.intake import NewStep
from agents.errors import NotNow
from agents.models import Job, Step
from agents.states import JobState, StepState
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import HERE, run_all, states, step_of, submit
from tests.integration.tools.git_support import make_remote, plain_git
from tools import registry, workspaces
from tools.errors import ToolFailed
from tools.spec import Box, Effect, Result, Tool, Workspace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


class Write(Tool):
    """Adds a line to the work tree's file `log`."""

    name: ClassVar[str] = "test.write"
    summary: ClassVar[str] = "Writes."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "fail": {"type": "boolean"}},
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        with (box.workspace.tree / "log").open("a") as log:
            log.write(arguments.get("text", "") + "\n")
        if arguments.get("fail"):
            raise ToolFailed("It wrote and failed.")
        return Result(ok=True, summary="written")


class WriteOnce(Write):
    """Lets others work while it does."""

    name: ClassVar[str] = "test.write_once"
    effect: ClassVar[Effect] = Effect.ONCE
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        result = super().run(arguments, box)
        self.meanwhile()
        return result


@pytest.fixture(autouse=True)
def writers() -> Iterator[None]:
    tools = [Write(), WriteOnce()]
    for tool in tools:
        registry.register(tool)
    yield
    for tool in tools:
        registry.unregister(tool.name)


def write(key: str, *needs: str, tool: str = "test.write", **more: Any) -> NewStep:
    return NewStep(key=key, tool=tool, arguments={"text": key, **more}, needs=needs)


def fork(job: Job, at: str, **more: Any) -> Job:
    return fork_job(job.pk, at=at, by=user("ada"), now=timezone.now(), **more)


def place(job: Job) -> Workspace:
    return workspaces.workspace_for(str(job.pk))


def log(job: Job) -> list[str]:
    return (place(job).tree / "log").read_text().split()


def run(job: Job, *keys: str) -> None:
    for key in keys:
        one = step_of(job, key)
        execute(one.pk, one.attempt, HERE)


def test_a_job_of_fifty_steps_is_forked_at_thirty_with_the_tree_of_twenty_nine():
    publish(("test.*", "allow"))
    keys = [f"s{number}" for number in range(1, 51)]
    job = submit(*(write(key, *keys[max(0, at - 1) : at]) for at, key in enumerate(keys)))
    assert run_all(job).state == JobState.SUCCEEDED
    assert log(job) == keys
    made = fork(job, "s30")
    assert log(made) == keys[:29]
    assert {key for key, state in states(made).items() if state == StepState.SUCCEEDED} == set(keys[:29])
    assert run_all(made).state == JobState.SUCCEEDED
    assert (log(made), log(job)) == (keys, keys)
    # and once more, from the fork, which kept its own
    again = fork(made, "s40", arguments={"text": "other"})
    assert log(again) == keys[:39]
    assert run_all(again).state == JobState.SUCCEEDED
    assert log(again) == [*keys[:39], "other", *keys[40:]]
    with pytest.raises(NotNow, match=f"ran in the job {job.pk}"):
        fork(made, "s10")


def test_a_fork_while_the_job_runs_on_and_of_a_step_that_failed():
    publish(("test.*", "allow"))
    job = submit(write("a"), write("b", "a", fail=True), write("c", "b"))
    run(job, "a", "b")
    assert step_of(job, "b").state == StepState.FAILED
    assert log(job) == ["a", "b"]
    made = fork(job, "b", arguments={"text": "mended"})
    assert log(made) == ["a"]
    assert run_all(made).state == JobState.SUCCEEDED
    assert log(made) == ["a", "mended", "c"]
    first = fork(job, "a")
    assert not (place(first).tree / "log").exists()


def test_what_ended_after_the_step_began_runs_again_in_the_fork():
    """b and c run side by side: when c began, b had not ended."""
    publish(("test.*", "allow"))
    job = submit(write("a"), write("b", "a"), write("c", "a"), write("d", "b", "c"))
    run(job, "a", "c", "b")
    assert run_all(job).state == JobState.SUCCEEDED
    assert log(job) == ["a", "c", "b", "d"]
    made = fork(job, "c")
    assert log(made) == ["a"]
    assert states(made) == {"a": "succeeded", "b": "queued", "c": "queued", "d": "pending"}
    kept = fork(job, "b")  # c had ended when it began, though it stands behind it
    assert log(kept) == ["a", "c"]
    assert states(kept) == {"a": "succeeded", "b": "queued", "c": "succeeded", "d": "pending"}
    assert log(fork(job, "d")) == ["a", "c", "b"]


def test_what_must_not_run_twice_and_was_under_way_is_a_reason_to_refuse(monkeypatch):
    publish(("test.*", "allow"))
    job = submit(write("a", tool="test.write_once"), write("b"), write("c", "b"))
    monkeypatch.setattr(registry.get("test.write_once"), "meanwhile", lambda: run(job, "b", "c"))
    run(job, "a")
    assert run_all(job).state == JobState.SUCCEEDED
    with pytest.raises(NotNow, match="a must not run twice, and had begun"):
        fork(job, "c")


class Died(BaseException):
    """The worker is killed in mid-act."""


def test_what_a_killed_worker_had_done_is_kept_when_its_probe_finds_it(monkeypatch):
    publish(("test.*", "allow"))
    job = submit(write("a", tool="test.write_once"), write("b", "a"), write("c", "b"))

    def die() -> None:
        raise Died

    monkeypatch.setattr(registry.get("test.write_once"), "meanwhile", die)
    with pytest.raises(Died):
        run(job, "a")
    recover.expire_leases(timezone.now() + timedelta(seconds=60))
    one = step_of(job, "a")
    assert one.state == StepState.IN_DOUBT
    found = Result(ok=True, summary="it happened")
    monkeypatch.setattr(registry.get("test.write_once"), "probe", lambda *given: found)
    answers.probe(one.pk, one.attempt, worker=HERE.worker)
    assert run_all(job).state == JobState.SUCCEEDED
    assert log(fork(job, "b")) == ["a"]
    assert log(fork(job, "c")) == ["a", "b"]


def test_where_there_is_no_snapshot_the_fork_says_why_and_the_step_ended_well(settings):
    settings.WORKSPACE_SNAPSHOTS = 0
    publish(("test.*", "allow"))
    job = submit(write("a"), write("b", "a"), write("c", "b"))
    run(job, "a")
    assert log(fork(job, "b")) == ["a"]  # nothing has begun since: it is what is there now
    assert run_all(job).state == JobState.SUCCEEDED
    with pytest.raises(NotNow, match=r"before b was not kept: snapshots are switched off.* b, c may have changed it"):
        fork(job, "b")
    assert not (place(fork(job, "a")).tree / "log").exists()  # it began with nothing
    workspaces.remove(str(job.pk))
    with pytest.raises(NotNow, match="removed"):
        fork(job, "b")


def test_the_repository_goes_back_with_its_refs_and_nothing_in_it_runs(tmp_path, settings):
    settings.ALLOW_LOCAL_REPOSITORIES = True
    publish(("workspace.*", "allow"), ("files.*", "allow"), ("git.*", "allow"), ("shell.*", "allow"))
    remote, mark = make_remote(tmp_path), tmp_path / "ran"
    evil = f"#!/bin/sh\ntouch {mark}\n"
    hook = "mkdir -p sub && printf '* filter=evil\\n' > .gitattributes && echo ignored > built.o"
    job = submit(
        NewStep(key="clone", tool="workspace.prepare", arguments={"url": str(remote.path)}),
        NewStep(key="branch", tool="git.checkout", arguments={"ref": "work", "create": True}, needs=("clone",)),
        NewStep(key="write", tool="shell.exec", arguments={"argv": ["sh", "-c", hook]}, needs=("branch",)),
        NewStep(key="stage", tool="git.add", arguments={"paths": [".gitattributes"]}, needs=("write",)),
        NewStep(key="commit", tool="git.commit", arguments={"message": "Work"}, needs=("stage",)),
        NewStep(key="undo", tool="shell.exec", arguments={"argv": ["rm", "-rf", "built.o", "sub"]}, needs=("commit",)),
    )
    run_all(job)
    assert {key: Step.objects.get(job=job, key=key).error for key in states(job)} == dict.fromkeys(states(job), "")
    git = place(job).git_dir
    (git / "hooks").mkdir(exist_ok=True)
    (git / "hooks" / "post-checkout").write_text(evil)
    (git / "hooks" / "post-checkout").chmod(0o755)
    made = fork(job, "commit")
    there = place(made)
    assert (there.tree / "built.o").read_text() == "ignored\n"
    assert (there.tree / "sub").is_dir() and not (place(job).tree / "sub").exists()
    assert (there.git_dir / "HEAD").read_text() == "ref: refs/heads/work\n"
    before, after = (
        plain_git(remote.work, f"--git-dir={one.git_dir}", "rev-parse", "refs/heads/work").strip()
        for one in (there, place(job))
    )
    assert before == remote.sha("main") != after
    assert not mark.exists()
    assert run_all(made).state == JobState.SUCCEEDED
    assert not mark.exists()
