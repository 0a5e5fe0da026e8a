"""Titles and transcripts. Pure."""

from collections.abc import Sequence

from agents.models import Job
from approvals.visible import hidden, visible

TRANSCRIPT_CHARS = 160_000
PART_CHARS = 16_000


def one_line(text: str, limit: int) -> str:
    """The text on one line, without characters that hide or turn it, cut at a word where it is too long."""
    flat = " ".join("".join(" " if hidden(letter) else letter for letter in text).split())
    if len(flat) <= limit:
        return flat
    head = flat[: limit - 1]
    return f"{head.rsplit(' ', 1)[0] if ' ' in head[limit // 2 :] else head}…"


def shown(text: str) -> str:
    """The text with marks for what hides in it or turns it; lines end as they do in forms or not, it is the same."""
    return visible(text.replace("\r\n", "\n"))


def transcript(summary: str, jobs: Sequence[Job]) -> str:
    """What was said, in order, for a model that sums it up: from the newest back as far as there is room."""
    parts: list[str] = []
    room = TRANSCRIPT_CHARS - len(summary)
    for job in reversed(jobs):
        part = _part(job)
        room -= len(part)
        if room < 0 and parts:
            parts.append("(Some of it is left out here.)")
            break
        parts.append(part)
    before = [f"Summary of what came before:\n{summary}"] if summary else []
    return "\n\n".join([*before, *reversed(parts)])


def _part(job: Job) -> str:
    answer = _cut(job.outcome) or f"(no answer: {job.state})"
    if job.kind != Job.Kind.CHAT:
        return f"A job was started, and is {job.state}. Its goal: {_cut(job.goal)}\nIts outcome: {answer}"
    return f"Person: {_cut(job.goal)}\n\nAgent: {answer}"


def _cut(text: str) -> str:
    return text if len(text) <= PART_CHARS else f"{text[:PART_CHARS]} [cut]"
