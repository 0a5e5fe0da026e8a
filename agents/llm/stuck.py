"""Does the agent go round in circles? Told by its last calls alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

SAME_RESULT_TIMES = 4
SAME_ERROR_TIMES = 3
PING_PONG_CALLS = 6

# What differs between two runs of the same command and means nothing: durations, addresses, process ids.
_NOISE = re.compile(r"\b\d+\.\d+\s?(?:ms|s|sec|seconds)\b|0x[0-9a-fA-F]{6,}|\bpid \d+\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One ended call. call: tool and canonical arguments; result: what the model read of it; ok: it did what it says."""

    tool: str
    call: str
    result: str
    ok: bool


def stuck(history: Sequence[Seen]) -> str:
    """Why the agent is stuck, in words, or "". Looks at the end of `history` (oldest first).

    The same call with the same result four times in a row, the same error of the same tool three times in a row, or
    six calls that alternate between two and always end the same.
    """
    last = list(history[-PING_PONG_CALLS:])
    if not last:
        return ""
    marks = [(one.call, _NOISE.sub("#", one.result)) for one in last]
    if _all_same(marks, SAME_RESULT_TIMES):
        return f"the same call of {last[-1].tool} gave the same result {SAME_RESULT_TIMES} times"
    errors = [(one.tool, mark[1]) if not one.ok else None for one, mark in zip(last, marks, strict=True)]
    if errors[-1] is not None and _all_same(errors, SAME_ERROR_TIMES):
        return f"{last[-1].tool} failed with the same error {SAME_ERROR_TIMES} times"
    if len(marks) == PING_PONG_CALLS and marks[0] != marks[1] and marks[2:] == marks[:-2]:
        return f"the last {PING_PONG_CALLS} calls alternate between the same two"
    return ""


def _all_same(marks: Sequence[object], times: int) -> bool:
    return len(marks) >= times and len(set(marks[-times:])) == 1
