"""What we add to a model call: reserve, ask, check, settle, against the same request sent bare. And streams at a time."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections

from agents.llm import gateway
from agents.llm.complete import Complete
from agents.llm.gateway import Asking
from agents.models import Job, Step
from agents.submit import submit
from bench.parts import models, steps
from bench.parts.figures import Figure, median, percentile
from bench.parts.servers import Servers, wait_for
from tools.box import SandboxBox
from tools.workspaces import workspace_for

MESSAGES = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say something. " * 200}]


def figures(servers: Servers, *, quick: bool) -> list[Figure]:
    """The call's overhead in this process, and the streams that one worker holds."""
    settings.WORKSPACE_DIR = servers.folder / "workspaces"
    owner = steps.prepare_rows()
    ours, bare = _side_by_side(servers, owner, rounds=60 if quick else 600)
    added = sorted(one - other for one, other in zip(ours, bare, strict=True))
    held = models.hold(servers, owner, calls=60 if quick else 200)
    calls = 60 if quick else 200
    return [
        Figure(name="a bare call, p50", value=median(bare) * 1000, unit="ms"),
        Figure(name="a governed call, p50", value=median(ours) * 1000, unit="ms"),
        Figure(name="added to a model call, p50", value=median(added) * 1000, unit="ms", reach=15.0, at_least=False),
        Figure(name="added to a model call, p95", value=percentile(added, 95) * 1000, unit="ms"),
        Figure(name="governed / bare", value=median(ours) / median(bare), unit="ratio"),
        Figure(
            name=f"streams of {calls} that one worker held at a time", value=held.together, unit="streams", reach=calls
        ),
        Figure(name="memory of that worker", value=held.pss_bytes / 1e6, unit="MB PSS", reach=300.0, at_least=False),
    ]


def _side_by_side(servers: Servers, owner: User, *, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a governed call and of the same request sent bare, in turn."""
    with _scripted(servers) as url:
        settings.LLM_BASE_URL, settings.LLM_API_KEY, settings.LLM_MODEL = url, "", "scripted-demo"
        job, step = _step(owner)
        box = SandboxBox(
            workspace_for(str(job.pk)),
            limits=Complete.limits,
            call_id=str(step.pk),
            on_output=lambda stream, text: None,
        )
        asking = Asking(
            job=job,
            step=step,
            turn=1,
            targets=gateway.targets_for(job, needs={"chat"}),
            tools=[],
            box=box,
            functions=[],
            output_tokens=256,
        )
        ours: list[float] = []
        bare: list[float] = []
        try:
            for number in range(rounds + 5):
                took = _timed(lambda: gateway.ask(asking, MESSAGES)), _timed(lambda: _bare(url))
                if number >= 5:  # the first ones load modules
                    ours.append(took[0])
                    bare.append(took[1])
        finally:
            box.close()
            connections.close_all()
        return ours, bare


def _bare(url: str) -> None:
    """The same request without us: a connection of its own, the stream read to its end."""
    body = {
        "model": "scripted-demo",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 256,
    }
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
    try:
        text, headers = json.dumps(body), {"content-type": "application/json"}
        connection.request("POST", f"{parts.path}/chat/completions", text, headers)
        last = b""
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                last = line
        assert json.loads(last[6:])["usage"]["total_tokens"] > 0
    finally:
        connection.close()


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


@contextmanager
def _scripted(servers: Servers) -> Iterator[str]:
    port = models.free_port()
    process = servers.program("model-bare", "agents.llm.scripted", "--port", str(port))
    try:
        wait_for(lambda: models.answers(port), timeout_s=30, why="the model answers")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        servers.end(process)


def _step(owner: User) -> tuple[Job, Step]:
    """Rows to charge the calls to; nobody runs them."""
    plan = {"steps": [{"key": "ask", "tool": "llm.complete", "arguments": {"prompt": "x"}}], "title": "bench"}
    job, _ = submit(plan, user=owner, now=datetime.now(UTC))
    Job.objects.filter(pk=job.pk).update(max_tokens=2_000_000_000)
    job.refresh_from_db()
    return job, job.steps.get()
