#!/usr/bin/env python3
"""What the audit log costs and how fast it is checked: `bench/audit.py [--quick] [--records N] [--json PATH]`.

Starts its own PostgreSQL (fsync on) in a folder under /tmp, and ends it. A change is a transaction that inserts one row;
with its record it also makes, signs and inserts one audit record, by the application's role. Runs with and without
alternate. The log that is checked is written by the same code; the quick form checks a shorter one and extrapolates.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent and __name__ == "__main__":
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from bench.parts.figures import Figure, median, percentile, show, write_json  # noqa: E402  after the path is set
from bench.parts.servers import Servers, wait_for  # noqa: E402

CLIENTS = 8
MILLION = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: under 50 s")
    parser.add_argument("--records", type=int, help="how long a log is checked; default: 1,000,000, quick 30,000")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    options = parser.parse_args()
    with Servers() as servers:
        figures = measure(
            servers, quick=options.quick, records=options.records or (30_000 if options.quick else MILLION)
        )
    show(figures)
    if options.json:
        write_json(figures, options.json)
    return 0


def measure(servers: Servers, *, quick: bool, records: int) -> list[Figure]:
    import django

    django.setup()
    clients = Clients(servers, CLIENTS)
    try:
        figures = _sealing()
        figures += _latency(servers, clients, seconds=5 if quick else 20)
        figures += _inserting(servers, clients, rounds=4 if quick else 9, seconds=1 if quick else 4)
        figures += _filling(servers, clients, records)
    finally:
        clients.end()
    return figures + _checking(records)


class Clients:
    """Programs that write, started once."""

    def __init__(self, servers: Servers, count: int) -> None:
        self._all = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.parts.auditing"],
                cwd=ROOT,
                env=servers.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        for one in self._all:
            if self._answer(one) != "READY\n":
                raise RuntimeError("a writer did not begin")

    def run(self, what: str, number: float, count: int) -> list[dict]:
        """`count` of them work at one moment; gives what each said."""
        working = self._all[:count]
        for one in working:
            assert one.stdin is not None
            one.stdin.write(f"{what} {number}\n")
            one.stdin.flush()
        return [json.loads(self._answer(one)) for one in working]

    def end(self) -> None:
        for one in self._all:
            one.kill()
            one.communicate()

    @staticmethod
    def _answer(one: "subprocess.Popen[str]") -> str:
        assert one.stdout is not None
        return one.stdout.readline()


def _sealing() -> list[Figure]:
    from audit.enrolment import process_key
    from bench.parts.auditing import seal_one

    key, costs = process_key(), []
    for _ in range(9):
        began = time.thread_time()
        for number in range(300):
            seal_one(number, key)
        costs.append((time.thread_time() - began) / 300 * 1e6)
    return [
        Figure(
            name="canonicalise, hash and sign one record", value=median(costs), unit="us", reach=100.0, at_least=False
        )
    ]


def _inserting(servers: Servers, clients: Clients, *, rounds: int, seconds: float) -> list[Figure]:
    from bench.parts.auditing import CHANGE, SAME

    _as_owner(servers, CHANGE, SAME, "GRANT ALL ON bench_change, bench_event TO PUBLIC")
    rates: dict[str, list[float]] = {"same": [], "record": [], "plain": [], "recorded": []}
    for _ in range(rounds):
        for what, found in rates.items():
            found.append(sum(run["done"] / run["seconds"] for run in clients.run(what, seconds, CLIENTS)))

    def ratio(part: str, whole: str) -> float:
        return median([one / other for one, other in zip(rates[part], rates[whole], strict=True)])

    of = f"{CLIENTS} clients"
    return [
        Figure(name=f"rows into the same table without audit, {of}", value=median(rates["same"]), unit="rows/s"),
        Figure(name=f"records, {of}", value=median(rates["record"]), unit="records/s"),
        Figure(name="records / rows into the same table", value=ratio("record", "same"), unit="ratio", reach=0.6),
        Figure(name=f"changes of a small row without records, {of}", value=median(rates["plain"]), unit="changes/s"),
        Figure(name=f"such changes with a record each, {of}", value=median(rates["recorded"]), unit="changes/s"),
        Figure(name="such changes with records / without", value=ratio("recorded", "plain"), unit="ratio"),
    ]


def _latency(servers: Servers, clients: Clients, *, seconds: float) -> list[Figure]:
    """From a record's commit to the checkpoint over it, while the sequencer runs and clients write as fast as they can."""
    from django.db import connection

    from audit.status import status

    sequencer = servers.program("sequencer", "manage", "audit_sequencer")
    wait_for(lambda: status()["checkpoint_size"], timeout_s=60, why="the first checkpoint")
    committed = {identifier: at for run in clients.run("marks", seconds, 2) for identifier, at in run["committed"]}
    wait_for(lambda: _all_signed(), timeout_s=60, why="the last checkpoint")
    servers.end(sequencer)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.event_id::text, extract(epoch FROM (SELECT min(c.created_at) FROM audit_checkpoint c WHERE "
            "c.size > l.index))::float8 FROM audit_leaf l WHERE l.event_id = ANY(%s::uuid[])",
            (list(committed),),
        )
        waited = [at - committed[identifier] for identifier, at in cursor.fetchall()]
    return [
        Figure(name="commit to checkpoint, p50", value=percentile(waited, 50), unit="s"),
        Figure(name="commit to checkpoint, p99", value=percentile(waited, 99), unit="s", reach=2.0, at_least=False),
        Figure(name="records written meanwhile", value=len(committed) / seconds, unit="records/s"),
    ]


def _all_signed() -> bool:
    from audit.status import status

    now = status()
    return now["pending"] == 0 and now["checkpoint_size"] == now["size"]


def _filling(servers: Servers, clients: Clients, records: int) -> list[Figure]:
    """Writes the log that is checked, and gives its records their places."""
    from audit import sequence

    sequence.drain()
    size, _ = sequence.state()
    clients.run("fill", max(records - size, 1_000) // 2, 2)
    _as_owner(servers, "ANALYZE audit_event, audit_pending, audit_leaf")
    began = time.perf_counter()
    grown = sequence.drain() - size
    rate = grown / (time.perf_counter() - began)
    bytes_each = _bytes(servers)
    return [
        Figure(name="sequence", value=rate, unit="records/s", reach=20_000.0),
        Figure(
            name="storage with indexes and leaf", value=bytes_each, unit="bytes/record", reach=1_536, at_least=False
        ),
    ]


def _bytes(servers: Servers) -> float:
    _as_owner(servers, "VACUUM (ANALYZE) audit_event, audit_pending, audit_leaf")
    found = _as_owner(
        servers,
        "SELECT (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'audit_event'::regclass)"
        " + pg_total_relation_size('audit_leaf'), (SELECT count(*) FROM audit_event)",
    )
    return float(found[0][0]) / found[0][1]


def _checking(records: int) -> list[Figure]:
    from django.conf import settings

    from audit.sequencer import Sequencer
    from audit.verify import verify

    Sequencer.from_settings().once()
    settings.DEBUG = False
    figures = []
    for name, signatures in (("hashes, order, root, columns", False), ("and every writer's signature", True)):
        report = verify(signatures=signatures, processes=None if records >= MILLION else 1)
        if report.tampered:
            raise RuntimeError(f"the log is not whole: {report.findings[:3]}")
        per_million = report.seconds * MILLION / report.checked
        told = "" if records >= MILLION else f" (one process, from {report.checked:,})"
        figures.append(
            Figure(
                name=f"verify 1M: {name}{told}",
                value=per_million,
                unit="s",
                reach=None if signatures else 30.0,
                at_least=False,
            )
        )
    return figures


def _as_owner(servers: Servers, *statements: str) -> list[tuple]:
    import psycopg

    from config.devstack import prepare

    rows: list[tuple] = []
    with psycopg.connect(servers.postgres.url(prepare.DATABASE), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


if __name__ == "__main__":
    sys.exit(main())
