"""A step is about to begin: is what the policies said of it still so?

Asked in the transaction that claims it. What was decided under policies that are no longer the published ones, or by the
clock, by what the job did or by what was spent, is decided anew here: nothing runs by a stale decision. An approval
stands where the same rule of the same policy version asks, and nothing about how the call must run is different.
"""

from datetime import datetime

from agents.engine import gate, recheck
from agents.engine.advance import advance, paused
from agents.engine.transitions import step_facts, step_target
from agents.models import Job, Step
from approvals.policy import published
from approvals.policy.evaluate import ALLOW, ASK, Decision
from audit.append import record
from audit.kinds import Event
from tools import permits
from tools.errors import UnknownTool


def stands(job: Job, step: Step, *, now: datetime) -> bool:
    """May this step begin, which was let through? False: it was decided on anew, and went to people, to its end or to a
    later message.

    The caller holds the locks of the step's approval, where it has one, and of its job. The step's permit may be another
    one afterwards.
    """
    old = Decision.from_json(step.decision) if step.decision else Decision(effect="")
    known = published.of(published.ids())
    if old.versions == known.digest and not old.passing and not known.frozen(step.tool, now):
        return True
    before = gate.call_of(step).digest()
    try:
        new, risk = gate.decide(job, step, now=now, claiming=True)
    except UnknownTool as error:  # taken away, or disabled, since it was let through
        _anew(job, step, error.message, now=now)
        return False
    same_rule = (new.policy, new.policy_version_id, new.rule) == (old.policy, old.policy_version_id, old.rule)
    same = same_rule and new.effect == old.effect and new.constraints == old.constraints
    if (new.effect != ALLOW and not (same and new.effect == ASK)) or (step.approval_id is not None and not same):
        _anew(job, step, _changed(old, new), now=now)
        return False
    kept = {name: value for name, value in (step.decision or {}).items() if name == "grant"}
    step.decision, step.risk = {**new.as_json(), **kept}, str(risk.level)
    changes: dict[str, object] = {"decision": step.decision, "risk": step.risk, "provenance": step.provenance}
    if not same:
        gate.record_decision(step, new, risk)
    if step.permit_id is not None and gate.call_of(step).digest() != before:
        permits.withdraw(step.permit_id)
        by = f"policy {new.policy} rule {new.rule}" if step.approval_id is None else f"approval {step.approval_id}"
        permit = permits.issue(subject=str(step.pk), digest=gate.call_of(step).digest(), granted_by=by, now=now)
        step.permit_id = changes["permit_id"] = permit.pk
    Step.objects.filter(pk=step.pk).update(**changes)
    return True


def _changed(old: Decision, new: Decision) -> str:
    """Why it is decided anew, in a sentence."""
    was = f"{old.policy} rule {old.rule}" if old.rule else "an earlier policy"
    now = f"{new.policy} rule {new.rule} says {new.effect}" if new.rule else new.reason
    return f"The policy has changed since {was} let it through: {now}"[:500]


def _anew(job: Job, step: Step, why: str, *, now: datetime) -> None:
    if step.approval_id is not None:
        recheck.ask_anew(job, step, why, now=now)
        return
    record(
        Event.STEP_REQUEUED,
        actor=gate.POLICY,
        target=step_target(step),
        outcome="decided_anew",
        context=step_facts(step),
        payload={"why": why},
    )
    recheck.let_go(step, now=now)
    if not paused(job):
        gate.gate(job, step, now=now)
    advance(job, now=now)
