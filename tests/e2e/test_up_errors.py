"""What can be wrong is said in one line, with exit code 2, and leaves nothing running."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.devstack import runfile
from config.devstack.places import free_port
from tests.e2e.starting import run_down, run_up
from tests.stack import remove_tree


@pytest.fixture
def folder(shared_tmp: Path) -> Iterator[Path]:
    yield shared_tmp / "wrong"
    remove_tree(shared_tmp / "wrong")


def one_line(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("countersign: ")
    return lines[0]


def test_a_port_in_use(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_up("--data-dir", str(folder), "--port", str(port))
    assert done.returncode == 2
    assert f"Port {port} is in use; choose another: bin/up --port " in one_line(done.stderr)
    assert runfile.read(folder) is None


def test_a_data_folder_that_cannot_be_written(shared_tmp: Path) -> None:
    file = shared_tmp / "a-file"
    file.touch()
    done = run_up("--data-dir", str(file / "data"), "--port", str(free_port()))
    assert done.returncode == 2
    assert "cannot be written" in one_line(done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root do the servers run as somebody else")
def test_a_data_folder_that_the_servers_cannot_reach(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = run_up("--data-dir", str(tmp_path / "data"), "--port", str(free_port()))
    assert done.returncode == 2
    assert "cannot reach it" in one_line(done.stderr)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_database_that_is_not_postgresql(folder: Path) -> None:
    done = run_up("--data-dir", str(folder), "--port", str(free_port()), DATABASE_URL="mysql://me@127.0.0.1/x")
    assert done.returncode == 2
    assert "DATABASE_URL must start with postgresql://" in one_line(done.stderr)


def test_a_database_that_does_not_answer(folder: Path) -> None:
    url = f"postgresql://me:s3cret@127.0.0.1:{free_port()}/x"
    done = run_up("--data-dir", str(folder), "--port", str(free_port()), DATABASE_URL=url)
    assert done.returncode == 2
    assert "DATABASE_URL cannot be used: " in one_line(done.stderr)
    assert "s3cret" not in done.stderr + done.stdout


def test_a_database_that_does_not_exist(folder: Path) -> None:
    url = os.environ["DATABASE_URL"].rpartition("/")[0] + "/absent"
    done = run_up("--data-dir", str(folder), "--port", str(free_port()), DATABASE_URL=url)
    assert done.returncode == 2
    assert 'database "absent" does not exist' in one_line(done.stderr)


def test_a_broken_cluster_of_our_own(folder: Path) -> None:
    cluster = folder / "postgres" / "pg"
    cluster.mkdir(parents=True)
    folder.chmod(0o711)
    (cluster / "PG_VERSION").write_text("12\n")
    (folder / "postgres" / "pg.password").write_text("x")
    done = run_up("--data-dir", str(folder), "--port", str(free_port()))
    assert done.returncode == 2
    assert "PostgreSQL did not start: " in one_line(done.stderr)


def test_a_redis_that_does_not_answer(folder: Path) -> None:
    done = run_up(
        "--data-dir", str(folder), "--port", str(free_port()), REDIS_URL=f"redis://:s3cret@127.0.0.1:{free_port()}/0"
    )
    assert done.returncode == 2
    assert "REDIS_URL cannot be used: " in one_line(done.stderr)
    assert "s3cret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
            "LLM_MODEL is not set: name the model that OPENAI_BASE_URL serves.",
        ),
        ({"EMAIL_HOST": "127.0.0.1"}, "EMAIL_FROM is not set: mails through EMAIL_HOST need a sender."),
        ({"SECRET_KEY": "a", "SECRET_KEY_FILE": "/b"}, "Set SECRET_KEY or SECRET_KEY_FILE, not both."),
        ({"DATABASE_URL_FILE": "/absent"}, "DATABASE_URL_FILE: cannot read /absent: No such file or directory."),
    ],
)
def test_a_missing_or_unreadable_setting(folder: Path, environ: dict[str, str], line: str) -> None:
    done = run_up("--data-dir", str(folder), "--port", str(free_port()), "--no-demo", **environ)
    assert done.returncode == 2
    assert one_line(done.stderr) == f"countersign: {line}"


def test_an_unknown_option_shows_the_usage() -> None:
    done = run_up("--prot", "8000")
    assert done.returncode == 2
    assert "usage: bin/up" in done.stderr


def test_errors_of_a_detached_start_reach_the_terminal_too(folder: Path) -> None:
    done = run_up(
        "--detach", "--data-dir", str(folder), "--port", str(free_port()), DATABASE_URL="mysql://me@127.0.0.1/x"
    )
    assert done.returncode == 2
    assert "DATABASE_URL must start with postgresql://" in done.stdout + done.stderr


def test_down_where_nothing_runs_is_no_error(folder: Path) -> None:
    done = run_down("--data-dir", str(folder))
    assert done.returncode == 0
    assert "Nothing runs" in done.stdout
