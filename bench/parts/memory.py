"""Memory search: how long it takes, and how many of the truly nearest it finds, by the size of the project."""

import random
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from django.contrib.auth.models import User
from django.db import connection

from agents.memory import recall, vectors
from agents.memory.recall import Scope, Vector
from agents.models import Repository
from audit.ids import uuid7
from bench.parts.figures import Figure, percentile
from bench.parts.servers import TICKS, Servers
from config.devstack import prepare

REACH_MS, REACH_RECALL = 50.0, 0.95
NEAREST = 10
MODEL = "bench-vectors"
WORDS = 6000
SHARES = (("most of them", 70), ("a tenth of them", 10), ("a small project", 4))  # percent of all entries
LEFT = 4  # further small projects of the same size share the rest

# Clustered, as vectors of texts are: a topic, and two of many shades of it. Sums of three make as many as are wanted.
_POOLS = """
CREATE TEMP TABLE topic AS SELECT n, (SELECT array_agg(random_normal() + n * 0 + d * 0) FROM generate_series(1, {dimensions}) d)
    ::vector AS v FROM generate_series(0, 199) n;
CREATE TEMP TABLE shade AS SELECT n, (SELECT array_agg(random_normal(0, 0.55) + n * 0 + d * 0)
    FROM generate_series(1, {dimensions}) d)::vector AS v FROM generate_series(0, 1999) n;
CREATE UNIQUE INDEX ON topic (n);
CREATE UNIQUE INDEX ON shade (n);
ANALYZE topic;
ANALYZE shade;
CREATE TEMP TABLE entry (id uuid, scope text, repository_id uuid, text text, a int, b int, c int)
"""
_FILL = """
INSERT INTO agents_memory (id, kind, state, origin, scope, repository_id, text, untrusted, key, decided_why, used,
    created_at, embedding_model, dimensions, embedding)
SELECT entry.id, 'fact', 'admitted', 'agent', scope, repository_id, text, true, entry.id::text, '', 0, now(),
    %(model)s, %(dimensions)s, l2_normalize(topic.v + one.v + two.v)
  FROM entry JOIN topic ON topic.n = a JOIN shade one ON one.n = b JOIN shade two ON two.n = c
"""
_ASK = """
SELECT l2_normalize(topic.v + one.v + two.v)::text FROM topic, shade one, shade two
 WHERE topic.n = %s AND one.n = %s AND two.n = %s
"""


def figures(servers: Servers, *, quick: bool) -> list[Figure]:
    """Fills the memory of a few projects, makes the index, asks each project."""
    entries, dimensions, asked = (10_000, 128, 30) if quick else (100_000, 384, 300)
    if not vectors.available():
        return [Figure(name="memory search: this PostgreSQL has no pgvector", value=0, unit="", reach=1)]
    chance = random.Random(11)
    scopes = _scopes()
    with psycopg.connect(servers.postgres.url(prepare.DATABASE), autocommit=True) as owner:
        owner.execute("SET maintenance_work_mem = '512MB'")
        owner.execute("SELECT setseed(0.5)")
        for statement in _POOLS.format(dimensions=dimensions).split(";"):
            owner.execute(statement)
        _fill(owner, scopes, entries, dimensions, chance)
        began = time.perf_counter()
        _index(owner, dimensions)
        built_s = time.perf_counter() - began
        owner.execute("VACUUM ANALYZE agents_memory")
        questions = [_question(owner, chance) for _ in range(asked)]
    found = [
        Figure(name=f"index of {entries:,} vectors of {dimensions} numbers", value=built_s, unit="s to make"),
    ]
    for name, percent in SHARES:
        found += _measure(f"{name} ({entries * percent // 100:,} of {entries:,})", scopes[name][0], questions)
    return found


def _scopes() -> dict[str, tuple[str, Repository]]:
    owner, _ = User.objects.get_or_create(username="memory-bench")
    made = {}
    for number, name in enumerate([name for name, _ in SHARES] + [f"rest {left}" for left in range(LEFT)]):
        row = Repository.objects.create(name=f"memory-bench-{number}", url="https://git.example/bench.git", owner=owner)
        made[name] = (recall.repository(row.pk), row)
    return made


def _fill(
    owner: psycopg.Connection,
    scopes: dict[str, tuple[str, Repository]],
    entries: int,
    dimensions: int,
    chance: random.Random,
) -> None:
    given = [name for name, percent in SHARES for _ in range(entries * percent // 100)]
    given += [f"rest {place % LEFT}" for place in range(entries - len(given))]
    chance.shuffle(given)
    weights = _weights()
    with owner.cursor() as cursor, cursor.copy("COPY entry FROM STDIN") as copy:
        for name in given:
            scope, row = scopes[name]
            text = " ".join(_words(chance, weights, chance.randint(8, 30)))
            places = (chance.randrange(200), chance.randrange(2000), chance.randrange(2000))
            copy.write_row((uuid7(), scope, row.pk, text, *places))
    owner.execute(_FILL, {"model": MODEL, "dimensions": dimensions})


def _index(owner: psycopg.Connection, dimensions: int) -> None:
    """What `manage.py memory index` makes."""
    for _, statement in vectors.index_statements([(MODEL, dimensions)]):
        owner.execute(statement)


def _question(owner: psycopg.Connection, chance: random.Random) -> tuple[str, Vector]:
    row = owner.execute(_ASK, (chance.randrange(200), chance.randrange(2000), chance.randrange(2000))).fetchone()
    assert row is not None
    values = [float(one) for one in row[0].strip("[]").split(",")]
    return " ".join(_words(chance, _weights(), chance.randint(3, 7))), Vector(model=MODEL, values=values)


def _measure(name: str, scope: str, questions: list[tuple[str, Vector]]) -> list[Figure]:
    whose, now = Scope(scopes=(scope,), any_agent=True), datetime.now(UTC)
    took: list[float] = []
    shares: list[float] = []
    for text, vector in questions[:5]:  # the first find cold caches
        recall.search(text, whose, vector=vector, now=now)
    before = _cpu_s()
    for text, vector in questions:
        began = time.perf_counter()
        recall.search(text, whose, vector=vector, now=now)
        took.append((time.perf_counter() - began) * 1000)
    cpu_ms = (_cpu_s() - before) * 1000 / len(questions)
    for _, vector in questions:
        near = [
            {one.id for one in recall.search("", whose, vector=vector, now=now, limit=NEAREST, exact=exact)}
            for exact in (None, True)
        ]
        shares.append(len(near[0] & near[1]) / len(near[1]))
    return [
        Figure(name=f"memory search, {name}: p50", value=percentile(took, 50), unit="ms"),
        Figure(
            name=f"memory search, {name}: p95", value=percentile(took, 95), unit="ms", reach=REACH_MS, at_least=False
        ),
        Figure(name=f"its CPU time, ours and PostgreSQL's, {name}: mean", value=cpu_ms, unit="ms"),
        Figure(
            name=f"its recall of the {NEAREST} nearest, {name}",
            value=sum(shares) / len(shares),
            unit="of exact",
            reach=REACH_RECALL,
        ),
    ]


def _cpu_s() -> float:
    """Of this thread and of the server process that serves it."""
    connection.ensure_connection()
    fields = Path(f"/proc/{connection.connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    return time.thread_time() + (int(fields[11]) + int(fields[12])) / TICKS


def _weights() -> list[float]:
    """Of words, as texts use them: the n-th most common one 1/n as often (Zipf)."""
    total, sums = 0.0, []
    for place in range(1, WORDS + 1):
        total += 1 / place
        sums.append(total)
    return sums


def _words(chance: random.Random, weights: list[float], count: int) -> list[str]:
    return [f"word{place}x" for place in chance.choices(range(WORDS), cum_weights=weights, k=count)]
