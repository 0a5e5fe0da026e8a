"""Database connections of threads that wait for others."""

from django.db import connection


def rest() -> None:
    """Gives this thread's connection back where the process shares a pool of them (`config.pool`), before a long wait.

    The next query takes another. Inside a transaction, and without a pool, nothing happens.
    """
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
