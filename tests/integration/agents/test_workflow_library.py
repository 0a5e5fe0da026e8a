"""The workflows that come with the server, on the sample repository: real engine, tools, sandbox and git; only Celery is
played."""

import subprocess

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from agents.demo import repository
from agents.models import Job, Repository, Workflow
from agents.prompts.shipped import ensure_prompts
from agents.states import JobState
from agents.submit import submit
from agents.workflows import shipped, versions
from approvals.decisions import decide
from approvals.defaults import ensure_policies
from approvals.models import ApprovalRequest
from tests.factories import scripted_server
from tests.factories.people import user
from tests.integration.agents.driving import run_all, states, step_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


@pytest.fixture
def remote(settings, endpoint, tmp_path):
    settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = endpoint.base_url, "", "scripted-demo"
    settings.ALLOW_LOCAL_REPOSITORIES = True
    user("grace", groups=("approvers",))
    ensure_policies(Group.objects.get(name="approvers"))
    ensure_prompts(now=timezone.now())
    shipped.ensure_workflows(now=timezone.now())
    remote = repository.create(tmp_path)
    Repository.objects.create(name="sample", url=str(remote), owner=user("ada"))
    return remote


def start(workflow: str, **inputs: object) -> Job:
    payload = {"workflow": workflow, "repository": "sample", "inputs": inputs}
    job, _ = submit(payload, user=user("ada"), now=timezone.now())
    return run_all(job)


def approve(job: Job, verdict: str = "approve") -> str:
    """Decides the one request that the job waits with; the command that was asked about."""
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    decide(
        request_id=request.pk, by=user("grace"), verdict=verdict, reason="Not now.", channel="page", now=timezone.now()
    )
    run_all(job)
    return request.command


def git(remote, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(remote), *words], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_validate_runs_every_check_though_one_fails(remote):
    job = start("validate", format=["python3", "-m", "tabnanny", "billing"])
    assert job.state == JobState.FAILED
    assert states(job) == {
        "prepare": "succeeded",
        "checkout": "skipped",
        "format": "succeeded",
        "lint": "succeeded",
        "tests": "failed",
    }
    assert "FAILED" in step_of(job, "tests").result["text"]
    assert job.outputs == {"format": "passed", "lint": "passed", "tests": "failed"}
    good = start("validate", tests=["python3", "-m", "compileall", "-q", "tests"])
    assert good.state == JobState.SUCCEEDED, good.outcome
    assert good.outputs == {"format": "left out", "lint": "passed", "tests": "passed"}


def test_ship_writes_commits_tags_and_pushes_what_people_approve(remote):
    files = [{"path": "notes/a.md", "content": "A\n"}, {"path": "notes/b.md", "content": "B\n"}]
    job = start("ship", branch="docs/notes", message="Add notes", files=files, tag="notes-1")
    assert job.concurrency_key == "ship/docs/notes"
    assert approve(job) == "git push origin docs/notes"
    assert git(remote, "tag", "--list") == ""
    assert approve(job) == "git push origin refs/tags/notes-1"
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, job.outcome
    assert git(remote, "show", "docs/notes:notes/b.md") == "B"
    assert git(remote, "rev-parse", "notes-1^{commit}") == git(remote, "rev-parse", "docs/notes")
    assert job.outputs == {
        "branch": "docs/notes",
        "commit": git(remote, "rev-parse", "docs/notes"),
        "tag": "notes-1",
        "pushed": "new branch",
    }


def test_a_refused_push_leaves_nothing_behind_and_goes_back(remote):
    job = start("ship", branch="never", message="No", files=[{"path": "x", "content": "x"}])
    approve(job, "deny")
    job.refresh_from_db()
    assert job.state == JobState.COMPENSATED, job.outcome
    assert step_of(job, "branch").state == "compensated"
    assert git(remote, "branch", "--list", "never") == ""


def change(remote, branch: str, text: str, tmp_path, start: str = "main") -> None:
    """A commit on a branch of the remote, as a colleague makes it."""
    tree = tmp_path / f"clone-{branch.replace('/', '-')}-{len(text)}"
    git(remote, "worktree", "add", "-q", "-B", branch, str(tree), start)
    (tree / "README.md").write_text(text)
    git(tree, "-c", "user.name=M", "-c", "user.email=m@example.invalid", "commit", "-qam", "Change the README")
    git(remote, "worktree", "remove", "--force", str(tree))


def test_sync_rebases_and_pushes_beside_the_branch(remote, tmp_path):
    change(remote, "topic", "ours\n", tmp_path)
    topic, main = git(remote, "rev-parse", "topic"), git(remote, "rev-parse", "main")
    tree = tmp_path / "tree"
    git(remote, "worktree", "add", "-q", "-B", "release", str(tree), "main")
    (tree / "NEWS").write_text("news\n")
    git(tree, "add", "NEWS")
    git(tree, "-c", "user.name=M", "-c", "user.email=m@example.invalid", "commit", "-qm", "News")
    job = start("sync", branch="topic", onto="release", push=True)
    assert approve(job) == "git rebase origin/release"
    assert approve(job) == "git push origin topic:topic-rebased"
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, (job.outcome, states(job))
    assert git(remote, "rev-parse", "topic-rebased~1") == git(remote, "rev-parse", "release")
    assert (git(remote, "rev-parse", "topic"), git(remote, "rev-parse", "main")) == (topic, main)
    assert job.outputs == {"commit": git(remote, "rev-parse", "topic-rebased"), "by_person": False}


@pytest.mark.parametrize("how", ["rebase", "merge"])
def test_sync_hands_a_conflict_to_a_person(remote, tmp_path, how: str):
    change(remote, "topic", "ours\n", tmp_path)
    change(remote, "release", "theirs, and longer\n", tmp_path)
    job = start("sync", branch="topic", onto="release", how=how)
    assert approve(job) == f"git {how} origin/release"  # it ends in a conflict
    job.refresh_from_db()
    assert job.state == JobState.WAITING, (job.outcome, states(job))
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    assert "are in conflict" in request.command
    git(remote, "branch", "-f", "topic", "release")  # the person resolves it by taking theirs
    decide(request_id=request.pk, by=user("ada"), verdict="answer", reason="done", channel="page", now=timezone.now())
    run_all(job)
    approve(job)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, (job.outcome, states(job))
    assert job.outputs == {"commit": git(remote, "rev-parse", "release"), "by_person": True}


def test_sync_asks_nobody_about_what_is_no_conflict(remote, tmp_path):
    change(remote, "topic", "ours\n", tmp_path)
    job = start("sync", branch="topic", onto="nowhere")
    while ApprovalRequest.objects.filter(parent_id=str(job.pk), state="pending").exists():
        approve(job)
    job.refresh_from_db()
    assert (job.state, step_of(job, "rebase").tool) == (JobState.FAILED, "git.rebase"), states(job)


def test_review_gives_findings_with_file_and_line(remote, tmp_path):
    change(remote, "topic", "# billing\n\nTODO: write this\n", tmp_path)
    job = start("review", branch="topic")
    assert job.state == JobState.SUCCEEDED, job.outcome
    assert job.outputs["verdict"] == "comment"
    assert job.tokens_used > 0
    assert [(one["file"], one["line"]) for one in job.outputs["findings"]] == [("README.md", 3)]


def test_shipped_workflows_are_published_once_and_people_s_own_are_left_alone(monkeypatch):
    now = timezone.now()
    first = shipped.ensure_workflows(now=now)
    assert {"review@1", "ship@1", "sync@1", "validate@1"} <= {str(one) for one in first}
    assert shipped.ensure_workflows(now=now) == []
    changed = {name: f"# newer\n{text}" for name, text in shipped.sources().items()}
    monkeypatch.setattr(shipped, "sources", lambda: changed)
    root = user("root", is_superuser=True)
    mine = versions.save_draft(changed["ship"] + "# mine\n", by=root, now=now)
    versions.publish(mine.pk, by=root, now=now)
    again = {str(one) for one in shipped.ensure_workflows(now=now)}
    assert again == {f"{name}@2" for name in changed} - {"ship@2"}
    assert versions.current("ship") == versions.version_of(Workflow.objects.get(name="ship"), 2)
