"""A conversation that grows too long is put into a few words, and goes on from there.

The rows stay as they are: the summary is a step of its own (`llm.compact`), and says how many of the job's turns it stands
for. The conversation that is built next holds it in their place, and the turns since whole. What it summarises is what
others wrote, so its result bears the labels of all that it read; no instruction in it counts.
"""

import json
from collections.abc import Sequence

from agents.llm import transcript
from agents.llm.conversation import COMPACT
from agents.llm.routing import Target
from agents.llm.transcript import Turn
from agents.llm.values import estimate_tokens
from agents.models import Job, Step
from agents.states import StepState

KEEP = 4  # of the newest turns, which stay whole
LEAST = 3  # turns, below which it is not worth a call
SHARE = 0.6  # of the room that there is, above which a conversation is too long


def upto(job: Job, turns: list[Turn], targets: Sequence[Target], *, beside: int) -> int:
    """How many of the job's first turns a summary is to stand for now; 0: the conversation is short enough, or a summary
    was tried for nearly as many. beside: characters of the messages that stand before the turns."""
    wanted = len(turns) - KEEP
    if wanted < LEAST:  # as in most jobs: nothing is asked of the database
        return 0
    known = list(Step.objects.filter(job=job, tool=COMPACT).order_by("seq").values_list("arguments__upto", "state"))
    if wanted - max((int(one) for one, _ in known), default=0) < LEAST:
        return 0
    start = next((int(one) for one, state in reversed(known) if state == StepState.SUCCEEDED), 0)
    size = beside + len(json.dumps(transcript.whole(turns[start:]), ensure_ascii=False))
    return wanted if size > SHARE * _room(targets) else 0


def _room(targets: Sequence[Target]) -> float:
    """Characters that fit every endpoint that may be asked, and our own bound."""
    tokens = [
        one.context_tokens - min(one.output_tokens, one.context_tokens // 4) for one in targets if one.context_tokens
    ]
    a_token = 1000 / estimate_tokens(1000)
    return min([transcript.CONVERSATION_LIMIT_CHARS, *(one * a_token for one in tokens)])
