"""What a delegated job may use: never more than who delegated it.

`Job.grant` holds a list of tool patterns for each level above: a call must be covered by every one of them. A person's
own job has none, and the policies alone decide.
"""

from collections.abc import Sequence

from agents.models import Job
from approvals.policy.match import matches
from tools.spec import Tool


def covers(grant: Sequence[Sequence[str]], tool: Tool) -> bool:
    """May a job with this grant use the tool? The engine's own tools, and a question to a person, are always covered."""
    return not tool.offered or tool.asks_person or all(matches(patterns, tool.name) for patterns in grant)


def for_child(job: Job, tools: Sequence[str] | None) -> list[list[str]]:
    """The grant of a job that `job` delegates to: its own, what its agent may use, and what it hands on."""
    grant = [list(patterns) for patterns in job.grant]
    if job.agent is not None:
        grant.append(list(job.agent.tools))
    if tools is not None:
        grant.append(list(tools))
    return grant
