"""What happens between the servers' start and the programs' start: database roles, migrations, first contents."""

import psycopg
import redis
from django.core.management import call_command
from psycopg.conninfo import conninfo_to_dict

from config.devstack.errors import StackError
from config.devstack.postgres import Postgres

APP_ROLE = "countersign"
DATABASE = "countersign"
OLDEST_POSTGRES = 15


def check_database(url: str, *, name: str = "DATABASE_URL") -> None:
    """Can this database be used?

    Raises:
        StackError
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise StackError(f"{name} must start with postgresql://, since Countersign needs PostgreSQL.")
    try:
        where = conninfo_to_dict(url)
        with psycopg.connect(url, connect_timeout=5) as connection:
            version = connection.info.server_version // 10000
    except psycopg.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StackError(f"{name} cannot be used: {said[-1].strip()}") from None
    if version < OLDEST_POSTGRES:
        host, database = where.get("host"), where.get("dbname")
        raise StackError(
            f"{name}: {host}/{database} is PostgreSQL {version}; {OLDEST_POSTGRES} is the oldest that works."
        )


def check_redis(url: str) -> None:
    """Raises StackError when the Redis that was given cannot be used."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise StackError(f"REDIS_URL cannot be used: {str(error).splitlines()[0]}") from None


def make_role_and_database(postgres: Postgres, *, app_password: str) -> None:
    """In the embedded server: the role that all processes use, which is no superuser and owns nothing."""
    postgres.ensure_role(APP_ROLE, app_password)
    postgres.ensure_database(DATABASE)


def migrate(owner_url: str | None) -> None:
    """Migrates; as the owner with `owner_url`, and then gives the application's role what it needs and no more."""
    from django.conf import settings
    from django.db import connections

    app_role = str(settings.DATABASES["default"]["USER"])
    if owner_url is not None:
        owner = conninfo_to_dict(owner_url)
        connections["default"].settings_dict.update(USER=owner.get("user", ""), PASSWORD=owner.get("password", ""))
    call_command("migrate", interactive=False, verbosity=1)
    if owner_url is not None:
        call_command("database_grants", app_role=app_role)


def seed(*, password_file: str, demo: bool) -> None:
    call_command("seed", admin_password_file=password_file, demo=demo, json=True)
