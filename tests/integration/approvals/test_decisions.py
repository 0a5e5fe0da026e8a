"""Who decides, once, and what stands in the log afterwards."""

import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.utils import timezone

from approvals import hooks, requests
from approvals.decisions import REASON_MAX, decide, may_decide
from approvals.errors import (
    AlreadyDecided,
    AlreadyVoted,
    DecisionError,
    InvalidReason,
    InvalidVerdict,
    NotEligible,
    NotFound,
    ReasonMissing,
    RequestExpired,
)
from approvals.expiry import expire_due
from approvals.models import ApprovalRequest, Notification, Vote
from audit.actor import Actor
from tests.factories import approvals, people
from tests.factories.log import bodies, events

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM = Actor.system("test")


def vote(request: ApprovalRequest, by: User, verdict: str = "approve", reason: str = "", **changes) -> ApprovalRequest:
    given = {"channel": "page", "now": timezone.now(), **changes}
    return decide(request_id=request.pk, by=by, verdict=verdict, reason=reason, **given)


def test_one_approver_approves_and_whoever_waits_is_told(told):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    assert vote(request, grace).state == "approved"
    assert told == [(str(request.pk), "approved")]
    assert events(request.pk) == [
        ("approval.requested", "ok"),
        ("approval.voted", "approve"),
        ("approval.closed", "approved"),
    ]


def test_a_denial_needs_a_reason_and_carries_it(told):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    with pytest.raises(ReasonMissing):
        vote(request, grace, "deny", "  \n ")
    assert not Vote.objects.exists()
    denied = vote(request, grace, "deny", " The tests are red. ")
    assert (denied.state, denied.answer) == ("denied", "The tests are red.")
    assert told == [(str(request.pk), "denied")]


@pytest.mark.parametrize("fields", [{}, {"is_superuser": True, "is_staff": True}])
def test_nobody_approves_their_own_request(fields, told):
    ada = people.user("ada", groups=("approvers",), **fields)
    request = approvals.request(requester=ada)
    for verdict in ("approve", "deny"):
        with pytest.raises(NotEligible):
            vote(request, ada, verdict, "mine")
    request.refresh_from_db()
    assert request.state == "pending"
    assert told == []
    assert events(request.pk, prefix="approval.refused") == [("approval.refused", "not_eligible")] * 2


def test_who_is_excluded_outside_the_group_or_inactive_does_not_decide():
    excluded, retired = approvals.approvers("excluded", "retired")
    User.objects.filter(pk=retired.pk).update(is_active=False)
    retired.refresh_from_db()
    outsider = people.user("outsider", is_superuser=True)
    request = approvals.request(excluded_ids=[excluded.pk])
    for user in (excluded, retired, outsider):
        with pytest.raises(NotEligible):
            vote(request, user)
        assert may_decide(request, user)[0] is False
    request.refresh_from_db()
    assert request.state == "pending"


def test_a_quorum_of_two_needs_two_different_people(told):
    grace, alan = approvals.approvers("grace", "alan")
    request = approvals.request(quorum=2)
    assert vote(request, grace).state == "pending"
    with pytest.raises(AlreadyVoted):
        vote(request, grace)
    assert told == []
    assert vote(request, alan).state == "approved"
    assert told == [(str(request.pk), "approved")]


def test_one_denial_ends_a_quorum():
    grace, alan = approvals.approvers("grace", "alan")
    request = approvals.request(quorum=2)
    vote(request, grace)
    assert vote(request, alan, "deny", "no").state == "denied"


def test_a_voter_who_left_the_group_does_not_count_any_more():
    grace, alan, edsger = approvals.approvers("grace", "alan", "edsger")
    request = approvals.request(quorum=2)
    vote(request, grace)
    grace.groups.clear()
    assert vote(request, alan).state == "pending"
    assert vote(request, edsger).state == "approved"


def test_of_many_at_once_one_decides(told):
    voters = approvals.approvers(*(f"person-{number}" for number in range(12)))
    request = approvals.request()
    start, outcomes = threading.Barrier(len(voters)), []

    def go(user: User, verdict: str) -> None:
        try:
            start.wait(60)
            outcomes.append(vote(request, user, verdict, "so").state)
        except DecisionError as error:
            outcomes.append(error.code)
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=go, args=(user, "approve" if place % 2 else "deny"))
        for place, user in enumerate(voters)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    request.refresh_from_db()
    assert outcomes.count("already_decided") == len(voters) - 1
    assert request.state in outcomes
    assert told == [(str(request.pk), request.state)]
    assert Vote.objects.filter(request=request).count() == 1
    assert len(events(request.pk, prefix="approval.closed")) == 1
    assert len(events(request.pk, prefix="approval.refused")) == len(voters) - 1


def test_a_person_and_the_clock_at_once_give_one_end(told):
    (grace,) = approvals.approvers("grace")
    for _ in range(5):
        told.clear()
        request = approvals.request()
        late = request.expires_at + timedelta(seconds=1)
        start = threading.Barrier(2)

        def person(request=request, start=start) -> None:
            start.wait(60)
            try:
                vote(request, grace)
            except DecisionError:
                pass
            finally:
                connections.close_all()

        thread = threading.Thread(target=person)
        thread.start()
        start.wait(60)
        expire_due(late)
        thread.join(60)
        expire_due(late)
        request.refresh_from_db()
        assert request.state in {"approved", "expired"}
        assert told == [(str(request.pk), request.state)]


def test_expired_is_not_denied_and_cannot_be_decided_any_more(told):
    (grace,) = approvals.approvers("grace")
    request = approvals.request(expires_s=60)
    late = request.expires_at + timedelta(seconds=1)
    with pytest.raises(RequestExpired):
        vote(request, grace, now=late)
    assert expire_due(request.expires_at - timedelta(seconds=1)) == 0
    assert expire_due(late) == 1
    assert expire_due(late) == 0
    request.refresh_from_db()
    assert (request.state, request.answer, request.decided_at) == ("expired", "", late)
    assert told == [(str(request.pk), "expired")]
    with pytest.raises(AlreadyDecided) as caught:
        vote(request, grace, now=late)
    assert caught.value.state == "expired"


def test_one_request_that_cannot_expire_does_not_keep_the_others(told):
    approvals.approvers("grace")
    first, second = approvals.request(expires_s=60), approvals.request(expires_s=61)

    def broken(request: ApprovalRequest) -> None:
        if request.pk == first.pk:
            raise RuntimeError("a bug above")

    hooks.on_decided(broken)
    try:
        assert expire_due(second.expires_at) == 1
    finally:
        hooks.forget(broken)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("pending", "expired")


def test_what_the_hook_raises_undoes_the_decision():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()

    def broken(_: ApprovalRequest) -> None:
        raise RuntimeError("a bug above")

    hooks.on_decided(broken)
    try:
        with pytest.raises(RuntimeError):
            vote(request, grace)
    finally:
        hooks.forget(broken)
    request.refresh_from_db()
    assert request.state == "pending"
    assert not Vote.objects.exists()
    assert events(request.pk) == [("approval.requested", "ok")]
    assert vote(request, grace).state == "approved"


def test_a_decision_is_never_part_of_a_larger_transaction():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    with pytest.raises(RuntimeError), transaction.atomic():
        vote(request, grace)


def test_bad_verdicts_and_reasons_are_refused():
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    with pytest.raises(InvalidVerdict):
        vote(request, grace, "maybe")
    with pytest.raises(InvalidVerdict):
        vote(request, grace, "answer", "yes")
    for reason in ("x" * (REASON_MAX + 1), "a\x00b", "\ud800"):
        with pytest.raises(InvalidReason):
            vote(request, grace, "deny", reason)
    for nothing in ("not-an-id", "0190a7a4-7a0b-7c3e-8a55-0123456789ab"):
        with pytest.raises(NotFound):
            decide(request_id=nothing, by=grace, verdict="approve", reason="", channel="api", now=timezone.now())


def test_a_question_is_answered_by_whose_job_it_is(told):
    ada, stranger = people.user("ada"), people.user("stranger")
    question = approvals.question(requester=ada)
    with pytest.raises(NotEligible):
        vote(question, stranger, "answer", "main")
    with pytest.raises(InvalidVerdict):
        vote(question, ada, "approve")
    with pytest.raises(ReasonMissing):
        vote(question, ada, "answer", "")
    answered = vote(question, ada, "answer", "main")
    assert (answered.state, answered.answer) == ("approved", "main")
    assert told == [(str(question.pk), "approved")]


def test_a_question_to_a_group_is_answered_by_its_members_too():
    (grace,) = approvals.approvers("grace", group="sre")
    assert vote(approvals.question(group="sre"), grace, "answer", "yes").answer == "yes"


def test_cancelling_ends_what_is_pending_and_tells_nobody(told):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    with transaction.atomic():
        assert requests.cancel(subject_id=request.subject_id, now=timezone.now(), actor=SYSTEM) == 1
        assert requests.cancel(subject_id=request.subject_id, now=timezone.now(), actor=SYSTEM) == 0
    with pytest.raises(AlreadyDecided):
        vote(request, grace)
    assert told == []
    assert not Notification.objects.filter(request=request, state="queued").exists()


def test_an_approval_can_become_void_and_nothing_else_can(told):
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    now = timezone.now()
    with transaction.atomic():
        assert requests.void(request.pk, why="not approved yet", now=now, actor=SYSTEM) is False
    vote(request, grace)
    with transaction.atomic():
        assert requests.void(request.pk, why="The branch has moved.", now=now, actor=SYSTEM) is True
        assert requests.void(request.pk, why="twice", now=now, actor=SYSTEM) is False
        assert requests.void(None, why="nothing", now=now, actor=SYSTEM) is False
    request.refresh_from_db()
    assert (request.state, request.answer) == ("void", "The branch has moved.")
    assert told == [(str(request.pk), "approved")]


def test_what_an_agent_wrote_is_stored_whatever_it_holds():
    approvals.approvers("grace")
    request = approvals.request(title="x" * 1000 + "\x00", command="a\x00b\ud800", preview="\x00")
    request.refresh_from_db()
    assert len(request.title) == 300
    assert "\x00" not in request.command + request.preview


def test_the_log_holds_ids_and_commitments_and_no_names():
    (grace,) = approvals.approvers("grace")
    request = approvals.request(command="git push secret-branch")
    vote(request, grace, "deny", "because of bob@example.invalid")
    for event in ("approval.requested", "approval.voted", "approval.closed"):
        (body,) = bodies(request.pk, event)
        for personal in ("grace", "secret-branch", "bob@example.invalid"):
            assert personal not in str(body)
    assert bodies(request.pk, "approval.voted")[0]["actor"] == {
        "type": "user",
        "id": str(grace.pk),
        "on_behalf_of": None,
    }
