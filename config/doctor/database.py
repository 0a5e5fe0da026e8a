"""PostgreSQL: is it there, as whom are we in it, is it migrated, is the audit log out of our reach?"""

from collections.abc import Iterator

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from audit.schema import TABLES
from config.doctor.finding import Finding, fail, ok, warn

OLDEST_POSTGRES = 15


def server() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
    except DatabaseError as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        yield fail("postgresql", said, "Start PostgreSQL and check DATABASE_URL (bin/up brings one of its own).")
        return
    where = f"{connection.settings_dict['HOST'] or 'local socket'}/{connection.settings_dict['NAME']}"
    if int(version.split(".")[0].split(" ")[0]) < OLDEST_POSTGRES:
        yield fail("postgresql", f"{version} at {where}", f"Use PostgreSQL {OLDEST_POSTGRES} or newer.")
    else:
        yield ok("postgresql", f"{version} at {where}")


def role() -> Iterator[Finding]:
    """A superuser, or the owner of the tables, could rewrite the audit log."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
        name, superuser, creates_roles = cursor.fetchone()
    if superuser or creates_roles:
        what = "a superuser" if superuser else "may create roles"
        yield fail(
            "role",
            f"{name} is {what}, so the audit log is not out of its reach" if superuser else f"{name} {what}",
            "Give the server a plain role: migrate as the owner, then manage.py database_grants --app-role ROLE.",
        )
    else:
        yield ok("role", f"{name} is a plain role")


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in missing[:5])
        yield fail("migrations", f"{len(missing)} to apply: {names}", "manage.py migrate")
    else:
        yield ok("migrations", "all applied")


def audit_grants() -> Iterator[Finding]:
    """The role may append and read; the database itself must refuse the rest."""
    too_much, unreadable = [], []
    with connection.cursor() as cursor:
        for table in TABLES:
            for right in ("UPDATE", "DELETE", "TRUNCATE"):
                cursor.execute("SELECT has_table_privilege(current_user, %s, %s)", (table, right))
                if cursor.fetchone()[0]:
                    too_much.append(f"{right} {table}")
            cursor.execute("SELECT has_table_privilege(current_user, %s, 'SELECT')", (table,))
            if not cursor.fetchone()[0]:
                unreadable.append(table)
    advice = "As the owner of the tables run: manage.py database_grants --app-role ROLE"
    if unreadable:
        yield fail("audit grants", f"cannot read {', '.join(unreadable)}", advice)
    elif too_much:
        shown = ", ".join(too_much[:4]) + (" …" if len(too_much) > 4 else "")
        yield warn("audit grants", f"this role may {shown}; only triggers stand before it", advice)
    else:
        yield ok("audit grants", "append and read only")
