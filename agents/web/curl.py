"""A job as the commands that read it and submit it again. Pure."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from agents.engine.intake import PREPARE
from agents.models import Job, Step

_AUTH = '-H "Authorization: Bearer $COUNTERSIGN_TOKEN"'


def read_command(job: Job) -> str:
    return f"curl -sS {shlex.quote(f'{settings.PUBLIC_URL}/api/v1/jobs/{job.pk}')} \\\n  {_AUTH}"


def submit_command(job: Job, steps: Sequence[Step]) -> str:
    """The submission that makes such a job again."""
    body = json.dumps(payload(job, steps), ensure_ascii=True, indent=2)
    return (
        f"curl -sS -X POST {shlex.quote(settings.PUBLIC_URL + '/api/v1/jobs')} \\\n  {_AUTH} \\\n"
        f"  -H 'Content-Type: application/json' \\\n  --data {shlex.quote(body)}"
    )


def payload(job: Job, steps: Sequence[Step]) -> dict[str, Any]:
    """The job as `agents.payload.JobInput` describes it, without what is default."""
    made: dict[str, Any] = {}
    if job.led:
        made["goal"] = job.goal
    elif job.workflow_version is not None:
        name = job.workflow_version.workflow.name
        made |= {
            "workflow": name,
            "version": job.workflow_version.number,
            "inputs": job.inputs,
            "title": job.goal[:200],
        }
    else:
        made["title"] = job.goal[:200]
        made["steps"] = [
            {"key": step.key, "tool": step.tool, "arguments": step.arguments}
            | ({"needs": needs} if (needs := [key for key in step.needs if key != PREPARE]) else {})
            | ({"reason": step.reason} if step.reason else {})
            for step in steps
            if step.key != PREPARE
        ]
    if job.agent is not None:
        made["agent"] = job.agent.name
    if job.repository is not None:
        made["repository"] = job.repository.name
    if job.priority != 5:
        made["priority"] = job.priority
    if job.labels:
        made["labels"] = job.labels
    return made
