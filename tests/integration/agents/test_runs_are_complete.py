"""What the engine really writes is complete: every way that a step can go, in a log of its own."""

from typing import Any

import pytest
from django.utils import timezone

from agents.engine.cancel import cancel_job
from agents.engine.intake import NewStep
from agents.models import Attempt, Job, Step
from approvals.decisions import decide
from approvals.models import ApprovalRequest
from audit.actor import Actor
from audit.checking.completeness import check_completeness
from audit.checking.findings import Report
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.driving import run_all, states, submit
from tests.integration.audit.conftest import Log, log, places, query, tamper  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("test_tools")]


def step(key: str, *needs: str, tool: str = "test.note", **more: Any) -> NewStep:
    arguments = more.pop("arguments", {"text": key})
    return NewStep(key=key, tool=tool, arguments=arguments, needs=needs, **more)


def answer(job: Job, verdict: str) -> None:
    request = ApprovalRequest.objects.get(parent_id=str(job.pk), state="pending")
    grace = user("grace", groups=("approvers",))
    decide(request_id=request.pk, by=grace, verdict=verdict, reason="so", channel="page", now=timezone.now())


def run_everything() -> None:
    """Allowed, refused, approved, denied, failed, undone, fanned out, skipped and cancelled steps."""
    publish(
        ("test.read", "deny"), ("test.once", "ask"), ("human.ask", "allow"), ("job.*", "allow"), ("test.*", "allow")
    )
    assert run_all(submit(step("a"), step("b", "a"), step("c", "b"))).state == "succeeded"
    refused = run_all(submit(step("no", tool="test.read"), step("after", "no")))
    assert states(refused)["no"] == "refused"
    for verdict in ("approve", "deny"):
        job = run_all(submit(step("ask", tool="test.once")))
        answer(job, verdict)
        run_all(job)
        assert states(job)["ask"] == {"approve": "succeeded", "deny": "refused"}[verdict]
    undone = run_all(
        submit(
            step("do", compensation={"tool": "test.note", "arguments": {"text": "undo"}}),
            step("fail", "do", arguments={"text": "x", "fail": "not_ok"}),
        )
    )
    assert undone.state in {"compensated", "failed"}
    waiting = run_all(submit(step("ask", tool="test.once"), step("after", "ask")))
    cancel_job(waiting.pk, by=Actor.user(user("ada").pk), now=timezone.now())
    run_all(waiting)


def complete(log: Log) -> tuple[Report, Any]:  # noqa: F811
    log.settle()
    report = log.report()
    assert report.findings == []
    return report, check_completeness(report)


def test_nothing_ran_without_leave_and_all_that_had_leave_came_to_an_end(log: Log):  # noqa: F811
    run_everything()
    report, counted = complete(log)
    assert report.findings == []
    assert counted.dispatched == Attempt.objects.count() > 5
    assert counted.by_people == 1
    assert (counted.under_way, counted.unknown) == (0, 0)


def test_a_dispatch_whose_leave_is_taken_out_of_the_log_is_named(log: Log, tamper):  # noqa: F811
    """Somebody with the database's and the log's keys who leaves a decision out still does not get past this."""
    publish(("test.*", "allow"))
    job = run_all(submit(step("a")))
    log.settle()
    [one] = Step.objects.filter(job=job)
    [(decided,)] = query("SELECT id FROM audit_event WHERE event = 'step.decided' AND target_id = %s", str(one.pk))
    tamper(("DELETE FROM audit_event WHERE id = %s", [decided]))
    report = log.report()
    check_completeness(report)
    assert "unauthorized" in {finding.code for finding in report.findings}
