"""Before a step runs: the published policies allow it, refuse it, or ask people."""

from datetime import datetime
from typing import Any

from agents.engine import dispatch
from agents.engine.transitions import move_step, step_facts, step_target
from agents.models import Job, Step
from agents.states import StepState
from approvals import requests
from approvals.policy.evaluate import Decision, PolicyInput, evaluate
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import permits, registry
from tools.errors import UnknownTool
from tools.spec import Call, RiskScore

POLICY = Actor.system("policy")


def call_of(step: Step) -> Call:
    """The exact call that the step stands for, with what an approver saw where one was asked."""
    return Call(
        tool=step.tool,
        schema_version=step.schema_version,
        arguments=step.arguments,
        workspace_id=str(step.job_id),
        target_state=step.target_state,
        preview_digest=step.preview_digest,
    )


def risk_of(step: Step) -> RiskScore:
    return registry.get(step.tool).risk(step.arguments)


def policy_input(job: Job, step: Step, risk: RiskScore) -> PolicyInput:
    """What the policies see of a call."""
    return PolicyInput(
        tool=step.tool,
        arguments=step.arguments,
        effect=step.effect,
        queue=step.queue,
        risk=str(risk.level),
        agent=job.agent.name if job.agent else "",
        owner=job.owner.get_username(),
        owner_id=job.owner.pk,
        groups=sorted(job.owner.groups.values_list("name", flat=True)),
        repository=job.repository.name if job.repository else "",
        branch=job.repository.default_branch if job.repository else "",
        labels=job.labels,
        job_id=str(job.pk),
        step_id=str(step.pk),
        kind=job.kind,
    )


def gate(job: Job, step: Step, *, now: datetime) -> None:
    """Decides on a step whose needs are met (or that must run again) and moves it on.

    The job's row is locked by the caller. Afterwards the step is queued, ready (a worker makes the preview for the
    approvers), waiting_approval (a question to people) or refused.
    """
    try:
        tool = registry.get(step.tool)
    except UnknownTool as error:
        _no_such_tool(step, error, now=now)
        return
    risk = risk_of(step)
    decision = evaluate(policy_input(job, step, risk))
    changes: dict[str, Any] = {
        "decision": decision.as_json(),
        "risk": str(risk.level),
        "ready_at": now,
        "approval_id": None,
        "target_state": {},
        "preview_digest": "",
        "lease_until": None,
    }
    step.target_state, step.preview_digest = {}, ""
    call = call_of(step)
    record(
        Event.STEP_DECIDED,
        actor=POLICY,
        target=step_target(step),
        outcome=decision.effect,
        context=step_facts(
            step, policy=decision.policy, rule=decision.rule, digest=call.digest(), risk=str(risk.level)
        ),
        payload={"reason": decision.reason},
    )
    if decision.effect == "deny":
        move_step(
            step,
            StepState.REFUSED,
            now=now,
            event=Event.STEP_REFUSED,
            actor=POLICY,
            outcome="denied",
            context={"policy": decision.policy, "rule": decision.rule},
            error_code="policy_denied",
            error=decision.reason or "No published policy allows this call.",
            **changes,
        )
    elif tool.asks_person:
        ask_question(job, step, decision, now=now, changes=changes)
    elif decision.effect == "ask":
        move_step(step, StepState.READY, now=now, dispatched_at=now, **changes)
        dispatch.after_commit(step)
    else:
        grant(step, granted_by=f"policy {decision.policy} rule {decision.rule}", now=now, changes=changes)


def _no_such_tool(step: Step, error: UnknownTool, *, now: datetime) -> None:
    """The step is older than the code: its tool was taken away. It ends here, and its job with it."""
    move_step(
        step,
        StepState.REFUSED,
        now=now,
        event=Event.STEP_REFUSED,
        actor=POLICY,
        outcome=error.code,
        error_code=error.code,
        error=error.message,
        not_before=None,
    )


def grant(step: Step, *, granted_by: str, now: datetime, changes: dict[str, Any] | None = None) -> None:
    """Issues the permit for this exact call and queues the step."""
    permit = permits.issue(subject=str(step.pk), digest=call_of(step).digest(), granted_by=granted_by, now=now)
    changes = changes or {}
    not_before = changes.get("not_before", step.not_before)
    waits = not_before is not None and not_before > now
    move_step(
        step,
        StepState.QUEUED,
        now=now,
        permit_id=permit.pk,
        dispatched_at=None if waits else now,
        **changes,
    )
    if not waits:
        dispatch.after_commit(step)


def again(job: Job, step: Step, *, now: datetime, not_before: datetime | None = None) -> None:
    """Lets a lost or failed attempt run again: what people approved stays approved (the runner compares what they
    saw), everything else is decided anew by today's policies."""
    step.not_before = not_before
    if step.approval_id is not None:
        grant(
            step,
            granted_by=f"approval {step.approval_id}",
            now=now,
            changes={"not_before": not_before, "lease_until": None},
        )
        return
    Step.objects.filter(pk=step.pk).update(not_before=not_before)
    gate(job, step, now=now)


def ask_question(job: Job, step: Step, decision: Decision, *, now: datetime, changes: dict[str, Any]) -> None:
    """Turns a `human.ask` step into a question that waits for a person; no worker waits with it."""
    request = requests.open_question(
        subject_type="step",
        subject_id=str(step.pk),
        parent_id=str(job.pk),
        parent_path=job.get_absolute_url(),
        question=str(step.arguments.get("question", "")),
        context=request_context(job, step),
        requester_id=job.owner.pk,
        approvers_id=decision.approvers_id,
        now=now,
        actor=proposer(job),
    )
    changes["approval_id"] = request.pk
    move_step(step, StepState.WAITING_APPROVAL, now=now, **changes)


def request_context(job: Job, step: Step) -> dict[str, Any]:
    """What an approver reads about where a request comes from. `reason` is the agent's own words: untrusted."""
    return {
        "goal": job.goal,
        "agent": job.agent.name if job.agent else "",
        "requester": job.owner.get_username(),
        "repository": job.repository.name if job.repository else "",
        "step": step.key,
        "queue": step.queue,
        "reason": step.reason,
        "labels": job.labels,
    }


def proposer(job: Job) -> Actor:
    """Who proposes a job's steps: its agent, for its owner, or the owner with an own plan."""
    if job.agent is not None and job.kind == Job.Kind.GOAL:
        return Actor.agent(job.agent.name, on_behalf_of=job.owner.pk)
    return Actor.user(job.owner.pk)
