"""Empties the database after a test that commits. Django truncates every table and makes the rows that the models
determine anew, which takes longer than most tests; this touches only tables that hold rows, and keeps those rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connection, transaction
from django.test import TransactionTestCase

ANONYMOUS = "username = 'AnonymousUser'"  # django-guardian's, which every migration makes sure of
# table -> its rows that stay
STAYS = {ContentType._meta.db_table: "true", Permission._meta.db_table: "true", User._meta.db_table: ANONYMOUS}
MANY_BYTES = 1 << 20  # a table as large as this is truncated, so that deleted rows do not pile up

# Only TRUNCATE empties what even a superuser may not delete from.
GUARDED = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgenabled = 'A' AND tgtype & 8 > 0"


class Flushing:
    """Made when the test database is new."""

    def __init__(self) -> None:
        self._slow = TransactionTestCase._fixture_teardown
        self._tables = sorted(connection.introspection.django_table_names(only_existing=True, include_views=False))
        self._guarded = {name for (name,) in self._rows(GUARDED)}
        self._superuser = self._rows("SELECT current_setting('is_superuser') = 'on'") == [(True,)]
        self._stayed = self._staying()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Django's test cases, and with them pytest's tests, use it within the block."""

        def teardown(case: TransactionTestCase) -> None:
            if case.available_apps is not None or case.serialized_rollback or not self._quickly():
                self._slow(case)
                self._stayed = self._staying()

        TransactionTestCase._fixture_teardown = teardown
        try:
            yield
        finally:
            TransactionTestCase._fixture_teardown = self._slow

    def _quickly(self) -> bool:
        """False where Django's way is needed: a test changed what stays, or somebody else holds locks."""
        try:
            if not self._superuser or self._staying() != self._stayed:
                return False
            with transaction.atomic():
                left = self._empty()
            if left:  # else later rows would take the places of these, and queries without an order give any order
                self._rows(f"VACUUM (SKIP_DATABASE_STATS) {', '.join(left)}")
        except OperationalError:
            return False
        return True

    def _empty(self) -> list[str]:
        """Gives the tables whose rows were deleted."""
        quote = connection.ops.quote_name
        gone = {
            name: f"{quote(name)} WHERE NOT ({STAYS[name]})" if name in STAYS else quote(name) for name in self._tables
        }
        with connection.cursor() as cursor:
            # waits for whoever still writes, as TRUNCATE does
            cursor.execute(f"LOCK TABLE {', '.join(map(quote, self._tables))} IN EXCLUSIVE MODE")
            cursor.execute(
                " UNION ALL ".join(
                    f"SELECT '{name}', pg_relation_size('{name}') WHERE EXISTS (SELECT FROM {rows})"
                    for name, rows in gone.items()
                )
            )
            full = dict(cursor.fetchall())
            cut = [name for name in full if name in self._guarded or (full[name] > MANY_BYTES and name not in STAYS)]
            if cut:
                cursor.execute(f"TRUNCATE {', '.join(map(quote, cut))} CASCADE")
            if left := [name for name in full if name not in cut]:
                # neither foreign keys nor triggers have to look at rows that all go
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute("; ".join(f"DELETE FROM {gone[name]}" for name in left))
        return [quote(name) for name in left]

    def _staying(self) -> list[tuple[Any, ...]]:
        columns = (
            f"(SELECT md5(string_agg(kept::text, ';' ORDER BY kept.id)) FROM {name} AS kept WHERE {which})"
            for name, which in STAYS.items()
        )
        return self._rows(f"SELECT {', '.join(columns)}")

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
