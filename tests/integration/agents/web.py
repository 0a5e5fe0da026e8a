"""What the tests of the pages share: rows as the engine would leave them, and a real web server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from agents import feed
from agents.models import Attempt, Job, Step
from approvals.models import ApprovalRequest
from config.devstack.places import free_port
from tests.factories.states import job_in, step_in

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\u202egnp"
ROOT = Path(__file__).resolve().parents[3]


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def job(owner: User, *, state: str = "running", goal: str = "make the tests pass", **fields: Any) -> Job:
    now = timezone.now()
    ended = {"finished_at": now} if state in {"succeeded", "failed", "cancelled"} else {}
    given = {"kind": "goal", "created_at": now - timedelta(seconds=60), "started_at": now - timedelta(seconds=59)}
    return job_in(state, owner=owner, goal=goal, **{**given, **ended, **fields})


def step(of: Job, key: str = "1.1", *, state: str = "succeeded", **fields: Any) -> Step:
    now = timezone.now()
    given: dict[str, Any] = {
        "seq": Step.objects.filter(job=of).count() + 1,
        "tool": "test.note",
        "arguments": {"text": key},
        "effect": "read",
        "queue": "shell",
        "created_at": now,
        "ready_at": now - timedelta(seconds=9),
        "decision": {"effect": "allow", "policy": "testing@1", "rule": "rule-1", "reason": "allow by test"},
    }
    if state in {"running", "succeeded", "failed", "in_doubt"}:
        given |= {"attempt": 1, "started_at": now - timedelta(seconds=5), "claimed_by": "shell@host"}
    if state == "running":
        given["lease_until"] = now + timedelta(seconds=30)
    if state in {"succeeded", "failed", "refused", "skipped", "cancelled"}:
        given["finished_at"] = now
    made = step_in(state, job=of, key=key, **{**given, **fields})
    if made.attempt:
        Attempt.objects.create(
            step=made,
            number=1,
            queue=made.queue,
            worker="shell@host",
            claimed_at=made.started_at,
            ended_at=made.finished_at,
            outcome=state if made.finished_at else "",
        )
    return made


def request(of: Step, group: str = "approvers", **fields: Any) -> ApprovalRequest:
    now = timezone.now()
    given: dict[str, Any] = {
        "subject_type": "step",
        "subject_id": str(of.pk),
        "parent_id": str(of.job_id),
        "parent_path": of.job.get_absolute_url(),
        "title": "developer wants to run git.push",
        "command": "git push origin main",
        "call": {},
        "digest": "0" * 64,
        "risk": "medium",
        "approvers": Group.objects.get_or_create(name=group)[0],
        "requester": of.job.owner,
        "created_at": now - timedelta(seconds=120),
        "expires_at": now + timedelta(hours=1),
    }
    return ApprovalRequest.objects.create(**{**given, **fields})


def write(of: Job, *entries: feed.Entry, now: datetime | None = None) -> None:
    """Appends to the feed as the engine does: committed, then Redis wakes who reads."""
    with transaction.atomic():
        feed.append(of.pk, entries, now=now or timezone.now())


def output(of: Step, text: str, stream: str = "stdout") -> feed.Entry:
    return feed.Entry(kind="log", data={"stream": stream, "text": text, "attempt": 1}, step_id=of.pk)


def end(of: Job, state: str = "succeeded", outcome: str = "All done.") -> None:
    with transaction.atomic():
        Job.objects.filter(pk=of.pk).update(state=state, finished_at=timezone.now(), outcome=outcome)
        feed.append(of.pk, [feed.Entry(kind="job", data={"state": state})], now=timezone.now())


@dataclass
class Server:
    """uvicorn with the application, on the tests' own database."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, user: User | None = None, **more: Any) -> httpx2.Client:
        cookies = {}
        if user is not None:
            cookies[settings.SESSION_COOKIE_NAME] = signed_in(user).cookies[settings.SESSION_COOKIE_NAME].value
        return httpx2.Client(base_url=self.url, cookies=cookies, trust_env=False, timeout=20, **more)


@contextmanager
def served(port: int = 0, application: str = "config.asgi:application", **environ: str) -> Iterator[Server]:
    """A web server until the end of the block; it listens when the block begins."""
    of = connection.settings_dict
    database = f"postgresql://{of['USER']}:{of['PASSWORD']}@{of['HOST']}:{of['PORT']}/{of['NAME']}"
    port = port or free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", application, "--port", str(port)),
            *("--log-level", "warning", "--timeout-graceful-shutdown", "1"),
        ],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "config.settings.test", **environ},
    )
    server = Server(port=port, process=process)
    try:
        _listening(server)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def _listening(server: Server, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    with server.client() as client:
        while True:
            try:
                client.get("/accounts/login/")
                return
            except httpx2.TransportError:
                assert server.process.poll() is None, "the web server ended"
                assert time.monotonic() < deadline, "the web server does not listen"
                time.sleep(0.05)


def until(check: Any, timeout_s: float = 60) -> None:
    """Waits until `check()` is true."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
