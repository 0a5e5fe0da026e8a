"""Before a step runs: the published policies allow it, refuse it, or ask people."""

from datetime import datetime
from typing import Any

from agents.engine import dispatch, fanout, grants
from agents.engine.transitions import move_step, step_facts, step_target
from agents.models import Job, Step
from agents.states import JobState, StepState
from approvals import requests
from approvals.policy.evaluate import Decision, PolicyInput, evaluate
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import batch, permits, registry
from tools.errors import UnknownTool
from tools.spec import Call, Risk, RiskScore

POLICY = Actor.system("policy")
_RISKS = [Risk.LOW, Risk.MEDIUM, Risk.HIGH]


def call_of(step: Step) -> Call:
    """The exact call that the step stands for, with what an approver saw where one was asked."""
    return Call(
        tool=step.tool,
        schema_version=step.schema_version,
        arguments=step.arguments,
        workspace_id=str(step.workspace_of or step.job_id),
        target_state=step.target_state,
        preview_digest=step.preview_digest,
        many=step.kind == Step.Kind.CHUNK,
    )


def risk_of(step: Step) -> RiskScore:
    """Of the step's call; of many calls, the highest."""
    tool = registry.get(step.tool)
    scores = [tool.risk(arguments) for arguments in batch.arguments_of(call_of(step))]
    return max(scores, key=lambda score: _RISKS.index(score.level))


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
        # the step is older than the code: its tool was taken away
        _refuse(step, error.code, error.message, now=now)
        return
    if not grants.covers(job.grant, tool):
        _refuse(step, "beyond_grant", f"{tool.name} is more than this job was given to use.", now=now)
        return
    risk = risk_of(step)
    given = policy_input(job, step, risk)
    decision = fanout.decide(step, given) if step.kind == Step.Kind.CHUNK else evaluate(given)
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


def _refuse(step: Step, code: str, message: str, *, now: datetime) -> None:
    """The step ends here, whatever the policies say, and what needs it with it."""
    move_step(
        step,
        StepState.REFUSED,
        now=now,
        event=Event.STEP_REFUSED,
        actor=POLICY,
        outcome=code,
        error_code=code,
        error=message,
        not_before=None,
    )


def grant(step: Step, *, granted_by: str, now: datetime, changes: dict[str, Any] | None = None) -> None:
    """Issues the permit for this exact call and queues the step; one that is a job of its own waits for that job."""
    permit = permits.issue(subject=str(step.pk), digest=call_of(step).digest(), granted_by=granted_by, now=now)
    changes = changes or {}
    if step.kind == Step.Kind.JOB:
        _wait_for_child(step, now=now, changes={**changes, "permit_id": permit.pk, "ready_at": now, "spec": None})
        return
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


def _wait_for_child(step: Step, *, now: datetime, changes: dict[str, Any]) -> None:
    if step.state == StepState.PENDING:
        Step.objects.filter(pk=step.pk).update(**changes)
        for name, value in changes.items():
            setattr(step, name, value)
    else:
        move_step(step, StepState.PENDING, now=now, **changes)
    dispatch.start_child_after_commit(step)


def again(job: Job, step: Step, *, now: datetime, not_before: datetime | None = None) -> None:
    """Lets a lost or failed attempt run again: what people approved stays approved (the runner compares what they
    saw), everything else is decided anew by today's policies."""
    step.not_before = not_before
    if job.state == JobState.PAUSED:
        kept: dict[str, Any] = {"approval_id": step.approval_id, "not_before": not_before}
        move_step(step, StepState.PENDING, now=now, lease_until=None, dispatched_at=None, **kept)
        return
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
