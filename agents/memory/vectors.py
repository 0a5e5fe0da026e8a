"""Vectors of memories: the column that the table has where the server has pgvector, and vectors made without a model."""

import math
import re
import zlib
from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import connection

LEXICAL = "lexical-256"  # the name under which vectors without a model are kept: it says what they are
LEXICAL_DIMENSIONS = 256
LEXICAL_MAX_CHARS = 8000
HNSW_DIMENSIONS_MAX = 2000  # of pgvector's index on the type `vector`; longer ones are compared one by one
DIMENSIONS_MAX = 16_000
_WORD = re.compile(r"[^\W_]+")

_COLUMN = """
SELECT EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = to_regclass('agents_memory') AND attname = 'embedding' AND NOT attisdropped)
"""
_KEEP = "UPDATE agents_memory SET embedding = %s::vector, embedding_model = %s, dimensions = %s WHERE id = %s"
_KINDS = """
SELECT embedding_model, dimensions, count(*) FROM agents_memory
 WHERE embedding_model <> '' AND dimensions IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC
"""


def available() -> bool:
    """Can this database compare vectors? Where not, memories are found by their words alone."""
    with connection.cursor() as cursor:
        cursor.execute(_COLUMN)
        return bool(cursor.fetchone()[0])


def lexical(text: str) -> list[float]:
    """Words and their parts of three letters, each hashed to a place, of length 1: near are texts of like spelling.

    It knows nothing of meaning. The same text gives the same vector for ever.
    """
    values = [0.0] * LEXICAL_DIMENSIONS
    for word in _WORD.findall(text[:LEXICAL_MAX_CHARS].lower()):
        _add(values, word, 1.0)
        padded = f"<{word}>"
        for place in range(len(padded) - 2):
            _add(values, padded[place : place + 3], 0.5)
    length = math.sqrt(sum(value * value for value in values))
    if not length:
        values[0] = length = 1.0
    return [value / length for value in values]


def literal(values: Sequence[float]) -> str:
    """As pgvector reads it."""
    return "[" + ",".join(f"{value:.7g}" for value in values) + "]"


def keep(vectors: Iterable[tuple[UUID, Sequence[float]]], *, model: str) -> None:
    """Gives each of these memories its vector. Only where `available()`."""
    rows = [(literal(values), model, len(values), pk) for pk, values in vectors]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_KEEP, rows)


def make_ready() -> list[str]:
    """Takes pgvector into use where the server has it, and makes an index a kind of vector that has none. Gives what it
    did, in words. Needs the role that owns the tables, and for the extension one that may create it.

    Raises:
        django.db.Error: the role may not.
    """
    done = []
    with connection.cursor() as cursor:
        if not available():
            cursor.execute("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')")
            if not cursor.fetchone()[0]:
                return ["This PostgreSQL has no pgvector: memories are found by their words alone."]
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            cursor.execute("ALTER TABLE agents_memory ADD COLUMN IF NOT EXISTS embedding vector")
            cursor.execute("UPDATE agents_memory SET embedding_model = '', dimensions = NULL WHERE embedding IS NULL")
            done.append("Memories have vectors from now on; each gets its own when a job next searches there.")
        cursor.execute(_KINDS)
        for model, dimensions, count in cursor.fetchall():
            if dimensions > HNSW_DIMENSIONS_MAX:
                done.append(f"{count} vectors by {model}: too long for an index, compared one by one.")
                continue
            ((name, statement),) = index_statements([(model, dimensions)])
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
            if cursor.fetchone()[0]:
                continue
            cursor.execute(statement)
            done.append(f"An index for {count} vectors by {model}.")
    return done or ["There is nothing to do."]


def index_statements(kinds: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    """(name, statement) of the index of each (model, dimensions)."""
    made = []
    for model, dimensions in kinds:
        name = f"memory_near_{zlib.crc32(f'{model}/{dimensions}'.encode()):08x}"
        size, whose = int(dimensions), model.replace("'", "''")
        statement = (
            f"CREATE INDEX {name} ON agents_memory USING hnsw ((embedding::vector({size})) vector_cosine_ops)"
            f" WHERE embedding_model = '{whose}' AND dimensions = {size}"
        )
        made.append((name, statement))
    return made


def _add(values: list[float], part: str, weight: float) -> None:
    hashed = zlib.crc32(part.encode("utf-8", "replace"))
    values[hashed % LEXICAL_DIMENSIONS] += weight if hashed & 0x80000000 else -weight
