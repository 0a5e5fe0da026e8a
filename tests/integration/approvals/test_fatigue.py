"""Against deciding by habit: like requests become one message, messages are bounded, a job that is denied is paused, and
each rule has figures."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.engine.control.pause import resume_job
from agents.models import Job
from approvals import fatigue, notify
from approvals.decisions import decide
from approvals.expiry import expire_due
from approvals.models import ApprovalRequest, MailboxMessage, Notification
from audit.actor import Actor
from audit.models import Record
from tests.factories import approvals, people, tools
from tests.factories.policies import publish
from tests.integration.agents.test_engine import run_queued, states, step, submit
from tools.spec import Risk, RiskScore

pytestmark = pytest.mark.django_db

LOW = RiskScore(level=Risk.LOW, reasons=())


@pytest.fixture(autouse=True)
def mailbox(settings) -> None:
    settings.EMAIL_BACKEND = "approvals.channels.mailbox.MailboxBackend"


@pytest.fixture
def test_tools() -> Iterator[None]:
    with tools.registered():
        yield


def row(request: ApprovalRequest, channel: str = "email") -> Notification:
    return Notification.objects.get(request=request, channel=channel, kind="request")


def deny(request: ApprovalRequest, by) -> None:
    decide(request_id=request.pk, by=by, verdict="deny", reason="No.", channel="page", now=timezone.now())


def test_the_first_request_comes_at_once_and_what_is_like_it_in_one_mail():
    approvals.approvers("grace")
    now = timezone.now()
    asked = [
        approvals.request(risk=LOW, parent_id="job", title=f"change {n}", command=f"set {n}", now=now) for n in range(4)
    ]
    assert notify.deliver(row(asked[0]).pk, now=now)
    assert not notify.deliver(row(asked[1]).pk, now=now)
    due = now + timedelta(seconds=notify.COALESCE_S)
    assert {row(one).not_before for one in asked[1:]} == {due}
    decide(
        request_id=asked[3].pk, by=people.user("grace"), verdict="approve", reason="", channel="page", now=now
    )  # one that was decided meanwhile is not told any more
    assert notify.deliver(row(asked[1]).pk, now=due)
    first, several = MailboxMessage.objects.order_by("sent_at")
    assert "change 0" in first.text
    assert several.subject.startswith("Approve? 2 alike")
    for body in (several.text, several.html):
        assert "change 1" in body and "change 2" in body and "change 0" not in body and "change 3" not in body
        assert len(set(re.findall(r"/a/([\w-]{43})/", body))) == 2
    assert row(asked[2]).state == "sent" and row(asked[2]).part_of_id == row(asked[1]).pk
    assert not notify.deliver(row(asked[2]).pk, now=due)


@pytest.mark.parametrize(
    "other",
    [{"parent_id": "another"}, {"risk": RiskScore(level=Risk.HIGH, reasons=())}, {"group": "sre"}],
    ids=["job", "risk", "group"],
)
def test_what_is_not_alike_comes_at_once(other):
    approvals.approvers("grace")
    approvals.approvers("grace", group="sre")
    now = timezone.now()
    approvals.request(risk=LOW, parent_id="job", now=now)
    given: dict[str, Any] = {"risk": LOW, "parent_id": "job", "now": now, **other}
    request = approvals.request(**given)
    assert row(request).not_before == now


def test_a_person_gets_so_many_messages_and_the_inbox_has_the_rest(monkeypatch):
    monkeypatch.setattr(notify, "PERSON_MAX", 3)
    approvals.approvers("grace", "alan")
    asked = [approvals.request() for _ in range(3)]
    Notification.objects.filter(request=asked[0], recipient__username="alan").delete()
    last = approvals.request()
    told = Notification.objects.filter(request=last)
    assert dict(told.values_list("recipient__username", "state")) == {"grace": "dropped", "alan": "queued"}
    assert "inbox" in told.get(recipient__username="grace").error


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_denied_three_times_is_paused_and_says_why(test_tools):
    (grace,) = approvals.approvers("grace")
    publish(("test.*", "ask"))
    job = submit(*(step(key, text=key) for key in "abcdefgh"))
    run_queued(job)
    asked = list(ApprovalRequest.objects.filter(parent_id=str(job.pk)).order_by("created_at", "pk"))
    assert len(asked) == 8
    for request in asked[:2]:
        deny(request, grace)
    job.refresh_from_db()
    assert job.state != "paused" and job.paused_because == ""
    deny(asked[2], grace)
    job.refresh_from_db()
    assert job.state == "paused" and "People denied 3 of its calls" in job.paused_because
    paused = Record.objects.get(event="job.paused", target_id=str(job.pk))
    assert (paused.actor_type, paused.actor_id) == ("system", "fatigue")
    client = Client()
    client.force_login(job.owner)
    assert "People denied 3 of its calls" in client.get(job.get_absolute_url()).content.decode()
    # what is approved while it is paused begins when it goes on, and three more denials pause it again
    decide(request_id=asked[3].pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())
    run_queued(job)
    assert states(job)["d"] == "pending"
    resume_job(job.pk, by=Actor.user(job.owner_id), now=timezone.now())
    run_queued(job)
    assert states(job)["d"] == "succeeded"
    for request in asked[4:6]:
        deny(request, grace)
    assert Job.objects.get(pk=job.pk).state != "paused"
    deny(asked[6], grace)
    assert Job.objects.get(pk=job.pk).state == "paused"


@pytest.mark.django_db(transaction=True)
def test_zero_never_pauses(settings, test_tools):
    settings.APPROVAL_DENIALS_PAUSE = 0
    (grace,) = approvals.approvers("grace")
    publish(("test.*", "ask"))
    job = submit(*(step(key, text=key) for key in "abcd"))
    run_queued(job)
    for request in ApprovalRequest.objects.filter(parent_id=str(job.pk))[:3]:
        deny(request, grace)
    assert Job.objects.get(pk=job.pk).state != "paused"


def test_each_rule_has_figures_and_they_are_for_those_who_view_rules():
    grace, alan = approvals.approvers("grace", "alan")
    began = timezone.now() - timedelta(hours=2)
    for seconds, verdict in ((10, "approve"), (20, "approve"), (100, "deny")):
        request = approvals.request(now=began, expires_s=7200)
        by = grace if verdict == "approve" else alan
        at = began + timedelta(seconds=seconds)
        decide(request_id=request.pk, by=by, verdict=verdict, reason="x", channel="page", now=at)
    approvals.request(now=began, expires_s=60)
    expire_due(began + timedelta(seconds=61))
    approvals.request()
    (found,) = fatigue.figures(now=timezone.now())
    assert (found.rule, found.asked, found.pending) == ("git-push", 5, 1)
    assert (found.approved, found.denied, found.expired) == (2, 1, 1)
    assert (found.approve_rate, found.deny_rate, found.expired_rate) == (0.5, 0.25, 0.25)
    assert (found.decide_median_s, found.decide_p90_s) == (20.0, 84.0)
    assert found.deciders == [("grace", 2), ("alan", 1)]
    assert fatigue.figures(now=began - timedelta(minutes=1)) == []
    client = Client()
    client.force_login(grace)
    assert client.get("/api/v1/approvals/figures").status_code == 403
    client.force_login(people.user("root", is_superuser=True, is_staff=True))
    answer = client.get("/api/v1/approvals/figures?days=7")
    assert answer.status_code == 200
    (rule,) = answer.json()["rules"]
    assert rule["deciders"][0] == {"user": "grace", "votes": 2} and rule["decide_p90_s"] == 84.0
    for query in ("days=0", "days=367", "days=x", "day=3", "days=%D9%A3"):
        assert client.get(f"/api/v1/approvals/figures?{query}").status_code == 400
