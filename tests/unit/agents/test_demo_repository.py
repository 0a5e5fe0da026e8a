"""The sample repository: real history, a real bug, and a test that finds it."""

import os
import subprocess
import sys

import pytest

from agents.demo import repository
from agents.demo.history import HISTORY


def git(*arguments, cwd):
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path):
    remote = repository.create(tmp_path / "demo")
    git("clone", "--quiet", str(remote), str(tmp_path / "clone"), cwd=tmp_path)
    return tmp_path / "clone"


def run_tests(folder):
    return subprocess.run([sys.executable, "-m", "unittest"], cwd=folder, capture_output=True, text=True, check=False)


def test_it_has_a_history_of_several_days_and_people(clone):
    log = git("log", "--format=%ad %an", "--date=short", cwd=clone).splitlines()
    assert len(log) == len(HISTORY) >= 5
    assert len({line.split()[0] for line in log}) == len(log)
    assert len({line.split(" ", 1)[1] for line in log}) >= 2
    assert git("symbolic-ref", "--short", "HEAD", cwd=clone) == "main"


def test_exactly_one_test_fails_and_only_in_the_newest_commit(clone):
    run = run_tests(clone)
    assert run.returncode == 1
    assert "test_half_a_cent_rounds_up" in run.stderr and "failures=1" in run.stderr and "errors" not in run.stderr
    git("checkout", "--quiet", "HEAD~1", cwd=clone)
    assert run_tests(clone).returncode == 0


def test_the_cause_is_the_rounding_and_nothing_else(clone):
    money = clone / "billing" / "money.py"
    money.write_text(money.read_text().replace("ROUND_HALF_EVEN", "ROUND_HALF_UP"))
    run = run_tests(clone)
    assert run.returncode == 0, run.stderr


def test_made_again_it_keeps_what_is_there(tmp_path):
    remote = repository.create(tmp_path)
    (remote / "description").write_text("mine")
    assert repository.create(tmp_path) == remote
    assert (remote / "description").read_text() == "mine"
    assert os.listdir(tmp_path) == ["sample.git"]


def test_the_users_own_git_configuration_has_no_say(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Somebody\n[commit]\n\tgpgSign = true\n[core]\n\thooksPath = /nowhere\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    remote = repository.create(tmp_path / "demo")
    monkeypatch.delenv("GIT_DIR")
    assert "Somebody" not in git("log", "--format=%an %cn", cwd=remote)


def test_every_sample_is_the_same(tmp_path):
    first, second = repository.create(tmp_path / "a"), repository.create(tmp_path / "b")
    assert git("rev-parse", "main", cwd=first) == git("rev-parse", "main", cwd=second)


def test_without_git_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(repository.DemoFailed, match="git is not installed"):
        repository.create(tmp_path / "demo")
    assert not (tmp_path / "demo" / "sample.git").exists()
