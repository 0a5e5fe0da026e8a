import pytest
from django.db import connection

pytestmark = pytest.mark.django_db


def test_where_the_server_has_pgvector_memories_have_a_column_for_vectors():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")
        (extensions,) = cursor.fetchone()
        cursor.execute(
            "SELECT count(*) FROM information_schema.columns WHERE (table_name, column_name) = ('agents_memory', 'embedding')"
        )
        (columns,) = cursor.fetchone()
    assert extensions == columns
