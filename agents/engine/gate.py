"""Before a step runs: the published policies allow it, refuse it, or ask people."""

from datetime import datetime
from typing import Any

from agents.engine import dispatch, facts, fanout, grants, leave
from agents.engine.transitions import move_step, step_facts, step_target
from agents.models import Job, Step
from agents.states import JobState, StepState
from approvals import requests
from approvals.policy import published
from approvals.policy.evaluate import Decision, PolicyInput, evaluate_by
from audit.actor import Actor
from audit.append import record
from audit.kinds import Event
from tools import batch, permits, registry
from tools import risk as risks
from tools.errors import UnknownTool
from tools.spec import Call, RiskScore

POLICY = Actor.system("policy")


def call_of(step: Step) -> Call:
    """The exact call that the step stands for, with what an approver saw where one was asked, and how it must run."""
    decision = step.decision or {}
    return Call(
        tool=step.tool,
        schema_version=step.schema_version,
        arguments=step.arguments,
        workspace_id=str(step.workspace_of or step.job_id),
        target_state=step.target_state,
        preview_digest=step.preview_digest,
        many=step.kind == Step.Kind.CHUNK,
        policy=decision.get("policy_version_id") or "",
        constraints=decision.get("constraints") or {},
    )


def place_of(job: Job) -> risks.Place:
    """Where its calls act, as far as that makes them more dangerous."""
    if job.repository is None:
        return risks.Place()
    return risks.Place(default_branch=job.repository.default_branch, environment=job.repository.environment)


def risk_of(step: Step, job: Job | None = None) -> RiskScore:
    """Of the step's call; of many calls, the highest. A model's opinion of it may raise the risk, never lower it."""
    tool = registry.get(step.tool)
    calls = batch.arguments_of(call_of(step))
    return risks.assess_each(tool, calls, place_of(job or step.job), opinion=risks.opinion_of(step.opinion))


def policy_input(job: Job, step: Step, risk: RiskScore, *, now: datetime | None = None) -> PolicyInput:
    """What the policies see of a call, but for what has to be looked up (`agents.engine.facts`)."""
    return PolicyInput(
        tool=step.tool,
        arguments=step.arguments,
        effect=step.effect,
        queue=step.queue,
        risk=str(risk.level),
        risk_score=risk.score,
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
        tenant=facts.tenant_name(job),
        environment=job.repository.environment if job.repository else "",
        now=now,
    )


def decide(job: Job, step: Step, *, now: datetime, claiming: bool = False) -> tuple[Decision, RiskScore]:
    """What is in force says of the step's call, and its risk. A chunk's items that are denied alone leave it here.

    claiming: it begins now, so that what was spent is counted one call after the other.

    Raises:
        UnknownTool
    """
    versions = published.ids()
    needs = published.of(versions).needs(step.tool, str(step.effect))
    risk = risk_of(step, job)
    given = policy_input(job, step, risk, now=now)
    given = facts.with_facts(given, job, step, needs.facts, now=now, claiming=claiming)
    if step.kind == Step.Kind.CHUNK:
        return fanout.decide(step, given, versions, needs, place_of(job)), risk
    return evaluate_by(versions, given), risk


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
    decision, risk = decide(job, step, now=now)
    changes: dict[str, Any] = {
        "decision": decision.as_json(),
        "risk": str(risk.level),
        "provenance": step.provenance,
        "ready_at": now,
        "approval_id": None,
        "target_state": {},
        "preview_digest": "",
        "lease_until": None,
    }
    step.target_state, step.preview_digest, step.decision = {}, "", decision.as_json()
    record_decision(step, decision, risk)
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
    elif decision.effect == "ask" and (given := leave.by_grant(job, step, decision, risk, now=now)) is not None:
        changes["decision"] = {**decision.as_json(), **leave.told(given)}
        grant(step, granted_by=f"grant {given.pk}", now=now, changes=changes)
    elif decision.effect == "ask":
        move_step(step, StepState.READY, now=now, dispatched_at=now, **changes)
        dispatch.after_commit(step)
    else:
        grant(step, granted_by=f"policy {decision.policy} rule {decision.rule}", now=now, changes=changes)


def record_decision(step: Step, decision: Decision, risk: RiskScore) -> None:
    """Says in the audit log what was decided about the step's call as it is now."""
    record(
        Event.STEP_DECIDED,
        actor=POLICY,
        target=step_target(step),
        outcome=decision.effect,
        context=step_facts(
            step,
            policy=decision.policy,
            rule=decision.rule,
            digest=call_of(step).digest(),
            risk=str(risk.level),
            **facts.recorded_facts(decision),
        ),
        payload={"reason": decision.reason},
    )


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
    """What an approver reads about where a request comes from. `reason` is the agent's own words, or where `by_agent` is
    false those of whoever wrote the plan: untrusted."""
    return {
        "goal": job.goal,
        "agent": job.agent.name if job.agent else "",
        "requester": job.owner.get_username(),
        **leave.place(job),
        "step": step.key,
        "queue": step.queue,
        "risk_score": ((step.decision or {}).get("facts") or {}).get("score", 0),
        "reason": step.reason,
        "by_agent": job.led,
        "labels": job.labels,
        **({"provenance": step.provenance} if step.provenance else {}),
    }


def proposer(job: Job) -> Actor:
    """Who proposes a job's steps: its agent, for its owner, or the owner with an own plan."""
    if job.agent is not None and job.led:
        return Actor.agent(job.agent.name, on_behalf_of=job.owner.pk)
    return Actor.user(job.owner.pk)
