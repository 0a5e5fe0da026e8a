"""Every channel against every rule: whatever the way in, the same people may not decide."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from agents.tokens import create_token
from approvals import batch, deputies, expiry, glass, granting
from approvals.decisions import decide
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest, Policy, PolicyRule, PolicyVersion, Vote
from approvals.policy.evaluate import Decision
from audit.actor import Actor
from tests.factories import approvals, people
from tests.factories.log import events
from tools.spec import Risk, RiskScore

pytestmark = pytest.mark.django_db

ROOT = "root"


@dataclass
class Try:
    """A vote that somebody tries to give."""

    request: ApprovalRequest
    by: User
    verdict: str = "approve"
    reason: str = "so"
    later: timedelta = timedelta()  # how much later than now, for the channels that are told the time


Channel = Callable[[Try], str]


def _function(name: str) -> Channel:
    def by_function(this: Try) -> str:
        given = {"request_id": this.request.pk, "by": this.by, "verdict": this.verdict, "reason": this.reason}
        decide(**given, channel=name, now=timezone.now() + this.later)
        return ""

    return by_function


def _page(this: Try) -> str:
    client = Client()
    client.force_login(this.by, backend="django.contrib.auth.backends.ModelBackend")
    client.post(f"/approvals/{this.request.pk}/", {"verdict": this.verdict, "reason": this.reason})
    return "?"


def _admin(this: Try) -> str:
    client = Client()
    User.objects.filter(pk=this.by.pk).update(is_staff=True)
    client.force_login(User.objects.get(pk=this.by.pk), backend="django.contrib.auth.backends.ModelBackend")
    path = reverse(f"admin:approvals_approvalrequest_{this.verdict}", args=[this.request.pk])
    client.post(path, {"_form_submitted": "on", "reason": this.reason})
    return "?"


def _posted(client: APIClient, this: Try) -> str:
    body = {"reason": this.reason}
    answer = client.post(f"/api/v1/approvals/{this.request.pk}/{this.verdict}", body, format="json")
    return "" if answer.status_code == 200 else str(answer.json()["code"])


def _session(this: Try) -> str:
    client = APIClient()
    client.force_login(this.by, backend="django.contrib.auth.backends.ModelBackend")
    return _posted(client, this)


def _token(this: Try) -> str:
    _, secret = create_token(
        user=this.by,
        name="t",
        scopes=["approvals:decide", "approvals:read"],
        now=timezone.now(),
        actor=Actor.user(this.by.pk),
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return _posted(client, this)


def _command(this: Try) -> str:
    out = io.StringIO()
    more = ["--reason", this.reason] if this.verdict == "deny" else []
    try:
        call_command(this.verdict, str(this.request.pk), *more, "--as", this.by.username, "--json", stdout=out)
    except CommandError:
        return "?"
    except SystemExit:
        return str(json.loads(out.getvalue())["code"])
    return ""


def _batch(this: Try) -> str:
    now = timezone.now() + this.later
    given = {"request_ids": [this.request.pk], "by": this.by, "verdict": this.verdict, "reason": this.reason}
    ((_, error),) = batch.decide_all(**given, now=now)
    return error.code if error else ""


def _grant(this: Try) -> str:
    matcher = {"remote": "origin", "branch": "main"}
    now = timezone.now() + this.later
    granting.give(request_id=this.request.pk, by=this.by, minutes=5, uses=2, matcher=matcher, now=now)
    return ""


CHANNELS: dict[str, Channel] = {
    "page": _page,
    "admin": _admin,
    "api session": _session,
    "api token": _token,
    "command line": _command,
    "slack": _function("slack"),
    "batch": _batch,
    "grant": _grant,
}
APPROVES_ONLY = {"grant"}


def opened(**changes: Any) -> ApprovalRequest:
    """A request of low risk of a published rule with which a grant may be given: every channel may decide it."""
    group, _ = Group.objects.get_or_create(name="approvers")
    version = _published(group, second_factor=changes.pop("second_factor", False))
    decision = Decision(
        effect="ask", policy=str(version), policy_version_id=str(version.pk), rule="push", approvers_id=group.pk
    )
    low = RiskScore(level=Risk.LOW)
    return approvals.request(decision=decision, risk=low, **changes)


def _published(group: Group, *, second_factor: bool) -> PolicyVersion:
    policy, _ = Policy.objects.get_or_create(name="matrix")
    version = policy.versions.filter(status="published").first()
    if version is not None:
        return version
    version = PolicyVersion.objects.create(policy=policy, number=1)
    rule = {"second_factor": second_factor, "grant_max_s": 3600, "approvers": group}
    PolicyRule.objects.create(version=version, order=1, name="push", tools=["git.*"], effect="ask", **rule)
    PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    return version


def _member(name: str = "grace", **fields: Any) -> User:
    return people.user(name, groups=("approvers",), **fields)


def _requester(settings: Any) -> Try:
    ada = _member("ada")
    return Try(opened(requester=ada), ada)


def _requester_superuser(settings: Any) -> Try:
    ada = _member("ada", is_superuser=True, is_staff=True)
    return Try(opened(requester=ada), ada)


def _excluded(part: str) -> Callable[[Any], Try]:
    def case(settings: Any) -> Try:
        grace = _member()
        return Try(opened(excluded_as={grace.pk: part}), grace)

    return case


def _outsider(settings: Any) -> Try:
    _member()
    return Try(opened(), people.user("stranger", groups=("others",)))


def _superuser(settings: Any) -> Try:
    _member()
    return Try(opened(), people.user(ROOT, is_superuser=True, is_staff=True))


def _inactive(settings: Any) -> Try:
    grace = _member()
    request = opened()
    User.objects.filter(pk=grace.pk).update(is_active=False)
    return Try(request, User.objects.get(pk=grace.pk))


def _left(settings: Any) -> Try:
    grace = _member()
    request = opened()
    grace.groups.clear()
    return Try(request, grace)


def _overdue(settings: Any) -> Try:
    grace = _member()
    request = opened()
    ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    return Try(request, grace)


def _closed(how: str) -> Callable[[Any], Try]:
    def case(settings: Any) -> Try:
        grace, request = _member(), opened()
        now, other = timezone.now(), _member("alan")
        if how == "expired":
            ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=now - timedelta(seconds=1))
            expiry.expire_due(now)
        else:
            decide(request_id=request.pk, by=other, verdict=how, reason="so", channel="page", now=now)
        return Try(request, grace)

    return case


def _voted(settings: Any) -> Try:
    grace, request = _member(), opened()
    ApprovalRequest.objects.filter(pk=request.pk).update(quorum=2)
    decide(request_id=request.pk, by=grace, verdict="approve", reason="", channel="page", now=timezone.now())
    return Try(request, grace)


def _deputy_voted(settings: Any) -> Try:
    grace, alan, request = _member(), people.user("alan"), opened()
    ApprovalRequest.objects.filter(pk=request.pk).update(quorum=2)
    _delegated(grace, alan)
    decide(request_id=request.pk, by=alan, verdict="approve", reason="", channel="page", now=timezone.now())
    return Try(request, grace)


def _deputy_of_the_requester(settings: Any) -> Try:
    ada, alan = _member("ada"), people.user("alan")
    request = opened(requester=ada)
    _delegated(ada, alan)
    return Try(request, alan)


def _requester_as_deputy(settings: Any) -> Try:
    ada, grace = people.user("ada"), _member()
    request = opened(requester=ada)
    _delegated(grace, ada)
    return Try(request, ada)


def _deputy_of_a_deputy(settings: Any) -> Try:
    grace, alan, edsger, request = _member(), people.user("alan"), people.user("edsger"), opened()
    _delegated(grace, alan)
    _delegated(alan, edsger)
    return Try(request, edsger)


def _deputy_too_late(settings: Any) -> Try:
    grace, alan, request = _member(), people.user("alan"), opened()
    given = _delegated(grace, alan)
    deputies.revoke(delegation_id=given.pk, by=grace, now=timezone.now())
    return Try(request, alan)


def _delegated(person: User, deputy: User) -> Any:
    now = timezone.now()
    start, end = now - timedelta(hours=1), now + timedelta(hours=1)
    return deputies.delegate(person=person, deputy=deputy, starts_at=start, ends_at=end, now=now)


def _second_factor(settings: Any) -> Try:
    settings.STEP_UP = True
    return Try(opened(second_factor=True), _member())


def _policy_retired(settings: Any) -> Try:
    grace, request = _member(), opened()
    PolicyVersion.objects.filter(pk=request.policy_version_id).update(status="retired")
    return Try(request, grace)


def _no_reason(settings: Any) -> Try:
    return Try(opened(), _member(), verdict="deny", reason="  ")


def _glass_broken(settings: Any) -> Try:
    grace, request = _member(), opened()
    root = people.user(ROOT, is_superuser=True)
    reason = "Production is down and nobody is awake."
    glass.break_glass(request_id=request.pk, by=root, reason=reason, channel="page", now=timezone.now())
    return Try(request, grace)


# rule -> (the case, the code of its refusal where the channel can know of the request at all)
RULES: dict[str, tuple[Callable[[Any], Try], str]] = {
    "requester": (_requester, "not_eligible"),
    "requester, superuser": (_requester_superuser, "not_eligible"),
    "editor": (_excluded("editor"), "not_eligible"),
    "token owner": (_excluded("token owner"), "not_eligible"),
    "not a member": (_outsider, "not_eligible"),
    "superuser, not a member": (_superuser, "not_eligible"),
    "inactive": (_inactive, "not_eligible"),
    "left the group": (_left, "not_eligible"),
    "overdue": (_overdue, "request_expired"),
    "approved": (_closed("approve"), "already_decided"),
    "denied": (_closed("deny"), "already_decided"),
    "expired": (_closed("expired"), "already_decided"),
    "emergency": (_glass_broken, "already_decided"),
    "voted": (_voted, "already_voted"),
    "deputy voted": (_deputy_voted, "already_voted"),
    "deputy of the requester": (_deputy_of_the_requester, "not_eligible"),
    "requester as a deputy": (_requester_as_deputy, "not_eligible"),
    "deputy of a deputy": (_deputy_of_a_deputy, "not_eligible"),
    "deputy no more": (_deputy_too_late, "not_eligible"),
    "second factor": (_second_factor, "second_factor_needed"),
    "policy retired": (_policy_retired, "policy_changed"),
    "no reason": (_no_reason, "reason_missing"),
}
# What hides a request from a stranger, or a stranger from the channel, tells no more than that.
HIDES = {"page", "admin", "api session", "api token"}
BEFORE = {"not_found", "not_authenticated", "user_inactive", "invalid_input", "permission_denied"}


def snapshot(request: ApprovalRequest) -> tuple[Any, ...]:
    found = ApprovalRequest.objects.get(pk=request.pk)
    votes = Vote.objects.filter(request=request).order_by("pk").values_list("user_id", "verdict", "withdrawn_at")
    return found.state, found.decided_at, found.answer, tuple(votes)


def tried(channel: Channel, this: Try) -> str:
    try:
        return channel(this)
    except DecisionError as error:
        return error.code


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("rule", RULES)
def test_no_channel_lets_through_what_a_rule_refuses(rule, channel, settings):
    case, code = RULES[rule]
    this = case(settings)
    if channel in APPROVES_ONLY and this.verdict != "approve":
        pytest.skip("it only approves")
    before = snapshot(this.request)
    said = tried(CHANNELS[channel], this)
    assert snapshot(this.request) == before
    alone = channel == "grant" and said == "invalid_grant"  # a quorum of two lets nobody give one
    assert said in {code, "?"} or (channel in HIDES and said in BEFORE) or alone, said
    if channel in {"slack", "batch"} and rule != "no reason":
        assert (events(this.request.pk, prefix="approval.refused") or [("", "")])[-1] == ("approval.refused", code)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_every_channel_lets_through_who_may_decide(channel, verdict):
    if channel in APPROVES_ONLY and verdict == "deny":
        pytest.skip("it only approves")
    grace = _member()
    request = opened()
    assert tried(CHANNELS[channel], Try(request, grace, verdict=verdict)) in {"", "?"}
    state, _, _, votes = snapshot(request)
    assert (state, votes) == ("approved" if verdict == "approve" else "denied", ((grace.pk, verdict, None),))
    assert events(request.pk, prefix="approval.closed") == [("approval.closed", state)]


def test_a_token_that_the_requester_made_for_somebody_else_decides_nothing():
    """Who made it could hold it, and would approve their own request by it."""
    ada, grace = people.user("ada", is_superuser=True), _member()
    request = opened(requester=ada)
    _, secret = create_token(
        user=grace, name="t", scopes=["approvals:decide"], now=timezone.now(), actor=Actor.user(ada.pk)
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert _posted(client, Try(request, grace)) == "not_eligible"
    answer = client.post(
        f"/api/v1/approvals/{request.pk}/grant", {"minutes": 5, "uses": 1, "matcher": {}}, format="json"
    )
    assert answer.json()["code"] == "not_eligible"
    assert snapshot(request)[0] == "pending"
