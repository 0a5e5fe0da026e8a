"""From the log's first form, one table whose columns were generated expressions, to parts by time.

No record is copied or changed: the table becomes the first part, so places, hashes and proofs stay as they are.
"""

from collections.abc import Callable
from typing import Any

from audit import schema

Fetch = Callable[[str], list[tuple[Any, ...]]]
"""Executes one text of SQL and gives its rows."""

_NEW_TABLES = ("audit_partition", "audit_hold", "audit_kept")
_FORM = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass('audit_event')"
_TRIGGERS = """
SELECT tgname, tgrelid::regclass::text FROM pg_trigger
  WHERE tgrelid IN ('audit_event'::regclass, 'audit_payload'::regclass) AND NOT tgisinternal
"""
_FOREIGN_KEYS = "SELECT conname FROM pg_constraint WHERE conrelid = 'audit_payload'::regclass AND contype = 'f'"
_INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '{}'::regclass"
# The end of the month of the last record, or of this month.
_LIMIT = """
SELECT audit_uuid_at((date_trunc('month', greatest(now(), to_timestamp(coalesce((
  SELECT ('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0
    FROM audit_event_first ORDER BY id DESC LIMIT 1), 0))) AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')::text
"""


def convert(run: schema.Run, fetch: Fetch, *, schema_name: str, superuser: bool) -> bool:
    """Converts the log of `schema_name` (a quoted identifier) in the transaction that is open; False where it has its
    present form already. Processes of the release before cannot write until they are restarted."""
    if fetch(_FORM) != [("r",)]:
        return False
    for name, table in fetch(_TRIGGERS):
        run(f"DROP TRIGGER {name} ON {table}")
    for (name,) in fetch(_FOREIGN_KEYS):
        run(f"ALTER TABLE audit_payload DROP CONSTRAINT {name}")
    for name in schema.PROJECTED:
        run(f"ALTER TABLE audit_event ALTER COLUMN {name} DROP EXPRESSION")  # keeps the values
    for table in schema.PARTED:
        for (name,) in fetch(_INDEXES.format(table)):
            run(f"ALTER INDEX {name} RENAME TO {name.replace(table, f'{table}_first', 1)}")
        run(f"ALTER TABLE {table} RENAME TO {table}_first")
    run(schema.CREATE_PARTED)
    run(schema.CREATE_RETENTION)
    schema.install_functions(run, schema=schema_name)
    schema.create_triggers(run, (*schema.PARTED, *_NEW_TABLES))
    if superuser:
        schema.give_to_owner(run, schema=schema_name)
        for table in schema.PARTED:
            run(f"ALTER TABLE {table}_first OWNER TO {schema.OWNER}")
    for table in (*schema.PARTED, *_NEW_TABLES):
        run(f"REVOKE ALL ON {table} FROM PUBLIC")
    ((limit,),) = fetch(_LIMIT)
    run(f"INSERT INTO audit_partition (name, upper) VALUES ('first', '{limit}')")  # noqa: S608  a UUID
    for table in schema.PARTED:
        run(f"ALTER TABLE {table} ATTACH PARTITION {table}_first FOR VALUES FROM (MINVALUE) TO ('{limit}')")
        run(f"SELECT audit_guard_partition('{table}', 'first')")
    schema.add_partitions(run)
    if superuser:
        schema.create_event_triggers(run)
    return True
