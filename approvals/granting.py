"""Grants: "this and alike for 30 minutes". Given with the approval of a request, used by the gate, revocable."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet

from approvals import matchers
from approvals.closing import State, locked
from approvals.decisions import RECORDED, checked_words, record_refusal, vote
from approvals.digests import target_of
from approvals.eligibility import own_refusal
from approvals.errors import InvalidGrant, NotEligible, NotFound
from approvals.models import ApprovalRequest, Grant, PolicyVersion, Vote
from approvals.quorum import standing
from approvals.visible import visible_line
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event
from tools.spec import Risk

MINUTES_MAX, USES_MAX = 60, 50
TRIED_DAYS, TRIED_MAX, EXAMPLES = 30, 1000, 5
CHANNEL = "grant"
_RISKS = [Risk.LOW, Risk.MEDIUM, Risk.HIGH]
_GATE = Actor.system("policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A call that the policies ask about. target: repository, branch, environment; excluded: users (primary keys) who
    took part in it and whose grant is therefore good for nothing here."""

    subject_type: str
    subject_id: str
    parent_id: str
    tool: str
    arguments: Mapping[str, Any]
    risk: str
    target: Mapping[str, str]
    policy_version_id: str | None
    rule: str
    excluded: Collection[int] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a matcher would have covered of what people were asked about this tool lately: how many were asked, how many
    of them fit, and examples of either, as commands."""

    asked: int
    fit: int
    covered: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """matcher: {argument: pattern}; words: what it covers; minutes, uses: the most that may be given."""

    matcher: dict[str, str]
    words: str
    minutes: int
    uses: int
    tried: Tried


def why_not(request: ApprovalRequest) -> str:
    """Why no grant may be given with this request, whoever asks, in a sentence; "" where one may."""
    if request.kind == ApprovalRequest.Kind.QUESTION:
        return "A question is answered."
    if request.risk == Risk.HIGH:
        return "What is of high risk is approved call by call."
    if not request.grant_max_s or request.policy_version_id is None:
        return "The rule that asks lets nobody give leave for more than this call."
    if request.call.get("many"):
        return "Leave for many calls at once is given call by call."
    if request.quorum + sum(int(role["count"]) for role in request.roles) > 1:
        return "It takes more than one person, and each agrees to one call."
    return ""


def propose(request: ApprovalRequest, *, now: datetime) -> Proposal | None:
    """What a grant with this request would cover by default; None where none may be given."""
    if why_not(request):
        return None
    matcher = matchers.proposed(request.call["arguments"])
    if matchers.problem(matcher, request.call["arguments"]):
        matcher = matchers.exact(request.call["arguments"])
    return Proposal(
        matcher=matcher,
        words=words(request, matcher),
        minutes=min(MINUTES_MAX, request.grant_max_s // 60),
        uses=USES_MAX,
        tried=tried(request, matcher, now=now),
    )


def words(request: ApprovalRequest, matcher: matchers.Matcher) -> str:
    """What the grant covers, in one sentence."""
    target = _target(request)
    where = ", ".join(f"{name} {value}" for name, value in target.items() if value)
    said = f"{request.call['tool']} in this job{f', on {where}' if where else ''}, where {matchers.words(matcher)}"
    return visible_line(said, 500)


def tried(request: ApprovalRequest, matcher: matchers.Matcher, *, now: datetime) -> Tried:
    """The matcher tried on the calls of this tool about which people were asked in the last 30 days, in any job."""
    since = now - timedelta(days=TRIED_DAYS)
    asked = ApprovalRequest.objects.filter(
        kind=ApprovalRequest.Kind.APPROVAL, call__tool=request.call["tool"], created_at__gte=since
    )
    calls = list(asked.order_by("-created_at").values_list("call__arguments", "command")[:TRIED_MAX])
    covered = [command for arguments, command in calls if matchers.fits(matcher, arguments)]
    left = [command for arguments, command in calls if not matchers.fits(matcher, arguments)]
    return Tried(asked=len(calls), fit=len(covered), covered=_examples(covered), left=_examples(left))


def give(
    *,
    request_id: UUID | str,
    by: User,
    minutes: int,
    uses: int,
    matcher: Mapping[str, str],
    channel: str = CHANNEL,
    now: datetime,
    reason: str = "",
    second_factor_at: datetime | None = None,
) -> Grant:
    """Approves the request, and with it calls that fit in the same job, with the same tool and on the same target, for
    so many minutes and uses. In one transaction; must not be called inside another.

    Raises:
        InvalidGrant: `field` says what does not fit; nothing was approved.
        What `approvals.decisions.decide` raises.
    """
    said = checked_words(reason)
    try:
        with transaction.atomic(durable=True):
            return _give(request_id, by, minutes, uses, matcher, channel, now, said, second_factor_at)
    except RECORDED as error:
        record_refusal(request_id, by, "grant", channel, error)
        raise


def use(facts: Facts, *, now: datetime) -> Grant | None:
    """Takes one use of a grant that covers this call, in the caller's transaction; None: none does.

    The taking is one conditional UPDATE, so that of many calls at once no more go than there are uses.
    """
    for grant in _in_force(facts, now):
        if not _covers(grant, facts):
            continue
        won = Grant.objects.filter(
            pk=grant.pk, revoked_at=None, expires_at__gt=now, uses__lt=F("uses_max"), policy_version__status=_PUBLISHED
        ).update(uses=F("uses") + 1)
        if not won:
            continue
        grant.refresh_from_db()
        record(
            Event.GRANT_USED,
            actor=_GATE,
            target=_record_target(grant),
            context={
                "subject": f"{facts.subject_type}:{facts.subject_id}",
                "parent": facts.parent_id,
                "tool": facts.tool,
                "use": grant.uses,
                "of": grant.uses_max,
                "request": str(grant.from_request_id),
            },
        )
        return grant
    return None


@transaction.atomic
def revoke(*, grant_id: UUID | str, by: User, now: datetime) -> Grant:
    """Ends a grant at once; what it let through already stands. Once is enough.

    For who gave it, whoever else may decide such a request, whose job it is, and superusers.

    Raises:
        NotFound, NotEligible
    """
    grant = Grant.objects.select_for_update(of=("self",)).filter(pk=grant_id).select_related("from_request").first()
    if grant is None:
        raise NotFound("There is no such grant.")
    if not may_revoke(grant, by):
        raise NotEligible("Who gave it, who may decide such a request, or whose job it is revokes it.")
    if Grant.objects.filter(pk=grant.pk, revoked_at=None).update(revoked_at=now, revoked_by=by):
        grant.revoked_at, grant.revoked_by = now, by
        record(
            Event.GRANT_REVOKED,
            actor=Actor.user(by.pk),
            target=_record_target(grant),
            context={"parent": grant.parent_id, "uses": grant.uses},
        )
    return grant


def may_revoke(grant: Grant, user: User) -> bool:
    request = grant.from_request
    if not user.is_active:
        return False
    own = user.is_superuser or user.pk in grant.given_by or user.pk == request.requester_id
    return own or not own_refusal(request, user)


def in_force(now: datetime) -> QuerySet[Grant]:
    """Grants that still cover something, the first to end first."""
    return (
        Grant.objects.filter(
            revoked_at=None, expires_at__gt=now, uses__lt=F("uses_max"), policy_version__status=_PUBLISHED
        )
        .select_related("from_request", "policy_version__policy")
        .order_by("expires_at", "pk")
    )


_PUBLISHED = PolicyVersion.Status.PUBLISHED


def _in_force(facts: Facts, now: datetime) -> list[Grant]:
    if facts.policy_version_id is None or facts.risk == Risk.HIGH:
        return []
    found = in_force(now).filter(
        parent_id=facts.parent_id, tool=facts.tool, policy_version=UUID(facts.policy_version_id), rule=facts.rule
    )
    return list(found)


def _covers(grant: Grant, facts: Facts) -> bool:
    if _RISKS.index(Risk(facts.risk)) > _RISKS.index(Risk(grant.risk_max)):
        return False
    if dict(facts.target) != grant.target or not matchers.fits(grant.matcher, facts.arguments):
        return False
    if set(grant.given_by) & set(facts.excluded):
        return False
    # who gave it must still be somebody who could approve such a call
    return grant.from_request.state == State.APPROVED and standing(grant.from_request).complete


def _give(
    request_id: UUID | str,
    by: User,
    minutes: int,
    uses: int,
    matcher: Mapping[str, str],
    channel: str,
    now: datetime,
    reason: str,
    second_factor_at: datetime | None,
) -> Grant:
    request = locked(request_id)
    _check(request, minutes, uses, matcher)
    request = vote(request_id, by, Vote.Verdict.APPROVE, reason, channel, now, second_factor_at=second_factor_at)
    if request.state != State.APPROVED or request.policy_version_id is None:
        raise InvalidGrant("It takes more than one person, and each agrees to one call.")
    votes = Vote.objects.filter(request=request, withdrawn_at=None)
    givers = {pk for one in votes for pk in (one.user_id, one.on_behalf_of_id) if pk is not None}
    grant = Grant.objects.create(
        parent_id=request.parent_id,
        parent_path=request.parent_path,
        tool=request.call["tool"],
        target=_target(request),
        matcher=dict(matcher),
        words=words(request, matcher),
        risk_max=request.risk,
        policy_version_id=request.policy_version_id,
        rule=request.rule,
        from_request=request,
        given_by=sorted(givers),
        created_at=now,
        expires_at=now + timedelta(minutes=minutes),
        uses_max=uses,
    )
    record(
        Event.GRANT_GIVEN,
        actor=Actor.user(by.pk),
        target=_record_target(grant),
        context={
            "channel": channel,
            "request": str(request.pk),
            "parent": request.parent_id,
            "tool": grant.tool,
            "rule": grant.rule,
            "risk_max": grant.risk_max,
            "uses": uses,
            "expires_at": grant.expires_at.isoformat(),
        },
        payload={"matcher": grant.matcher, "words": grant.words},
    )
    return grant


def _check(request: ApprovalRequest, minutes: int, uses: int, matcher: Mapping[str, str]) -> None:
    why = why_not(request)
    if why:
        raise InvalidGrant(why)
    longest = min(MINUTES_MAX, request.grant_max_s // 60)
    if not 1 <= minutes <= longest:
        raise InvalidGrant(f"Between 1 and {longest} minutes.", field="minutes")
    if not 1 <= uses <= USES_MAX:
        raise InvalidGrant(f"Between 1 and {USES_MAX} uses.", field="uses")
    why = matchers.problem(matcher, request.call["arguments"])
    if why:
        raise InvalidGrant(why, field="matcher")


def _target(request: ApprovalRequest) -> dict[str, str]:
    return target_of(request.context, request.environment)


def _record_target(grant: Grant) -> Target:
    return Target(type="grant", id=str(grant.pk))


def _examples(commands: list[str]) -> tuple[str, ...]:
    return tuple(visible_line(command, 200) for command in dict.fromkeys(commands))[:EXAMPLES]
