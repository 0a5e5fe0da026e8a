"""What the API tests share."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework.response import Response
from rest_framework.test import APIClient

from agents.models import Agent, Attempt, FeedEntry, Job, Step

JOBS = "/api/v1/jobs"


def client(user: User | None = None) -> APIClient:
    """A client that is signed in by session, or nobody."""
    made = APIClient()
    if user is not None:
        made.force_login(user)
    return made


def agent(name: str = "developer", **fields: Any) -> Agent:
    defaults = {"instructions": "Work.", "tools": ["*"], **fields}
    return Agent.objects.get_or_create(name=name, defaults=defaults)[0]


def step(key: str = "a", **changes: Any) -> dict[str, Any]:
    return {"key": key, "tool": "test.note", "arguments": {"text": key}, **changes}


def problem(response: Response, status: int, code: str, *fields: str) -> dict[str, Any]:
    """Checks that the answer is a problem with this status and code that names these fields, in order."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert set(body) >= {"type", "title", "status", "detail", "instance", "code"}
    assert (body["status"], body["code"]) == (status, code), body
    assert [one["field"] for one in body.get("errors", [])] == list(fields), body
    return body


def nothing_is_left() -> bool:
    """No row of a job stands anywhere."""
    return not any(model.objects.exists() for model in (Job, Step, Attempt, FeedEntry))
