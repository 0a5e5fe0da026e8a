"""How many model calls one worker holds at a time, and what that takes."""

import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from django.contrib.auth.models import User
from django.db import connection

from agents.defaults import ensure_agents
from agents.models import LlmCall
from agents.submit import submit
from bench.parts.servers import Servers, pss_bytes, wait_for

ANSWER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """together: calls under way at one moment; pss_bytes: of the worker, at most; took_s: from the first start to the last
    end."""

    together: int
    pss_bytes: int
    took_s: float
    connections: int


def hold(servers: Servers, owner: User, *, calls: int) -> Held:
    """Lets one `llm` worker make `calls` calls at a time, of `ANSWER_S` seconds each until the first word."""
    ensure_agents()
    port = free_port()
    model = servers.program("model", "agents.llm.scripted", "--port", str(port), "--delay", str(ANSWER_S))
    for _ in range(calls):
        submit({"goal": "Look around."}, user=owner, now=datetime.now(UTC))
    wait_for(lambda: answers(port), timeout_s=30, why="the model answers")
    ended = LlmCall.objects.filter(state=LlmCall.State.ENDED)
    before = ended.count()
    worker = servers.program(
        "llm",
        *("celery", "-A", "config.celery", "--quiet", "worker", "-n", "llm@%h", "-Q", "llm", "--pool", "threads"),
        *("-c", str(calls), "--without-gossip", "--without-mingle", "-l", "WARNING"),
        COUNTERSIGN_WORKER_GROUP="llm",
        OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
        OPENAI_API_KEY="none",
        LLM_MODEL="scripted-demo",
        LLM_THREADS=str(calls),
    )
    most = connections = 0

    def done() -> bool:
        nonlocal most, connections
        most = max(most, pss_bytes(worker.pid))
        connections = max(connections, _connections())
        return ended.count() - before >= calls

    try:
        wait_for(done, timeout_s=300, why="all models answered", every_s=0.2)
        spans = [(one.at.timestamp(), one.latency_ms / 1000) for one in ended.order_by("pk")[before:]][:calls]
    finally:
        servers.end(worker, model)
    ends = sorted([(at, 1) for at, _ in spans] + [(at + took, -1) for at, took in spans])
    together = best = 0
    for _, change in ends:
        together += change
        best = max(best, together)
    return Held(together=best, pss_bytes=most, took_s=ends[-1][0] - ends[0][0], connections=connections)


def _connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        time.sleep(0.05)
        return False
    return True
