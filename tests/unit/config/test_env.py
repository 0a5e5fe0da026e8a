from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env


def test_a_value_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "secret"))
    assert env.text("THING") == "s3cret"


def test_a_value_and_a_file_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "x")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "secret"))
    with pytest.raises(ImproperlyConfigured, match="not both"):
        env.text("THING")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING_FILE", str(tmp_path / "absent"))
    with pytest.raises(ImproperlyConfigured, match=r"THING_FILE: cannot read .*absent"):
        env.text("THING")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^THING_THAT_IS_NOT is not set"):
        env.text("THING_THAT_IS_NOT")


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("no", False), ("", False)]
)
def test_booleans(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("THING", text)
    assert env.boolean("THING") is value


@pytest.mark.parametrize(("read", "text"), [(env.boolean, "maybe"), (env.integer, "4.5")])
def test_values_of_the_wrong_kind_are_refused(monkeypatch: pytest.MonkeyPatch, read, text: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("THING", text)
    with pytest.raises(ImproperlyConfigured, match=f"THING .*{text}"):
        read("THING")


def test_a_database_url_becomes_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "postgresql://me:p%40ss@db.example:6543/main?sslmode=require")
    found = env.database("THING")
    assert found == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "main",
        "USER": "me",
        "PASSWORD": "p@ss",
        "HOST": "db.example",
        "PORT": "6543",
        "OPTIONS": {**found["OPTIONS"], "sslmode": "require"},  # type: ignore[dict-item]
    }


def test_a_cut_network_is_noticed_unless_the_url_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "postgresql://db.example/main?connect_timeout=9")
    options = env.database("THING")["OPTIONS"]
    assert isinstance(options, dict)
    assert options["connect_timeout"] == "9"
    assert int(options["tcp_user_timeout"]) <= 20_000
    assert int(options["keepalives_idle"]) + 3 * int(options["keepalives_interval"]) <= 20


def test_a_socket_folder_may_stand_as_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "postgresql:///main?host=/run/postgresql")
    assert env.database("THING")["HOST"] == "/run/postgresql"


@pytest.mark.parametrize(
    ("url", "why"),
    [("mysql://x/y", "needs PostgreSQL"), ("sqlite:///x", "needs PostgreSQL"), ("postgresql://h", "names no database")],
)
def test_another_database_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, url: str, why: str) -> None:
    monkeypatch.setenv("THING", url)
    with pytest.raises(ImproperlyConfigured, match=why) as error:
        env.database("THING")
    assert "\n" not in str(error.value)
