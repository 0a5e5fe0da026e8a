"""What keeps deciding from becoming a habit: a job that is denied again and again is paused, and each rule's figures
show which ones people only wave through. (Like requests become one message, and messages are bounded, in
`approvals.notify`.)"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from approvals.models import ApprovalRequest

DECIDERS_MAX = 10


def pause_due(request: ApprovalRequest) -> str:
    """Why the job of this request is to pause now, in a sentence; "" where it goes on.

    Asked in the transaction of a denial, with the job locked, so that of several at once each sees those before it.
    People denied settings.APPROVAL_DENIALS_PAUSE of its calls since it began, or since the last pause for it.
    """
    most = settings.APPROVAL_DENIALS_PAUSE
    if not most or request.state != ApprovalRequest.State.DENIED or request.kind != ApprovalRequest.Kind.APPROVAL:
        return ""
    denied = ApprovalRequest.objects.filter(
        parent_id=request.parent_id, state=ApprovalRequest.State.DENIED, kind=ApprovalRequest.Kind.APPROVAL
    ).count()
    if denied % most:
        return ""
    times = f"{denied} of its calls" if denied > 1 else "a call of it"
    return f"People denied {times}: look at what it is trying to do before it goes on."


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFigures:
    """Of one rule of one policy. Rates are shares of the requests that have ended by people or the clock; times are of
    those that people decided. deciders: [(username, votes)], those with the most votes first."""

    policy: str
    rule: str
    asked: int
    pending: int
    approved: int
    denied: int
    expired: int
    approve_rate: float | None
    deny_rate: float | None
    expired_rate: float | None
    decide_median_s: float | None
    decide_p90_s: float | None
    deciders: Sequence[tuple[str, int]]

    def as_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name != "deciders"},
            "deciders": [{"user": user, "votes": votes} for user, votes in self.deciders],
        }


_FIGURES = """
WITH asked AS (
    SELECT r.id, r.rule, r.state, p.name AS policy, extract(epoch FROM r.decided_at - r.created_at) AS took_s
      FROM approvals_approvalrequest r
      LEFT JOIN approvals_policyversion v ON v.id = r.policy_version_id
      LEFT JOIN approvals_policy p ON p.id = v.policy_id
     WHERE r.kind = 'approval' AND r.created_at >= %(since)s AND r.created_at < %(until)s
), votes AS (
    SELECT a.policy, a.rule, u.username, count(*) AS number
      FROM asked a JOIN approvals_vote w ON w.request_id = a.id AND w.withdrawn_at IS NULL
      JOIN auth_user u ON u.id = w.user_id
     GROUP BY a.policy, a.rule, u.username
)
SELECT coalesce(a.policy, ''), a.rule, count(*),
       count(*) FILTER (WHERE a.state = 'pending'),
       count(*) FILTER (WHERE a.state IN ('approved', 'void')),
       count(*) FILTER (WHERE a.state = 'denied'),
       count(*) FILTER (WHERE a.state = 'expired'),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY a.took_s) FILTER (WHERE a.state IN ('approved', 'denied')),
       percentile_cont(0.9) WITHIN GROUP (ORDER BY a.took_s) FILTER (WHERE a.state IN ('approved', 'denied')),
       (SELECT json_agg(json_build_array(v.username, v.number) ORDER BY v.number DESC, v.username)
          FROM votes v WHERE v.policy IS NOT DISTINCT FROM a.policy AND v.rule = a.rule)
  FROM asked a
 GROUP BY a.policy, a.rule
 ORDER BY count(*) DESC, 1, 2
"""


def figures(*, now: datetime, days: int = 30) -> list[RuleFigures]:
    """Every rule that asked people in the last `days`, the busiest first. Void approvals count as approved."""
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES, {"since": now - timedelta(days=days), "until": now + timedelta(seconds=1)})
        return [_figures(row) for row in cursor.fetchall()]


def _figures(row: Sequence[Any]) -> RuleFigures:
    policy, rule, asked, pending, approved, denied, expired, median, p90, deciders = row
    ended = approved + denied + expired
    return RuleFigures(
        policy=policy,
        rule=rule,
        asked=asked,
        pending=pending,
        approved=approved,
        denied=denied,
        expired=expired,
        approve_rate=_share(approved, ended),
        deny_rate=_share(denied, ended),
        expired_rate=_share(expired, ended),
        decide_median_s=None if median is None else round(float(median), 1),
        decide_p90_s=None if p90 is None else round(float(p90), 1),
        deciders=[(user, votes) for user, votes in (deciders or [])][:DECIDERS_MAX],
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None
