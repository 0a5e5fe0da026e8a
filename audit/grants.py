"""What the application's role may do in the database: its work everywhere, and in the log nothing but append and read."""

from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from audit.schema import CALLABLE, PARTED, TABLES

# What a writer may name in an INSERT; the rest is set by triggers or done by functions.
INSERTABLE = {
    "audit_event": ("id", "body", "signature", "kid"),
    "audit_payload": ("event_id", "slot", "salt", "value"),
    "audit_checkpoint": ("size", "root", "note"),
}


class RoleOwnsLog(Exception):
    """The role owns the log's tables, so no grant can bind it; the message is one line for a person."""


def apply(connection: BaseDatabaseWrapper, app_role: str) -> None:
    """Grants `app_role` DML on the schema's tables, and on the log's tables SELECT and INSERT alone.

    Run it after `migrate`, as the role that migrated. Running it again changes nothing.

    Raises:
        RoleOwnsLog: `app_role` is the role that owns the log's tables, a member of it, or a superuser.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema(), current_user")
        schema, current = cursor.fetchone()
        cursor.execute(
            "SELECT r.rolsuper, pg_has_role(r.oid, c.relowner, 'MEMBER') FROM pg_roles r, pg_class c "
            "WHERE r.rolname = %s AND c.oid = 'audit_event'::regclass",
            (app_role,),
        )
        found = cursor.fetchone()
        if found is None:
            raise RoleOwnsLog(f"There is no role {app_role} in this database.")
        if any(found):
            raise RoleOwnsLog(
                f"{app_role} owns the audit tables or is a superuser, so grants cannot bind it; "
                "let another role migrate."
            )
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = ANY(%s::text[]::regclass[])",
            (list(PARTED),),
        )
        parts = [name for (name,) in cursor.fetchall()]
        names = {"schema": sql.Identifier(schema), "role": sql.Identifier(app_role), "me": sql.Identifier(current)}
        for statement in _statements(names, parts):
            cursor.execute(statement)


def _statements(names: dict[str, sql.Identifier], parts: Iterable[str]) -> list[sql.Composed]:
    everywhere = [
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {me} IN SCHEMA {schema} "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {me} IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON {schema}.django_migrations FROM {role}",
    ]
    statements = [sql.SQL(text).format(**names) for text in everywhere]
    for part in parts:  # read and written by way of the whole table alone
        place = sql.SQL("{}.{}").format(names["schema"], sql.Identifier(part))
        statements.append(sql.SQL("REVOKE ALL ON {} FROM {role}").format(place, **names))
    for table in TABLES:
        place = sql.SQL("{}.{}").format(names["schema"], sql.Identifier(table))
        statements.append(sql.SQL("REVOKE ALL ON {} FROM {role}").format(place, **names))
        statements.append(sql.SQL("GRANT SELECT ON {} TO {role}").format(place, **names))
        if table in INSERTABLE:
            columns = sql.SQL(", ").join(map(sql.Identifier, INSERTABLE[table]))
            statements.append(sql.SQL("GRANT INSERT ({}) ON {} TO {role}").format(columns, place, **names))
    for function in CALLABLE:
        # the text is a constant of ours: a name and its argument types
        statements.append(sql.SQL("GRANT EXECUTE ON FUNCTION " + function + " TO {role}").format(**names))
    return statements
