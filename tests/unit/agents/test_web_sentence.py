"""A job's state in one sentence."""

from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import Group

from agents.models import Job, Step
from agents.web.sentence import sentence
from approvals.models import ApprovalRequest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def job(state: str = "running", **fields: object) -> Job:
    return Job(**{"state": state, "created_at": ago(300), "started_at": ago(299), **fields})


def step(state: str, **fields: object) -> Step:
    return Step(**{"key": "a", "tool": "git.push", "queue": "git", "state": state, "ready_at": ago(61), **fields})


def asked(one: Step, **fields: object) -> dict[str, list[ApprovalRequest]]:
    given = {"state": "pending", "title": "push it", "created_at": ago(181), "approvers": Group(name="SRE"), **fields}
    return {str(one.pk): [ApprovalRequest(**given)]}


def test_it_says_for_whom_the_job_waits_and_links_where_the_reader_may_go():
    one = step("waiting_approval")
    requests = asked(one)
    said = sentence(job("waiting"), [one], requests, NOW)
    assert (said.text, said.tone, said.href) == ("Waits 3 min for SRE: push it", "waiting", "")
    pk = requests[str(one.pk)][0].pk
    assert sentence(job("waiting"), [one], requests, NOW, openable={pk}).href == f"/approvals/{pk}/"


def test_hidden_characters_in_a_title_are_shown():
    one = step("waiting_approval")
    assert "push⟦U+202E⟧" in sentence(job("waiting"), [one], asked(one, title="push\u202e"), NOW).text


def test_it_says_what_runs_where():
    one = step("running", started_at=ago(130), claimed_by="git@host", attempt=2)
    assert sentence(job(), [one], {}, NOW).text == "Runs git.push on worker git@host for 2 min, attempt 2."
    think = step("running", tool="llm.think", started_at=ago(5))
    assert sentence(job(), [think], {}, NOW).text == "The model thinks for 5 s."
    both = [one, step("waiting_approval"), step("running")]
    assert "and 1 more step" in sentence(job(), both, {}, NOW).text
    assert sentence(job(), both, {}, NOW).text.endswith("; 1 step waits for people.")


def test_it_says_why_nothing_runs():
    assert (
        sentence(job("queued"), [step("queued")], {}, NOW).text
        == "Waits for 1 min for a worker on queue git: git.push."
    )
    later = step("queued", not_before=NOW + timedelta(seconds=40), error="Rate limited.\nDetails")
    assert sentence(job(), [later], {}, NOW).text == "Tries git.push again in 40 s: Rate limited."
    assert sentence(job("queued"), [], {}, NOW).text == "Waits for its first step."
    delayed = job("queued", starts_at=NOW + timedelta(days=1))
    assert sentence(delayed, [step("pending")], {}, NOW).text == "Begins on 2026-03-02 at 12:00:00 UTC."
    assert sentence(job(), [step("ready")], {}, NOW).text.startswith("Prepares the preview")
    assert "may have happened or not" in sentence(job(), [step("in_doubt")], {}, NOW).text


def test_it_says_how_the_job_ended():
    ended = job("failed", finished_at=ago(99))
    assert sentence(ended, [step("succeeded"), step("failed")], {}, NOW).text == (
        "Failed after 3 min 20 s; 1 step succeeded of 2."
    )
    stopping = job(cancel_requested=True)
    assert sentence(stopping, [step("running")], {}, NOW).text == "Is being cancelled: 1 step still to stop."
