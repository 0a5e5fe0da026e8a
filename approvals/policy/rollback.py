"""Back to an earlier version in one step: a new version with the same rules.

It takes what every publication takes, a second person and a backtest, but where the earlier rules plainly give no more
leave than those in force (`strictness`): then one person does it at once (docs/decisions/0007).
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User

from approvals.errors import NotADraft, PolicyError
from approvals.models import PolicyVersion
from approvals.policy import backtest, rules, strictness, versions

Status = PolicyVersion.Status
TRIED_FOR_S = 20.0
NOTES_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """version: the copy; missing: what must still happen before it is in force, in a sentence, "" where it is."""

    version: PolicyVersion
    missing: str = ""


def roll_back(version_id: UUID, *, by: User, reason: str, now: datetime) -> RolledBack:
    """Makes a copy of a retired version and publishes it, or brings it as far as one person can.

    Raises:
        NotADraft: it is in force, or was never.
        InvalidPolicy: it would not work any more (a group has lost its members).
        PolicyVersion.DoesNotExist
    """
    source = PolicyVersion.objects.select_related("policy").get(pk=version_id)
    if source.status != Status.RETIRED:
        raise NotADraft(f"{source} is {source.status}: one rolls back to a version that was in force.")
    notes = f"Back to version {source.number}. {reason}".strip()[:NOTES_MAX]
    live = PolicyVersion.objects.filter(policy=source.policy_id, status=Status.PUBLISHED).first()
    draft = versions.new_draft(source.policy, source=source, by=by, notes=notes)
    if live is not None and strictness.no_looser(rules.rules_json(draft), rules.rules_json(live)):
        return RolledBack(version=versions.publish(draft.pk, by=by, now=now, alone=True))
    try:
        if settings.POLICY_BACKTEST_DAYS > 0:
            backtest.start(draft.pk, days=settings.POLICY_BACKTEST_DAYS, by=by, now=now)
            backtest.run(draft.pk, seconds=TRIED_FOR_S)
        draft = versions.propose(draft.pk, by=by, now=now)
        return RolledBack(version=versions.publish(draft.pk, by=by, now=now))
    except PolicyError as error:
        draft.refresh_from_db()
        return RolledBack(version=draft, missing=error.message)
