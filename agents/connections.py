"""This thread's database connection: past the ORM, and given back before a long wait."""

from typing import Any

from django.db import connection
from psycopg import Connection

Raw = Connection[tuple[Any, ...]]


def raw_connection() -> Raw:
    """This thread's own connection, past the ORM. Its `prepare=True` prepares: Django turns that off."""
    connection.ensure_connection()
    raw: Raw = connection.connection
    if raw.prepare_threshold is None:
        raw.prepare_threshold = 5  # Django's own cursors never ask for it
    return raw


def rest() -> None:
    """Gives this thread's connection back where the process shares a pool of them (`config.pool`), before a long wait.

    The next query takes another. Inside a transaction, and without a pool, nothing happens.
    """
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
