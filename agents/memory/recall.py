"""Finding memories: by meaning and by words, joined by reciprocal rank in one statement.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods" (SIGIR
2009): a memory scores the sum of 1 / (60 + rank) over the lists in which it stands.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from agents.memory import vectors
from agents.models import Job, Memory

K = 60
DEPTH = 40  # of each list
# In a scope with no more entries than this, or than this part of all, every vector is compared: the index would have to
# look at so many of others to find forty of these.
EXACT_MOST, EXACT_PART = 5000, 200
WORDS_ALL, WORDS_ANY = 200, 600  # candidates that have all of the words, or any of them, at most
COMMON, COMMON_FROM = (
    0.02,
    10_000,
)  # words that so many of the entries have tell nothing, where there are so many entries
EF_SEARCH = 100  # of the index: more finds more, and takes longer
SCAN_MOST = 20_000  # tuples that one search of the index may look at before it gives up finding more
FRESH_S = 60.0

_MINE = """m.state = 'admitted' AND m.scope = ANY(%(scopes)s) AND (m.expires_at IS NULL OR m.expires_at > %(now)s)
       AND (m.agent_id IS NULL OR %(any_agent)s OR m.agent_id = %(agent)s) AND m.kind = ANY(%(kinds)s)"""
# The cast is what the index is on: where it is missing, the index cannot be used, and every vector is compared.
_NEAR = """
near AS (
  SELECT id, row_number() OVER (ORDER BY distance, id) AS place FROM (
    SELECT m.id, m.embedding{cast} <=> %(vector)s::vector{size} AS distance FROM agents_memory m
     WHERE m.embedding_model = %(model)s AND m.dimensions = %(dimensions)s AND {mine}
     ORDER BY m.embedding{cast} <=> %(vector)s::vector{size} LIMIT %(depth)s) AS nearest
)"""
_NO_NEAR = "near AS (SELECT NULL::uuid AS id, NULL::bigint AS place WHERE false)"
_WORDS = r"""
asked AS (
  SELECT plainto_tsquery('english', %(query)s) AS strict, (
    SELECT string_agg('''' || replace(replace(word, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
      FROM unnest(tsvector_to_array(to_tsvector('english', %(query)s))) AS word WHERE word <> ALL (%(common)s)) AS loose
), candidates AS (
  (SELECT m.id, m.search FROM agents_memory m, asked WHERE m.search @@ asked.strict AND {mine} LIMIT %(words_all)s)
  UNION
  (SELECT m.id, m.search FROM agents_memory m, asked WHERE m.search @@ asked.loose AND {mine} LIMIT %(words_any)s)
), worded AS (
  SELECT id, row_number() OVER (ORDER BY weight DESC, id DESC) AS place FROM (
    SELECT candidates.id, ts_rank(candidates.search, COALESCE(asked.loose, asked.strict), 1) AS weight
      FROM candidates, asked
     ORDER BY 2 DESC, 1 DESC LIMIT %(depth)s) AS best
)"""
_JOINED = """
SELECT m.id, m.kind, m.text, m.origin, m.untrusted, m.scope, m.job_id, m.created_at, near.place, worded.place,
       COALESCE(1.0 / (%(k)s + near.place), 0) + COALESCE(1.0 / (%(k)s + worded.place), 0) AS score
  FROM near FULL JOIN worded USING (id) JOIN agents_memory m USING (id)
 ORDER BY score DESC, m.created_at DESC LIMIT %(limit)s
"""
# For this transaction. Without the iterative scan a filter that lets one row in twenty through leaves a fiftieth of what
# was asked for.
_BY_INDEX = """
SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', %(ef)s, true),
       set_config('hnsw.max_scan_tuples', %(most)s, true)
"""
_SIZE = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'agents_memory'::regclass"
# What the last ANALYZE saw; the two last frequencies are the least and the greatest.
_COMMON = """
SELECT most_common_elems::text::text[], most_common_elem_freqs FROM pg_stats
 WHERE schemaname = current_schema() AND tablename = 'agents_memory' AND attname = 'search'
"""
_HOW_MANY = """
SELECT count(*) FROM (SELECT FROM agents_memory m WHERE m.scope = ANY(%(scopes)s) AND m.state = 'admitted'
                       LIMIT %(most)s) AS counted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose memories are searched. scopes: as the rows name them; agent_id: of whom they may be, besides those of any
    agent; any_agent: a person looks, who may see all."""

    scopes: tuple[str, ...]
    agent_id: UUID | None = None
    any_agent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """Of the question. model: by whom, since vectors of two models cannot be compared."""

    model: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """near, worded: its place in the list by meaning and in the one by words, from 1; None where it stands not in it."""

    id: UUID
    kind: str
    text: str
    origin: str
    untrusted: bool
    scope: str
    job_id: UUID | None
    created_at: datetime
    near: int | None
    worded: int | None
    score: float


def scope_of(job: Job) -> Scope:
    """What a job may recall: its repository's, its owner's own and everybody's, of its agent or of any."""
    scopes = [ALL, person(job.owner_id)]
    if job.repository_id is not None:
        scopes.append(repository(job.repository_id))
    return Scope(scopes=tuple(scopes), agent_id=job.agent_id)


ALL = "all"


def person(user_id: int) -> str:
    return f"person:{user_id}"


def repository(repository_id: UUID) -> str:
    return f"repository:{repository_id}"


def lexical(query: str) -> Vector | None:
    """The question's vector without any model; None where vectors cannot be compared."""
    return Vector(model=vectors.LEXICAL, values=vectors.lexical(query)) if vectors.available() else None


def search(
    query: str,
    scope: Scope,
    *,
    vector: Vector | None,
    now: datetime,
    kinds: Sequence[str] = tuple(Memory.Kind),
    limit: int = 10,
    exact: bool | None = None,
) -> list[Found]:
    """The best first. vector: None finds by words alone; only where `vectors.available()`.

    exact: compare every vector, or use the index; by default as many as there are decide.
    """
    given = _given(scope, now, kinds) | {
        "query": query.replace("\0", " "),
        "k": K,
        "depth": max(DEPTH, limit),
        "limit": limit,
        "words_all": WORDS_ALL,
        "words_any": WORDS_ANY,
        "common": _statistics()[1],
    }
    if vector is None:
        return _run(_NO_NEAR, given)
    size = len(vector.values)
    given |= {"vector": vectors.literal(vector.values), "model": vector.model, "dimensions": size}
    if exact is None:
        exact = _few(given)
    if exact or size > vectors.HNSW_DIMENSIONS_MAX:
        return _run(_NEAR.format(cast="", size="", mine=_MINE), given)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_BY_INDEX, {"ef": str(EF_SEARCH), "most": str(SCAN_MOST)})
        return _run(_NEAR.format(cast=f"::vector({size})", size=f"({size})", mine=_MINE), given)


def alike(memory: Memory, scope: Scope, *, now: datetime, limit: int = 5) -> list[Found]:
    """Those whose vectors are nearest to this one's, without asking any model; none where it has no vector."""
    if not memory.embedding_model or not vectors.available():
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT embedding::text FROM agents_memory WHERE id = %s", [memory.pk])
        row = cursor.fetchone()
    if row is None or row[0] is None:
        return []
    vector = Vector(model=memory.embedding_model, values=[float(one) for one in row[0].strip("[]").split(",")])
    found = search("", scope, vector=vector, now=now, limit=limit + 1)
    return [one for one in found if one.id != memory.pk][:limit]


def _run(near: str, given: dict[str, Any]) -> list[Found]:
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {near}, {_WORDS.format(mine=_MINE)} {_JOINED}", given)
        return [_found(row) for row in cursor.fetchall()]


def _few(given: dict[str, Any]) -> bool:
    """Are there so few entries in the scope that every vector is compared?"""
    few = max(EXACT_MOST, _statistics()[0] // EXACT_PART)
    with connection.cursor() as cursor:
        cursor.execute(_HOW_MANY, {**given, "most": few + 1})
        return bool(cursor.fetchone()[0] <= few)


_known: tuple[float, int, list[str]] | None = None  # when (`time.monotonic()`), and what `_statistics` gave


def _statistics() -> tuple[int, list[str]]:
    """(about how many entries there are, the words that tell nothing), as of the last minute."""
    global _known
    if _known is None or time.monotonic() - _known[0] > FRESH_S:
        with connection.cursor() as cursor:
            cursor.execute(_SIZE)
            entries = max(cursor.fetchone()[0], 0)
            cursor.execute(_COMMON)
            row = cursor.fetchone() if entries >= COMMON_FROM else None
        words, shares = row if row and row[0] and row[1] else ([], [])
        common = [word for word, share in zip(words, shares, strict=False) if share > COMMON]
        _known = (time.monotonic(), entries, common)
    return _known[1], _known[2]


def _given(scope: Scope, now: datetime, kinds: Sequence[str]) -> dict[str, Any]:
    return {
        "scopes": list(scope.scopes),
        "agent": scope.agent_id,
        "any_agent": scope.any_agent,
        "kinds": [str(kind) for kind in kinds],
        "now": now,
    }


def _found(row: Sequence[Any]) -> Found:
    return Found(
        id=row[0],
        kind=row[1],
        text=row[2],
        origin=row[3],
        untrusted=row[4],
        scope=row[5],
        job_id=row[6],
        created_at=row[7],
        near=row[8],
        worded=row[9],
        score=float(row[10]),
    )
