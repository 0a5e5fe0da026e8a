"""The model's turn, as a tool of the engine: reads the job's rows, asks the endpoint, gives back what it wants next."""

from collections.abc import Mapping
from typing import Any, ClassVar

from agents.llm import compaction, conversation, functions
from agents.llm.asking import ModelTool, job_of, used
from agents.llm.gateway import Asking, ThinkFailed, ask, targets_for
from agents.llm.judge import Verdict, judge, repair_messages
from agents.llm.stuck import stuck
from agents.llm.values import Answer, Usage
from agents.models import Capability, Job
from tools.spec import Box, Result

REPAIRS = 2


class Think(ModelTool):
    """One model call, with its repairs.

    Fails with the codes of `agents.llm.errors` and: `stuck` (the agent goes round in circles), `budget_exhausted` (the
    job's tokens would not cover the call), `invalid_answer` (still unusable after the repairs).
    """

    name: ClassVar[str] = "llm.think"
    summary: ClassVar[str] = "Asks the model what to do next."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"turn": {"type": "integer", "minimum": 1}},
        "required": ["turn"],
        "additionalProperties": False,
    }
    examples = ({"turn": 1},)
    offered: ClassVar[bool] = False

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return f"ask the model, turn {arguments['turn']}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        """Raises ThinkFailed."""
        job, step = job_of(box)
        talk = conversation.build(job)
        talking = job.kind == Job.Kind.CHAT
        why = stuck(talk.history)
        if why:
            raise ThinkFailed("stuck", f"The agent is stuck: {why}.")
        targets = targets_for(job, needs={Capability.CHAT, Capability.TOOLS})
        upto = compaction.upto(job, talk.turns, targets, beside=talk.beside)
        if upto:
            words = f"The conversation is long: its first {upto} turns are put into a few words first."
            return Result(ok=True, summary=words, data={"tool_calls": [], "finish": None, "compact": {"upto": upto}})
        asking = Asking(
            job=job,
            step=step,
            turn=int(arguments["turn"]),
            targets=targets,
            tools=talk.tools,
            functions=functions.as_functions(talk.tools)[:-1] if talking else None,  # all but `finish`
            box=box,
        )
        return _converse(asking, talk.messages, talking=talking)


def _converse(asking: Asking, messages: list[dict[str, Any]], *, talking: bool = False) -> Result:
    """Asks until the answer can be used, at most 1 + REPAIRS times."""
    spent = Usage(prompt_tokens=0, completion_tokens=0)
    verdict = Verdict(content="")
    for round in range(REPAIRS + 1):
        answer = ask(asking, messages)
        spent += answer.usage
        verdict = judge(answer, asking.tools, turn=asking.turn, round=round, talking=talking)
        if not verdict.problems:
            return _result(answer, verdict, spent)
        asking.box.log(f"The answer cannot be used: {_words(verdict)}\n")
        messages = [*messages, *repair_messages(answer, verdict, turn=asking.turn, round=round)]
    raise ThinkFailed(
        "invalid_answer", f"The model's answer cannot be used, after {REPAIRS} repairs: {_words(verdict)}"
    )


def _result(answer: Answer, verdict: Verdict, spent: Usage) -> Result:
    if verdict.finish is not None:
        summary = f"{'Finishes' if answer.calls else 'Answers'}: {verdict.finish['summary']}"
    else:
        summary = "Asks for " + ", ".join(wish.name for wish in verdict.wishes)
    return Result(
        ok=True,
        summary=summary[:300],
        text=verdict.content,
        data={
            "content": verdict.content,
            "tool_calls": [wish.as_json() for wish in verdict.wishes],
            "finish": verdict.finish,
            **used(answer, spent),
        },
    )


def _words(verdict: Verdict) -> str:
    return " ".join(why for _, why in verdict.problems)[:1000]
