"""Everything that the pages about approvals can show, as rows."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone

from approvals import deputies, glass
from approvals.decisions import decide
from approvals.models import ApprovalRequest, BreakGlass, Comment, Grant, Policy, PolicyRule, PolicyVersion
from approvals.policy.evaluate import Decision
from tests.factories import approvals, people
from tools.spec import Call, Risk, RiskScore

LONG = "git push origin " + "a-very-long-branch-name-without-any-space-" * 12 + "\u202egnp.exe"
DIFF = (
    "diff --git a/deploy/values.yaml b/deploy/values.yaml\n--- a/deploy/values.yaml\n+++ b/deploy/values.yaml\n"
    "@@ -12,3 +12,3 @@ image:\n   repository: registry.example.com/shop\n-  tag: 1.41.0\n+  tag: 1.42.0 " + "x" * 300
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """grace may decide everything and break the glass; bea decides too; ada asked. The requests by what they show."""

    grace: User
    bea: User
    ada: User
    high: ApprovalRequest
    low: ApprovalRequest
    medium: ApprovalRequest
    again: ApprovalRequest
    void: ApprovalRequest
    approved: ApprovalRequest
    denied: ApprovalRequest
    broken: ApprovalRequest
    question: ApprovalRequest

    @property
    def paths(self) -> list[str]:
        """Of every page about approvals, as grace sees them."""
        at = {name: getattr(self, name).get_absolute_url() for name in ("high", "low", "medium")}
        requests = [self.again, self.void, self.approved, self.broken]
        return [
            "/approvals/",
            *at.values(),
            *(one.get_absolute_url() for one in requests),
            f"{at['high']}edit/",
            f"{at['high']}break-glass/",
            f"{at['medium']}grant/",
            f"{at['low']}together/",
            "/approvals/grants/",
            "/approvals/deputies/",
            "/approvals/reviews/",
            "/approvals/rules/",
        ]


def policy() -> PolicyVersion:
    """One rule that lets approvers give grants."""
    made, _ = Policy.objects.get_or_create(name="house")
    version = PolicyVersion.objects.create(policy=made, number=made.versions.count() + 1)
    group, _ = Group.objects.get_or_create(name="approvers")
    for order, name in enumerate(("git-push", "shell"), start=1):
        PolicyRule.objects.create(
            version=version, order=order, name=name, tools=["*"], effect="ask", approvers=group, grant_max_s=3600
        )
    PolicyVersion.objects.filter(pk=version.pk).update(status="published", published_at=timezone.now())
    version.refresh_from_db()
    return version


def asking(version: PolicyVersion | None, rule: str = "git-push", **more: Any) -> Decision:
    group, _ = Group.objects.get_or_create(name="approvers")
    return Decision(
        effect="ask",
        policy=str(version or ""),
        policy_version_id=str(version.pk) if version else None,
        rule=rule,
        reason="A push leaves this server.",
        approvers_id=group.pk,
        expires_s=more.pop("expires_s", 3600),
        **more,
    )


def shell(version: PolicyVersion, number: int, **more: Any) -> ApprovalRequest:
    command = f"pytest -q tests/part_{number}"
    call = Call(tool="shell.run", schema_version=1, arguments={"command": command}, workspace_id="w")
    return approvals.request(
        decision=asking(version, "shell"),
        title=f"helper wants to run the tests of part {number} in shop",
        command=command,
        call=call,
        risk=RiskScore(level=more.pop("level", Risk.LOW), reasons=("It reads and runs tests.",)),
        preview="",
        **more,
    )


def world() -> World:
    now = timezone.now()
    grace, bea = approvals.approvers("grace", "bea")
    ada = people.user("ada")
    people.user("olivia", groups=("owners",))
    grace.user_permissions.add(Permission.objects.get(codename="break_the_glass"))
    version = policy()
    high = approvals.request(
        decision=asking(version, quorum=2, roles=[]),
        command=LONG,
        call=Call(
            tool="git.push",
            schema_version=1,
            arguments={"remote": "origin", "branch": LONG, "notes": "line\n" * 30, "tags": ["a", "b"]},
            workspace_id="w",
        ),
        preview=DIFF,
        environment="production",
        tenant="shop",
        blast={"files": 3, "lines": 41, "hosts": 12},
        context={"agent": "helper", "repository": "shop", "goal": LONG, "reason": "All tests are green. " * 8},
    )
    Comment.objects.create(
        request=high, user=bea, text="Why 1.42.0?", channel="page", at=now, state="answered",
        answer="It mends the checkout.", answered_by="agent:helper", answered_at=now,
    )  # fmt: skip
    Comment.objects.create(request=high, user=bea, text="And who tested it?", channel="page", at=now)
    shells = [shell(version, number) for number in range(1, 4)]
    medium = shell(version, 9, level=Risk.MEDIUM)
    subject = {"subject_id": str(uuid4()), "parent_id": str(uuid4())}
    void = approvals.request(decision=asking(version), **subject)
    ApprovalRequest.objects.filter(pk=void.pk).update(state="void", decided_at=now, answer="The branch has moved.")
    again = approvals.request(decision=asking(version), command="git push origin main --tags", preview=DIFF, **subject)
    approved = approvals.request(decision=asking(version))
    _decide(approved, grace, "approve")
    denied = approvals.request(decision=asking(version))
    _decide(denied, bea, "deny", "The tests are red.")
    broken = approvals.request(decision=asking(version))
    glass.break_glass(
        request_id=broken.pk, by=grace, reason="The shop is down and nobody else is awake.", channel="page", now=now
    )
    waiting = approvals.request(decision=asking(version))
    ApprovalRequest.objects.filter(pk=waiting.pk).update(state="approved", decided_at=now, break_glass=True)
    BreakGlass.objects.create(
        request=waiting, user=bea, reason="Customers cannot pay.", at=now, review_by=now + timedelta(days=3)
    )
    Grant.objects.create(
        parent_id=approved.parent_id, parent_path="/jobs/1/", tool="shell.run", target={}, matcher={"command": "pytest*"},
        words="shell.run in this job, on repository shop, where command fits pytest*", risk_max="low",
        policy_version=version, rule="shell", from_request=approved, given_by=[grace.pk], created_at=now,
        expires_at=now + timedelta(minutes=25), uses_max=10, uses=4,
    )  # fmt: skip
    deputies.delegate(
        person=bea, deputy=grace, starts_at=now, ends_at=now + timedelta(days=5), now=now, reason="On leave"
    )
    question = approvals.question(requester=ada, group="approvers")
    return World(
        grace=grace, bea=bea, ada=ada, high=high, low=shells[0], medium=medium, again=again, void=void,
        approved=approved, denied=denied, broken=broken, question=question,
    )  # fmt: skip


def _decide(request: ApprovalRequest, by: User, verdict: str, reason: str = "") -> None:
    decide(request_id=request.pk, by=by, verdict=verdict, reason=reason, channel="page", now=timezone.now())
