"""What a turn of a conversation knows of it: the summary of its older part, the turns since with the calls they made, and
what became of the jobs that were started from it."""

from collections.abc import Callable
from typing import Any

from agents.llm import transcript
from agents.llm.transcript import Turn
from agents.models import Job, Step
from agents.states import JobState

HISTORY_CHARS = 120_000  # of turns before this one; older ones give way
SHOWN_CHARS = 12_000  # of one message or answer of an earlier turn
OUTCOME_CHARS = 4000  # of a job that was started from here
SERVER = "[From the server]"
PROPOSE = "job.propose"

ENDS = """\
This is a conversation: to answer, write plain text (or Markdown) and call no function, and the person reads it at once. \
Call functions only where the answer needs them. Work that takes long, or that people should follow and approve by itself, \
is better a job of its own: offer it with `job.propose`, and the person starts it with one press, or does not."""


def before(job: Job, read: Callable[[list[Step]], list[Turn]]) -> list[dict[str, Any]]:
    """The conversation before this turn, as messages; nothing for a job that is no turn of one.

    read: gives a job's model turns from its steps.
    """
    talk = job.conversation
    if talk is None or job.kind != Job.Kind.CHAT:
        return []
    earlier = Job.objects.filter(conversation=talk, created_at__lt=job.created_at).exclude(pk=job.pk)
    if talk.summarised_to is not None:
        earlier = earlier.filter(created_at__gt=talk.summarised_to)
    found: list[list[dict[str, Any]]] = []
    size = 0
    left_out = False
    for one in earlier.order_by("-created_at", "-pk")[:200]:
        part = _turn(one, read) if one.kind == Job.Kind.CHAT else [_started(one)]
        size += sum(len(str(message)) for message in part)
        if found and size > HISTORY_CHARS:
            left_out = True
            break
        found.append(part)
    messages = [message for part in reversed(found) for message in part]
    if talk.summary:
        messages.insert(0, _note(f"What was said before, in short (it may be wrong in detail):\n{talk.summary}"))
    elif left_out:
        messages.insert(0, _note("Older messages are left out here."))
    return messages


def _turn(job: Job, read: Callable[[list[Step]], list[Turn]]) -> list[dict[str, Any]]:
    turns = read(list(Step.objects.filter(job=job).order_by("seq")))
    calls = [turn for turn in turns if turn.calls]
    # outputs are cut short: they can be asked for again
    return [
        {"role": "user", "content": transcript.shorten(job.goal, SHOWN_CHARS)},
        *transcript.messages([*calls, Turn(content="")], limit_chars=0)[:-1],
        {"role": "assistant", "content": _answer(job)},
    ]


def _answer(job: Job) -> str:
    if job.state == JobState.SUCCEEDED:
        return transcript.shorten(job.outcome, SHOWN_CHARS)
    why = f" {job.outcome[:OUTCOME_CHARS]}" if job.outcome else ""
    return f"(No answer: this turn {job.state}.{why})"


def _started(job: Job) -> dict[str, Any]:
    facts = f"The job {job.pk}, which was started from this conversation, is {job.state}. Its goal: {job.goal[:500]}"
    if job.outcome:
        facts += f"\nWhat it reports, which nobody vouches for:\n{transcript.shorten(job.outcome, OUTCOME_CHARS)}"
    return _note(facts)


def _note(text: str) -> dict[str, Any]:
    return {"role": "user", "content": f"{SERVER} {text}"}
