"""A database with many finished jobs: one real job that the engine ran, copied by INSERT … SELECT.

Run as `python -m bench.parts.growth` in a size's own environment it measures: a line of JSON in (`{"jobs", "steps"}`),
a line of JSON out.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
from psycopg import sql

# Ids that sort by time, as the application's own (version 7): a kind and a number stand where the random bits are.
_UUID = """
CREATE OR REPLACE FUNCTION bench_uuid(kind int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || lpad(to_hex(kind), 3, '0')
            || '8' || lpad(to_hex(n), 15, '0'))::uuid
$$
"""
_DAYS = 365  # over which the copies are spread, the last one a day ago


def fill(owner_url: str, *, job: str, first: int, last: int) -> None:
    """Copies the finished `job` with its steps, attempts, permits, feed and one audit record, as numbers first..last.

    As the superuser, with triggers off: foreign keys hold by construction, and the copied audit records have no place
    in the log (they weigh on its table and indexes, no more). The log's own triggers go: it is a bench's database.
    """
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(_UUID)
        connection.execute("SET session_replication_role = replica")
        connection.execute("ALTER TABLE audit_event DISABLE TRIGGER USER")  # they fire for replicas, too
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '256MB'")
        steps = [
            row[0] for row in connection.execute("SELECT id FROM agents_step WHERE job_id = %s ORDER BY seq", [job])
        ]
        kinds = {step: place + 1 for place, step in enumerate(steps)}
        permits = {
            row[0]: place + 101
            for place, row in enumerate(
                connection.execute("SELECT id FROM tools_permit WHERE subject = ANY(%s)", [[str(s) for s in steps]])
            )
        }
        copy = _Copy(connection, first, last)
        copy("agents_job", {"id": _id(0)}, "id = %s", [job])
        step_ids = _choice("t.id", kinds)
        copy(
            "agents_step",
            {"id": step_ids, "job_id": _id(0), "permit_id": _choice("t.permit_id", permits)},
            "job_id = %s",
            [job],
        )
        step_of = _choice("t.step_id", kinds)
        copy(
            "agents_attempt",
            {"id": f"bench_uuid(200 + {_number('t.step_id', kinds)} * 10 + t.number, n)", "step_id": step_of},
            "step_id = ANY(%s)",
            [steps],
        )
        copy(
            "tools_permit",
            {"id": _choice("t.id", permits), "subject": f"({_choice('t.subject::uuid', kinds)})::text"},
            "id = ANY(%s)",
            [list(permits)],
        )
        copy("agents_feedentry", {"id": "", "job_id": _id(0), "step_id": step_of}, "job_id = %s", [job])
        copy(
            "audit_event",
            {
                "id": _id(900),
                "body": f"replace(replace(t.body, t.id::text, {_id(900)}::text), t.target_id, {_id(0)}::text)",
                "target_id": f"{_id(0)}::text",
            },
            "target_id = %s AND event = 'job.finished'",
            [job],
        )
        connection.execute("RESET session_replication_role")
        connection.execute("ALTER TABLE audit_event ENABLE TRIGGER USER")
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


class _Copy:
    """INSERT … SELECT of a template's rows; every column as it is, but for those named."""

    def __init__(self, connection: psycopg.Connection[Any], first: int, last: int) -> None:
        self.connection, self.first, self.last = connection, first, last

    def __call__(self, table: str, given: Mapping[str, str], where: str, values: list[Any]) -> None:
        found = self.connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_name = %s AND table_schema = current_schema() AND is_generated = 'NEVER' ORDER BY 1",
            [table],
        ).fetchall()
        names, texts = [], []
        for name, kind in found:
            if given.get(name) == "":
                continue  # its own default
            names.append(sql.Identifier(name))
            texts.append(sql.SQL(given.get(name) or _shifted(name, kind)))
        statement = sql.SQL(
            "INSERT INTO {table} ({names}) SELECT {values} FROM (SELECT * FROM {table} WHERE {where}) AS t"
            " CROSS JOIN generate_series({first}::bigint, {last}::bigint) AS n"
        ).format(
            table=sql.Identifier(table),
            where=sql.SQL(where),
            names=sql.SQL(", ").join(names),
            values=sql.SQL(", ").join(texts),
            first=sql.Literal(self.first),
            last=sql.Literal(self.last),
        )
        self.connection.execute(statement, values)


def _shifted(name: str, kind: str) -> str:
    """Times move into the past, so that the copies lie spread over a year; every other value stays."""
    if kind.startswith("timestamp"):
        return f't."{name}" - make_interval(secs => 86400 + mod(n * 7919, {_DAYS * 86400}))'
    if name == "idempotency_key":
        return "''"
    return f't."{name}"'


def _id(kind: int) -> str:
    return f"bench_uuid({kind}, n)"


def _number(column: str, kinds: Mapping[Any, int]) -> str:
    cases = " ".join(f"WHEN '{key}' THEN {kind}" for key, kind in kinds.items())
    return f"(CASE {column} {cases} END)"


def _choice(column: str, kinds: Mapping[Any, int]) -> str:
    return f"bench_uuid({_number(column, kinds)}, n)" if kinds else "NULL::uuid"


def measure(owner: Any, *, jobs: int, steps: int) -> dict[str, float]:
    """steps/s of so many jobs; and milliseconds of what else reads the grown tables."""
    from agents.engine.recover import sweep
    from agents.models import Job, Step
    from agents.submit import submit
    from agents.web.overview import overview
    from bench.parts.servers import wait_for
    from bench.parts.steps import plan, submit_many

    now = datetime.now(UTC)
    found = {"submit": 1000 / submit_many(owner, jobs=jobs, steps=steps)}
    wait_for(lambda: _ended(now) >= jobs, timeout_s=300, why="all jobs ended", every_s=0.01)
    last = Job.objects.filter(created_at__gte=now).order_by("-finished_at")[0].finished_at
    assert last is not None
    found["steps_s"] = jobs * steps / (last - now).total_seconds()
    alone, _ = submit(plan(40), user=owner, now=datetime.now(UTC))
    wait_for(lambda: Job.objects.get(pk=alone.pk).done, timeout_s=120, why="the job ended")
    started = Step.objects.filter(job=alone).order_by("seq").values_list("started_at", flat=True)
    starts = [at for at in started if at is not None]
    gaps = sorted((after - before) / timedelta(milliseconds=1) for before, after in pairwise(starts))
    found["claim_p50"], found["claim_p95"] = gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.95)]
    found["sweep"] = _ms(lambda: sweep(datetime.now(UTC)))
    found["dashboard"] = _ms(lambda: overview(owner, datetime.now(UTC)))
    return found


def _ms(what: Callable[[], object], *, times: int = 5) -> float:
    """The median of some runs."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[times // 2]


def _ended(since: datetime) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM agents_job WHERE created_at >= %s AND finished_at IS NOT NULL", [since])
        return int(cursor.fetchone()[0])


def main() -> int:
    import django

    django.setup()
    from django.contrib.auth.models import User

    import bench.parts.noop  # noqa: F401  registers its tool

    owner = User.objects.get(username="bench")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        print(json.dumps(measure(owner, jobs=wanted["jobs"], steps=wanted["steps"])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
