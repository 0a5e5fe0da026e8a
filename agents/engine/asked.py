"""What an approver asks back, answered by the agent that proposed the call: a model's turn as a step of its job, decided
on as any other. Where there is no agent, or it cannot answer, the job's owner does."""

import logging
from datetime import datetime

from agents.engine import intake
from agents.engine.advance import advance
from agents.engine.gate import proposer
from agents.engine.transitions import lock_job_of
from agents.models import Job, Step
from agents.states import JOB_DONE, STEP_DONE, StepState
from approvals import comments
from approvals.errors import DecisionError
from approvals.models import Comment

log = logging.getLogger(__name__)

TOOL = "llm.complete"
KEY = "asked-"
BATCH = 100
CONTEXT_MAX, ANSWER_MAX = 20_000, 4000
_PROMPT = """\
You proposed a call of a tool, and a person who must approve it asks you about it. Answer in a few plain sentences, \
truthfully and about this call alone; say so where you do not know. You cannot change the call by what you say here.

The question: {question}"""


def ask(comment: Comment, now: datetime) -> bool:
    """The hook of `approvals.hooks.on_asked_back`. False: there is no agent that could answer."""
    request = comment.request
    if request.subject_type != "step":
        return False
    try:
        job = lock_job_of(request.subject_id)  # type: ignore[arg-type]
    except Job.DoesNotExist:
        return False
    step = Step.objects.filter(pk=request.subject_id, approval_id=request.pk).first()
    if step is None or job.agent is None or not job.led or job.state in JOB_DONE:
        return False
    if job.tokens_used >= job.max_tokens or Step.objects.filter(job=job).count() >= job.max_steps:
        return False
    context = f"Goal: {job.goal}\n\nThe call: {request.command}\n\nYour reason for it: {step.reason}\n\n"
    context += f"Its preview:\n{request.preview}"
    arguments = {
        "prompt": _PROMPT.format(question=comment.text),
        "context": context if len(context) <= CONTEXT_MAX else f"{context[:CONTEXT_MAX]}\n[cut]",
    }
    question = intake.NewStep(key=key_of(comment), tool=TOOL, arguments=arguments, reason="An approver asks back.")
    intake.add_steps(job, [question], now=now, actor=proposer(job), proposed_by=step.proposed_by)
    advance(job, now=now)
    return True


def answer_all(now: datetime) -> int:
    """Takes over the answers that are there, and says where there will be none. How many. The sweeper does so."""
    waiting = Comment.objects.filter(state=Comment.State.OPEN, request__subject_type="step").select_related("request")
    return sum(_answer(comment, now) for comment in waiting.order_by("at")[:BATCH])


def key_of(comment: Comment) -> str:
    """Of the step that answers it."""
    return f"{KEY}{comment.pk.hex[-12:]}"


def _answer(comment: Comment, now: datetime) -> bool:
    steps = Step.objects.select_related("job__agent").filter(job_id=comment.request.parent_id, key=key_of(comment))
    step = steps.first()
    if step is None or step.state not in STEP_DONE:
        return False
    try:
        if step.state == StepState.SUCCEEDED and step.result is not None and step.job.agent is not None:
            text = str(step.result.get("text") or step.result.get("summary") or "")[:ANSWER_MAX]
            comments.answer(comment_id=comment.pk, text=text, answered_by=f"agent:{step.job.agent.name}", now=now)
        else:
            comments.fail(comment_id=comment.pk, why=f"The agent could not answer: {step.error}", now=now)
    except DecisionError as error:
        log.warning("comment.not_answered", extra={"comment": str(comment.pk), "code": error.code})
        comments.fail(comment_id=comment.pk, why=error.message, now=now)
    return True
