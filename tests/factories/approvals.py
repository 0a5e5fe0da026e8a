"""Approval requests, opened as the engine opens them."""

from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.policy.evaluate import Decision
from audit.actor import Actor
from tests.factories import people
from tools.spec import Call, Risk, RiskScore


def approvers(*names: str, group: str = "approvers") -> list[User]:
    return [people.user(name, groups=(group,)) for name in names]


def request(
    *,
    requester: User | None = None,
    command: str = "git push origin main",
    quorum: int = 1,
    expires_s: int = 3600,
    group: str = "approvers",
    **changes: Any,
) -> ApprovalRequest:
    """A pending request about one push, as `gate` and `prepare` would open it."""
    owner = requester or people.user("ada")
    asked, _ = Group.objects.get_or_create(name=group)
    now = changes.pop("now", None) or timezone.now()
    decision = Decision(
        effect="ask", policy="", rule="git-push", reason="A push leaves this server.", approvers_id=asked.pk,
        quorum=quorum, expires_s=expires_s,
    )  # fmt: skip
    given: dict[str, Any] = {
        "decision": decision,
        "subject_type": "test",
        "subject_id": str(uuid4()),
        "parent_id": str(uuid4()),
        "parent_path": "/jobs/1/",
        "title": "helper wants to run git.push in shop",
        "command": command,
        "call": Call(
            tool="git.push", schema_version=1, arguments={"remote": "origin", "branch": "main"}, workspace_id="w"
        ),
        "preview": "+one line\n-another line\n",
        "risk": RiskScore(level=Risk.HIGH, reasons=("It leaves this server.",)),
        "context": {"agent": "helper", "requester": owner.username, "repository": "shop", "goal": "make it pass"},
        "requester_id": owner.pk,
        "excluded_ids": [owner.pk],
        "now": now,
        "actor": Actor.agent("helper", on_behalf_of=owner.pk),
        **changes,
    }
    with transaction.atomic():
        return requests.open_request(**given)


def question(*, requester: User | None = None, group: str = "", text: str = "Which branch?") -> ApprovalRequest:
    owner = requester or people.user("ada")
    asked = Group.objects.get_or_create(name=group)[0] if group else None
    with transaction.atomic():
        return requests.open_question(
            subject_type="test",
            subject_id=str(uuid4()),
            parent_id=str(uuid4()),
            parent_path="/jobs/1/",
            question=text,
            context={"agent": "helper", "requester": owner.username},
            requester_id=owner.pk,
            approvers_id=asked.pk if asked else None,
            now=timezone.now(),
            actor=Actor.agent("helper", on_behalf_of=owner.pk),
        )
