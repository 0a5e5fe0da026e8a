"""Rows of jobs and steps as the engine would have left them, for code that reads them."""

from typing import Any

from django.utils import timezone

from agents.models import Agent, Job, Step
from tests.factories.people import user
from tests.factories.states import job_in, step_in


def agent(name: str = "tester", *, tools: tuple[str, ...] = ("test.*",), **fields: Any) -> Agent:
    made, _ = Agent.objects.update_or_create(
        name=name, defaults={"instructions": "Be brief.", "tools": list(tools), **fields}
    )
    return made


def goal_job(goal: str = "look around", **fields: Any) -> Job:
    fields.setdefault("agent", agent())
    return job_in("running", kind=Job.Kind.GOAL, goal=goal, owner=user("ada"), created_at=timezone.now(), **fields)


def step(job: Job, key: str, tool: str, *, state: str = "succeeded", **fields: Any) -> Step:
    """A step at the end of the job's list; `result` may be partial."""
    if state == "running":
        fields.setdefault("lease_until", timezone.now())
        fields.setdefault("attempt", 1)
    return step_in(
        state,
        job=job,
        seq=Step.objects.filter(job=job).count() + 1,
        key=key,
        tool=tool,
        effect="read",
        queue="shell",
        created_at=timezone.now(),
        **fields,
    )


def turn(job: Job, number: int, *calls: tuple[str, dict[str, Any]], content: str = "so") -> Step:
    """An ended model turn that asked for `calls` (tool, arguments), with call ids `c<turn>.<n>`."""
    wishes = [
        {"id": f"c{number}.{n}", "name": name, "arguments": arguments, "reason": "Because."}
        for n, (name, arguments) in enumerate(calls, start=1)
    ]
    data = {"content": content, "tool_calls": wishes, "finish": None}
    return step(job, f"think-{number}", "llm.think", arguments={"turn": number}, result={"ok": True, "data": data})


def answered(job: Job, by: Step, number: int, tool: str, **fields: Any) -> Step:
    """The step of call `number` of the turn `by`."""
    turn_number = by.arguments["turn"]
    return step(job, f"{turn_number}.{number}", tool, proposed_by=by, tool_call_id=f"c{turn_number}.{number}", **fields)
