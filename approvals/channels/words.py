"""What every channel says of a request, in words; whatever others wrote has its hidden characters marked."""

from datetime import datetime

from django.utils import timezone

from approvals.models import ApprovalRequest
from approvals.visible import visible_line
from approvals.web.times import until

SUBJECT_MAX = 150
QUESTION = ApprovalRequest.Kind.QUESTION


def subject(request: ApprovalRequest) -> str:
    """What is asked, on one line: `Approve? git push origin main (high risk, in shop)`."""
    asked = visible_line(request.command, 90)
    where = f", in {visible_line(repository, 30)}" if (repository := word(request, "repository")) else ""
    if request.kind == QUESTION:
        return visible_line(f"Question: {asked}", SUBJECT_MAX)
    return visible_line(f"Approve? {asked} ({request.risk} risk{where})", SUBJECT_MAX)


def facts(request: ApprovalRequest, now: datetime | None = None) -> list[tuple[str, str]]:
    """Who asks, where and until when, as (label, value)."""
    now = now or timezone.now()
    asks = request.kind == ApprovalRequest.Kind.APPROVAL
    found = [
        ("Environment", request.environment),
        ("Requested by", word(request, "requester") or request.requester.get_username()),
        ("Agent", word(request, "agent")),
        ("Repository", word(request, "repository")),
        ("Touches", touches(request)),
        ("Goal", visible_line(word(request, "goal"), 300)),
        ("Policy", f"{request.policy_version}, rule {request.rule}" if request.policy_version else ""),
        ("Why you are asked", request.rule_reason),
        ("Needs", quorum(request) if asks else ""),
        ("Expires", f"{request.expires_at:%Y-%m-%d %H:%M} UTC ({until(request.expires_at, now)})"),
    ]
    return [(label, visible_line(value, 500)) for label, value in found if value]


def touches(request: ApprovalRequest) -> str:
    """What it touches, in counts: `files 2, lines added 18, branch main`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in request.blast.items() if value != "")


def quorum(request: ApprovalRequest) -> str:
    """How many of whom must agree: `2 of sre and 1 of owners`."""
    if request.approvers is None:
        return ""
    needed = [f"{request.quorum} of {request.approvers.name}"]
    needed += [f"{role.get('count', 1)} of {role.get('name', '')}" for role in request.roles]
    return " and ".join(needed)


def outcome(request: ApprovalRequest) -> str:
    """What became of it, in a sentence: `Denied by grace.`"""
    last = request.votes.filter(withdrawn_at=None).select_related("user").order_by("at").last()
    who = f" by {visible_line(last.user.get_username(), 60)}" if last is not None else ""
    if request.break_glass:
        who += ", in an emergency outside the rules"
    return {
        "approved": f"Answered{who}." if request.kind == QUESTION else f"Approved{who}.",
        "denied": f"Denied{who}.",
        "expired": "Expired: nobody answered in time. Nobody said no.",
        "cancelled": "Taken back: it is not asked any more.",
        "void": "Void: what would run is no longer what was shown.",
    }.get(str(request.state), "")


def word(request: ApprovalRequest, name: str) -> str:
    return str(request.context.get(name) or "")
