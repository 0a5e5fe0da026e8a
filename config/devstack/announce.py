"""Waits until the stack works, says where everything is, and points to the demo's approval.

Runs in a process of its own, so that the supervisor holds no connection while it forks.
"""

import http.client
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from config.devstack.console import complain, say
from config.devstack.supervisor import READY

READY_TIMEOUT_S = 90.0
DEMO_TIMEOUT_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the banner tells. `flower`: is it wanted; `demo`: is the demo job expected to ask."""

    address: str
    data: Path
    admin_password: str
    started: datetime
    flower_url: str
    flower_auth: str
    scripted: bool
    model: str
    demo: bool
    embedded: list[str]
    detached: bool


def announce(facts: Facts) -> None:
    """Ends with SystemExit(1) when the stack does not come up."""
    from django.conf import settings

    groups = list(settings.WORKER_GROUPS)
    began = time.monotonic()
    if not _until(lambda: _healthy(facts.address), READY_TIMEOUT_S):
        complain(f"The web server did not answer at {facts.address}; see {facts.data}/logs/web.log")
        sys.exit(1)
    say(f"  web server ready ({time.monotonic() - began:.1f} s)")
    missing: list[str] = groups
    while missing and time.monotonic() - began < READY_TIMEOUT_S:
        missing = _missing_workers(groups, facts.started)
        if missing:
            time.sleep(POLL_S)
    if missing:
        complain(f"Workers did not come up: {', '.join(missing)}; see {facts.data}/logs")
        sys.exit(1)
    say(f"  workers ready: {', '.join(groups)} ({time.monotonic() - began:.1f} s)")
    say(banner(facts, mailbox=settings.MAILBOX_ENABLED))
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    if facts.flower_url and not _until(lambda: _flower_answers(facts), 20):
        say(f"Flower did not start; the rest does not need it. See {facts.data}/logs/flower.log")
    if facts.demo:
        _tell_of_demo(facts)


def banner(facts: Facts, *, mailbox: bool) -> str:
    """The text of the first screen."""
    password_file = facts.data / "secrets" / "admin-password"
    rows = [
        ("Open", f"{facts.address}/"),
        ("Sign in", f"admin / {facts.admin_password}   (kept in {password_file})"),
        *([("Mailbox", f"{facts.address}/mailbox/")] if mailbox else []),
        ("API", f"{facts.address}/api/docs"),
        *([("Flower", f"{facts.address}/flower/")] if facts.flower_url else []),
        (
            "Model",
            f"{facts.model}, SCRIPTED: it plays the demo and understands nothing else"
            if facts.scripted
            else facts.model,
        ),
        ("Data", f"{facts.data}   (logs in {facts.data}/logs)"),
        *([("Servers", " and ".join(facts.embedded) + ", started here")] if facts.embedded else []),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = ["", "  Countersign is running: development, not production.", ""]
    lines += [f"  {name:<{width}}{value}" for name, value in rows]
    lines += [""]
    if facts.scripted:
        lines.append("  For a real model set OPENAI_API_KEY (and OPENAI_BASE_URL, LLM_MODEL) and start again.")
    lines.append(
        "  bin/manage audit_verify checks the signed log; bin/manage doctor says what is wrong when something is."
    )
    lines.append("  Stop with bin/down." if facts.detached else "  Stop with Ctrl-C.")
    return "\n".join([*lines, ""])


def _tell_of_demo(facts: Facts) -> None:
    """Everything runs already: a database that restarts just now is no reason to end it."""
    from django.db import Error

    try:
        _wait_for_demo(facts)
    except Error:
        say(f"  The database was away while the demo worked; see how it goes on: {facts.address}/")


def _wait_for_demo(facts: Facts) -> None:
    from agents.models import Job
    from approvals.models import ApprovalRequest
    from config.seed import DEMO_KEY, REQUESTER

    job = Job.objects.filter(owner__username=REQUESTER, idempotency_key=DEMO_KEY).first()
    if job is None:
        return
    if job.done:
        say(f"  The demo job has ended ({job.state}): {facts.address}{job.get_absolute_url()}")
        return
    say("  The demo job works: it reads a repository, runs its tests and mends them …")
    deadline = time.monotonic() + DEMO_TIMEOUT_S
    while time.monotonic() < deadline:
        found = ApprovalRequest.objects.filter(parent_id=str(job.pk), state="pending").first()
        if found is not None:
            say("  1 approval needs you:")
            say(f"    {found.title}")
            say(f"    {facts.address}{found.get_absolute_url()}")
            say(f"  Read it, approve or deny it, and watch the job: {facts.address}{job.get_absolute_url()}")
            return
        job.refresh_from_db()
        if job.done:
            break
        time.sleep(POLL_S)
    say(f"  The demo job is {job.state}: {facts.address}{job.get_absolute_url()}")


def _until(works: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if works():
            return True
        time.sleep(POLL_S)
    return False


def _healthy(address: str) -> bool:
    status, body = _get(address, "/healthz")
    return status == 200 and json.loads(body).get("status") == "ok"


def _flower_answers(facts: Facts) -> bool:
    return _get(facts.flower_url, "/flower/healthcheck")[0] == 200


def _get(address: str, path: str) -> tuple[int, bytes]:
    """(0, b"") where nobody answers."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _missing_workers(groups: list[str], since: datetime) -> list[str]:
    from agents.models import WorkerProcess

    here = WorkerProcess.objects.filter(started_at__gte=since, stopped_at=None).values_list("group", flat=True)
    return [group for group in groups if group not in set(here)]
