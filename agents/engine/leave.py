"""A call that people would be asked about, and that a grant of theirs covers: it goes without asking again."""

from datetime import datetime

from agents.engine.exclusion import parts_of
from agents.models import Job, Step
from approvals import digests, granting
from approvals.models import Grant
from approvals.policy.evaluate import Decision
from tools.spec import RiskScore


def by_grant(job: Job, step: Step, decision: Decision, risk: RiskScore, *, now: datetime) -> Grant | None:
    """Takes one use of a grant that covers this call; None: people are asked."""
    if step.kind != Step.Kind.CALL:
        return None
    if not Grant.objects.filter(parent_id=str(job.pk), tool=step.tool, revoked_at=None, expires_at__gt=now).exists():
        return None
    facts = granting.Facts(
        subject_type="step",
        subject_id=str(step.pk),
        parent_id=str(job.pk),
        tool=step.tool,
        arguments=step.arguments,
        risk=str(risk.level),
        target=digests.target_of(place(job), environment_of(job)),
        policy_version_id=decision.policy_version_id,
        rule=decision.rule,
        excluded=parts_of(job, step),
    )
    return granting.use(facts, now=now)


def place(job: Job) -> dict[str, str]:
    """What a job's requests say of where they act."""
    if job.repository is None:
        return {"repository": "", "branch": ""}
    return {"repository": job.repository.name, "branch": job.repository.default_branch}


def environment_of(job: Job) -> str:
    return job.repository.environment if job.repository else ""


def told(grant: Grant) -> dict[str, object]:
    """What the step's decision says of the grant."""
    return {"grant": {"id": str(grant.pk), "words": grant.words, "use": grant.uses, "of": grant.uses_max}}
