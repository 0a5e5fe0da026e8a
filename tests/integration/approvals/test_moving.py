"""What else moves a request: the clock's reminders and escalation, batches, REST and the command line."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from approvals import batch, deputies, glass, granting, matchers, requests, selectors
from approvals.decisions import decide
from approvals.errors import InvalidDelegation, NotAlike, NotEligible
from approvals.expiry import expire_due
from approvals.models import ApprovalRequest, Delegation, Notification
from approvals.reminders import remind_due
from audit.actor import Actor
from tests.factories import approvals, people
from tests.factories.log import events
from tests.integration.approvals.test_matrix import opened
from tools.spec import Risk, RiskScore

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def approve(request: ApprovalRequest, by: User, **changes: Any) -> ApprovalRequest:
    given = {"verdict": "approve", "reason": "", "channel": "page", "now": timezone.now(), **changes}
    return decide(request_id=request.pk, by=by, **given)


def client(user: User) -> APIClient:
    made = APIClient()
    made.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return made


def run(*arguments: str) -> Any:
    out = io.StringIO()
    call_command("approval", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


# ---- the clock


def test_reminders_come_at_a_quarter_and_three_quarters_then_the_next_group_may_decide_too():
    (grace,) = approvals.approvers("grace")
    boss = people.user("boss", groups=("bosses",))
    bosses = Group.objects.get(name="bosses")
    start = timezone.now()
    request = approvals.request(expires_s=1000, now=start)
    ApprovalRequest.objects.filter(pk=request.pk).update(escalate_to=bosses)

    def kinds() -> list[str]:
        return sorted(Notification.objects.filter(request=request).values_list("kind", flat=True))

    def at(seconds: int) -> int:
        return remind_due(start + timedelta(seconds=seconds))

    before = kinds()
    assert (at(249), kinds()) == (0, before)
    assert (at(250), at(251)) == (1, 0)
    assert "reminder" in kinds()
    with pytest.raises(NotEligible):
        approve(request, boss)
    assert request not in selectors.inbox(boss)
    assert (at(750), at(751)) == (1, 0)
    assert "escalation" in kinds()
    request.refresh_from_db()
    assert (request.reminders, request.remind_at, request.escalated_at) == (2, None, start + timedelta(seconds=750))
    assert request in selectors.inbox(boss)
    assert events(request.pk, prefix="approval.escalated") == [("approval.escalated", "ok")]
    assert len(events(request.pk, prefix="approval.reminded")) == 2
    assert approve(request, boss).state == "approved"
    assert grace.is_active


def test_a_reminder_that_was_missed_does_not_come_twice():
    approvals.approvers("grace")
    start = timezone.now()
    request = approvals.request(expires_s=1000, now=start)
    assert remind_due(start + timedelta(seconds=800)) == 1
    assert remind_due(start + timedelta(seconds=801)) == 0
    request.refresh_from_db()
    assert (request.reminders, request.remind_at) == (1, None)
    assert remind_due(start + timedelta(seconds=1001)) == 0
    assert expire_due(start + timedelta(seconds=1001)) == 1


# ---- batches


def test_like_requests_of_low_risk_are_decided_together_and_no_others():
    (grace,) = approvals.approvers("grace")
    first = opened()
    version = {"policy_version_id": str(first.policy_version_id), "rule": "push", "approvers_id": first.approvers_id}
    from_rule = requests.Decision(effect="ask", policy="m", **version)
    low, high = RiskScore(level=Risk.LOW), RiskScore(level=Risk.HIGH)
    second = approvals.request(decision=from_rule, risk=low)
    own = approvals.request(decision=from_rule, risk=low, requester=grace)
    other_target = approvals.request(decision=from_rule, risk=low, context={"repository": "other"})
    dangerous = approvals.request(decision=from_rule, risk=high)
    now = timezone.now()
    assert batch.alike(first, grace, now) == [first, second]
    assert batch.alike(dangerous, grace, now) == []
    given = {"by": grace, "verdict": "approve", "reason": "", "now": now}
    for strange in (dangerous, other_target):
        with pytest.raises(NotAlike):
            batch.decide_all(request_ids=[first.pk, strange.pk], **given)
    results = batch.decide_all(request_ids=[first.pk, own.pk, second.pk], **given)
    assert [(one.state, error.code if error else "") for one, error in results] == [
        ("approved", ""),
        ("pending", "not_eligible"),
        ("approved", ""),
    ]
    assert list(first.votes.values_list("channel", flat=True)) == ["batch"]


def test_a_batch_by_rest_says_of_each_what_became_of_it():
    (grace,) = approvals.approvers("grace")
    request = opened()
    api = client(grace)
    assert [one["id"] for one in api.get(f"/api/v1/approvals/{request.pk}/alike").json()] == [str(request.pk)]
    body = {"requests": [str(request.pk)], "verdict": "deny", "reason": "Not today."}
    answer = api.post("/api/v1/approvals/batch", body, format="json")
    assert answer.json() == [{"id": str(request.pk), "state": "denied", "code": None, "detail": None}]
    answer = api.post("/api/v1/approvals/batch", {**body, "requests": [str(approvals.request().pk)]}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_alike")


# ---- REST


def test_a_grant_is_proposed_tried_given_and_revoked_by_rest():
    (grace,) = approvals.approvers("grace")
    opened()
    request = opened()
    api, path = client(grace), f"/api/v1/approvals/{request.pk}/grant"
    proposal = api.get(path).json()
    assert proposal["matcher"] == {"remote": "origin", "branch": "main"}
    assert proposal["words"] == (
        'git.push in this job, on repository shop, where branch is "main" and remote is "origin"'
    )
    assert (proposal["minutes"], proposal["tried"]["asked"], proposal["tried"]["fit"]) == (60, 2, 2)
    given = {"minutes": 30, "uses": 3, "matcher": {"remote": "origin", "branch": "main"}}
    for wrong in ({"minutes": "30"}, {"uses": 0}, {"matcher": {"remote": "*"}}, {"more": 1}):
        assert api.post(path, {**given, **wrong}, format="json").status_code == 400
    answer = api.post(path, given, format="json")
    assert (answer.status_code, answer.json()["uses_max"]) == (201, 3)
    assert [one["id"] for one in api.get("/api/v1/grants").json()] == [answer.json()["id"]]
    revoke = f"/api/v1/grants/{answer.json()['id']}/revoke"
    assert client(people.user("stranger")).post(revoke).status_code == 404
    assert api.post(revoke).json()["revoked_at"]
    assert api.get("/api/v1/grants").json() == []


def test_a_vote_is_taken_back_asked_about_and_a_glass_is_broken_by_rest():
    grace, _ = approvals.approvers("grace", "alan")
    root, second = (people.user(name, is_superuser=True) for name in ("root", "second"))
    ada = people.user("ada")
    request = opened()
    ApprovalRequest.objects.filter(pk=request.pk).update(quorum=2)
    api, path = client(grace), f"/api/v1/approvals/{request.pk}"
    assert api.post(f"{path}/approve").json()["standing"]["roles"] == [
        {"group": "approvers", "needed": 2, "who": ["grace"]}
    ]
    answer = api.post(f"{path}/take-back").json()
    assert (answer["standing"]["roles"][0]["who"], bool(answer["votes"][0]["withdrawn_at"])) == ([], True)
    assert api.post(f"{path}/take-back").json()["code"] == "nothing_to_take_back"
    asked = api.post(f"{path}/ask", {"text": "Why?"}, format="json").json()
    answer_path = f"{path}/comments/{asked['id']}/answer"
    assert api.post(answer_path, {"answer": "So."}, format="json").json()["code"] == "not_eligible"
    assert client(ada).post(answer_path, {"answer": "So."}, format="json").json()["answer"] == "So."
    broken = f"{path}/break-glass"
    reason = {"reason": "Production is down and nobody is awake."}
    assert api.post(broken, reason, format="json").json()["code"] == "not_eligible"
    assert client(root).post(broken, {"reason": "now"}, format="json").json()["code"] == "reason_missing"
    assert client(root).post(broken, reason, format="json").json()["break_glass"] is True
    (waiting,) = client(second).get("/api/v1/glass-reviews").json()
    review, said = f"/api/v1/glass-reviews/{waiting['id']}", {"verdict": "unjustified", "words": "It could wait."}
    assert client(root).post(review, said, format="json").json()["code"] == "not_eligible"
    assert client(second).post(review, said, format="json").json()["reviewer"] == "second"
    assert client(second).post(review, said, format="json").json()["code"] == "already_reviewed"


def test_a_deputy_is_named_and_ended_by_rest_and_finds_the_request():
    (grace,) = approvals.approvers("grace")
    alan = people.user("alan")
    request = opened()
    now = timezone.now()
    given = {"deputy": "alan", "starts_at": (now - DAY).isoformat(), "ends_at": (now + DAY).isoformat()}
    for wrong in ({"deputy": "nobody"}, {"ends_at": given["starts_at"]}, {"groups": ["no-such"]}):
        answer = client(grace).post("/api/v1/delegations", {**given, **wrong}, format="json")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, next(iter(wrong)))
    assert request not in selectors.inbox(alan)
    made = client(grace).post("/api/v1/delegations", given, format="json").json()
    assert request in selectors.inbox(alan)
    assert client(alan).get(f"/api/v1/approvals/{request.pk}").json()["may_decide"] is True
    assert client(people.user("edsger")).post(f"/api/v1/delegations/{made['id']}/revoke").status_code == 403
    assert client(grace).post(f"/api/v1/delegations/{made['id']}/revoke").json()["revoked_at"]
    assert request not in selectors.inbox(alan)
    assert client(alan).get(f"/api/v1/approvals/{request.pk}").status_code == 404


def test_nobody_names_a_deputy_for_another_nor_for_long():
    grace, alan = approvals.approvers("grace", "alan")
    now = timezone.now()
    given = {"person": grace, "deputy": alan, "starts_at": now, "ends_at": now + DAY, "now": now}
    with pytest.raises(NotEligible):
        deputies.delegate(**{**given, "by": alan})
    root = people.user("root", is_superuser=True)
    with pytest.raises(NotEligible):
        deputies.delegate(**{**given, "deputy": root, "by": root})
    for wrong in ({"deputy": grace}, {"ends_at": now + 93 * DAY}, {"ends_at": now}):
        with pytest.raises(InvalidDelegation):
            deputies.delegate(**{**given, **wrong})
    assert not Delegation.objects.exists()
    assert deputies.delegate(**{**given, "by": root}).deputy == alan


# ---- the command line


def test_the_command_line_does_what_the_pages_do():
    approvals.approvers("grace", "alan")
    root = people.user("root", is_superuser=True)
    request = opened()
    identity = str(request.pk)
    ApprovalRequest.objects.filter(pk=request.pk).update(quorum=2)
    assert run("show", identity, "--as", "grace")["standing"] == "0 of 2 from approvers"
    call_command("approve", identity, "--as", "grace", stdout=io.StringIO())
    assert run("show", identity, "--as", "grace")["why_not"] == "You have voted on this request."
    assert run("take-back", identity, "--as", "grace")["state"] == "pending"
    assert run("ask", identity, "--as", "grace", "--text", "Why?")["state"] == "open"
    with pytest.raises(CommandError, match=r"^ends_at: At most 92 days"):
        run("delegate", "--as", "grace", "--to", "root", "--days", "200")
    with pytest.raises(CommandError, match="more than one person"):
        run("grant", identity, "--as", "grace")
    assert run("delegate", "--as", "grace", "--to", "root", "--days", "2")["deputy"] == "root"
    assert (
        run("break-glass", identity, "--as", "root", "--reason", "Production is down at night.")["state"] == "approved"
    )
    with pytest.raises(CommandError, match="did themselves"):
        run("review", identity, "--as", root.username, "--verdict", "justified", "--words", "It was.")
    other = opened()
    assert run("grant", str(other.pk), "--as", "grace")["matcher"] == {"branch": "main", "remote": "origin"}
    given = run("grant", str(other.pk), "--as", "grace", "--minutes", "5")
    assert run("revoke", given["grant"], "--as", "grace")["uses"] == 0
    third = opened()
    assert run("batch", str(third.pk), "--as", "alan", "--verdict", "approve") == {str(third.pk): "approved"}


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("main", "main", True),
        ("main", "main2", False),
        ("fix/*", "fix/a-b.c_1", True),
        ("fix/*", "fix/", True),
        ("fix/*", "fix/a b", False),
        ("fix/*", "fix/a;rm", False),
        ("fix/*", "fix/$(x)", False),
        ("fix/*", "fix/../../etc", False),
        ("fix/*", "fix/a\nb", False),
        ("fix/*", "fix/\u202ea", False),
        ("a.c", "abc", False),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        ("*", "", True),
    ],
)
def test_a_pattern_covers_words_and_nothing_that_ends_them(pattern: str, text: str, fits: bool):
    assert matchers.fits({"a": pattern}, {"a": text}) is fits
    assert matchers.fits(matchers.exact({"a": text}), {"a": text})
    assert not matchers.fits({"a": pattern}, {"a": text, "b": 1})
    assert not matchers.fits({"a": pattern, "b": "*"}, {"a": text})


def test_cancelling_says_why_where_there_is_a_reason():
    request = approvals.request()
    now, actor = timezone.now(), Actor.system("test")
    assert requests.cancel(subject_id=request.subject_id, now=now, actor=actor, state="void", why="So.") == 1
    request.refresh_from_db()
    assert (request.state, request.answer) == ("void", "So.")


# ---- the back office


def test_the_back_office_looks_at_what_was_given_and_changes_none_of_it():
    (grace,) = approvals.approvers("grace")
    root = people.user("root", is_superuser=True, is_staff=True)
    now = timezone.now()
    given = deputies.delegate(person=grace, deputy=root, starts_at=now, ends_at=now + DAY, now=now)
    request = opened()
    matcher = {"remote": "origin", "branch": "main"}
    grant = granting.give(request_id=request.pk, by=grace, minutes=5, uses=2, matcher=matcher, now=now)
    broken = opened()
    reason = "Production is down and nobody is awake."
    glass.break_glass(
        request_id=broken.pk, by=people.user("boss", is_superuser=True), reason=reason, channel="page", now=now
    )
    office = client(root)
    for row in (given, grant, broken.glass, request):
        name = row._meta.model_name
        assert office.get(reverse(f"admin:approvals_{name}_changelist")).status_code == 200
        change = reverse(f"admin:approvals_{name}_change", args=[row.pk])
        assert office.get(change).status_code == 200
        assert office.post(change, {}).status_code == 403
        assert office.post(reverse(f"admin:approvals_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        assert office.get(reverse(f"admin:approvals_{name}_add")).status_code == 403
