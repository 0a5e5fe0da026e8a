"""Secrets, the run file and its lock, the environment that other shells adopt."""

import os
import stat
from pathlib import Path

import pytest

from config.devstack import environment, runfile
from config.devstack.environment import Given
from config.devstack.errors import StackError
from config.devstack.linux import started_at
from config.devstack.secret_files import SecretFiles


def test_a_secret_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    first = SecretFiles(tmp_path).get("admin-password")
    assert len(first) >= 16
    assert SecretFiles(tmp_path).get("admin-password") == first
    assert stat.S_IMODE((tmp_path / "secrets" / "admin-password").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert SecretFiles(tmp_path).get("redis-password") != first


def test_a_secret_that_cannot_be_kept_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "secrets").touch()
    with pytest.raises(StackError) as error:
        SecretFiles(tmp_path).get("admin-password")
    assert "\n" not in str(error.value)


def test_only_one_supervisor_holds_a_data_folder_and_the_other_learns_where_it_is(tmp_path: Path) -> None:
    held = runfile.take_lock(tmp_path)
    runfile.write(tmp_path, runfile.Running(pid=os.getpid(), started_at=1, address="http://127.0.0.1:8123"))
    assert runfile.locked(tmp_path)
    with pytest.raises(StackError, match=r"already runs at http://127\.0\.0\.1:8123"):
        runfile.take_lock(tmp_path)
    os.close(held)
    assert not runfile.locked(tmp_path)
    os.close(runfile.take_lock(tmp_path))


def test_the_run_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    running = runfile.Running(
        pid=1, started_at=2, address="a", state="ready", processes={"web": (3, 4), "beat": (5, None)}
    )
    runfile.write(tmp_path, running)
    assert runfile.read(tmp_path) == running
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"processes": {"web": 3}}'])
def test_a_broken_run_file_means_that_nothing_is_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert runfile.read(tmp_path) is None


def test_a_pid_that_another_process_got_later_is_not_ours() -> None:
    now = started_at(os.getpid())
    assert now is not None
    assert runfile.same_process(os.getpid(), now)
    assert not runfile.same_process(os.getpid(), now - 1)


def test_another_shell_adopts_the_environment_of_the_stack(tmp_path: Path) -> None:
    environment.write(tmp_path, {"DATABASE_URL": "postgresql://kept", "REDIS_URL": "redis://kept"})
    assert stat.S_IMODE((tmp_path / "environment.json").stat().st_mode) == 0o600
    shell = {"COUNTERSIGN_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://mine"}
    environment.adopt(shell)
    assert shell["DATABASE_URL"] == "postgresql://kept"
    assert shell["REDIS_URL"] == "redis://mine"
    environment.disown(shell)
    assert shell == {"COUNTERSIGN_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://mine"}


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_URL_FILE"])
def test_a_shell_that_names_its_database_adopts_nothing(tmp_path: Path, name: str) -> None:
    environment.write(tmp_path, {"DATABASE_URL": "postgresql://kept", "SECRET_KEY": "kept"})
    shell = {"COUNTERSIGN_DATA_DIR": str(tmp_path), name: "given"}
    environment.adopt(shell)
    assert shell == {"COUNTERSIGN_DATA_DIR": str(tmp_path), name: "given"}


def test_nothing_to_adopt_is_fine(tmp_path: Path) -> None:
    shell = {"COUNTERSIGN_DATA_DIR": str(tmp_path)}
    environment.adopt(shell)
    (tmp_path / "environment.json").write_text("not json")
    environment.adopt(shell)
    assert shell == {"COUNTERSIGN_DATA_DIR": str(tmp_path)}


def test_what_is_given_is_not_started() -> None:
    assert Given.of({}) == Given(database=False, redis=False, model=False)
    given = Given.of({"DATABASE_URL_FILE": "/x", "REDIS_URL": "redis://x", "OPENAI_API_KEY": "k"})
    assert given == Given(database=True, redis=True, model=True)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "LLM_MODEL"),
        ({"EMAIL_HOST_USER": "me"}, "EMAIL_HOST"),
        ({"EMAIL_HOST": "mail", "EMAIL_FROM": "a@b", "EMAIL_HOST_USER": "me"}, "EMAIL_HOST_PASSWORD"),
        ({"EMAIL_HOST": "mail"}, "EMAIL_FROM"),
    ],
)
def test_a_missing_setting_is_named(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(StackError, match=rf"^{missing} is not set"):
        Given.of(environ)
