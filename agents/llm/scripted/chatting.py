"""A conversation: the stand-in looks at files, asks back, or offers a job, by plain words; else it says what it is."""

import re

from agents.llm.scripted.look import WHO
from agents.llm.scripted.scene import Ask, Move, Scene

PROPOSE, ASK, LIST = "job.propose", "human.ask", "files.list"
SHOWN = 20


def title(context: str) -> str:
    """The first words of what stands between the tags."""
    inside = re.search(r"<context>(.*?)</context>", context, re.DOTALL)
    words = re.sub(r"[^\w\s'-]+", " ", inside[1] if inside else context).split()
    return " ".join(words[:6]) or "A conversation"


def asked(scene: Scene) -> bool:
    """Is this a turn of a conversation? Only there is a job offered."""
    return scene.has(PROPOSE)


def move(scene: Scene) -> Move:
    if not scene.fresh and scene.done:
        return Move(words=_read(scene))
    words = scene.message.lower()
    if re.search(r"\bask me\b", words):
        return Move(words="", asks=(Ask(name=ASK, arguments={"question": "What should I know before I begin?"}),))
    if re.search(r"\b(job|fix|repair|change|implement|write|add)\b", words):
        return Move(words="", asks=(Ask(name=PROPOSE, arguments={"goal": scene.message.strip()}),))
    if re.search(r"\b(files?|repository|look)\b", words) and scene.has(LIST):
        return Move(
            words="I look at the files first.", asks=(Ask(name=LIST, arguments={}, reason="To see what is there."),)
        )
    said = " ".join(scene.message.split())[:200]
    return Move(
        words=f"{WHO} It understands few words of “{said}”. It can **look** at files, **ask me** something, or offer "
        "a **job**: use one of these words."
    )


def _read(scene: Scene) -> str:
    """What came of its last call."""
    last = scene.done[-1]
    if last.name == PROPOSE:
        return "The offer stands below: start it, change it first, or leave it."
    if last.name == ASK:
        return f"Thank you. You answered: {(last.line or last.text).removeprefix('by a person: ')}"
    if last.name == LIST and last.ok:
        names = last.text.split("\n")
        more = f"\n\n…and {len(names) - SHOWN} more." if len(names) > SHOWN else ""
        return "These files are there:\n\n```\n" + "\n".join(names[:SHOWN]) + "\n```" + more
    return f"{last.name} ended {last.status}: {last.line}"
