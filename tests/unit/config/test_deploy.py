"""The example deployment names only what exists."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

from django.conf import settings
from django.core.management import get_commands

from config.devstack.places import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def test_each_unit_starts_a_command_that_exists() -> None:
    commands = get_commands()
    assert len(UNITS) == 6
    for unit in UNITS:
        (start,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        found = re.search(r"manage\.py (\w+)", start)
        assert found is None or found[1] in commands, unit.name
        assert found or re.search(r"-m (uvicorn|celery)\b", start), unit.name


def test_the_target_starts_every_unit_and_a_worker_for_every_group() -> None:
    wanted = (DEPLOY / "systemd" / "countersign.target").read_text()
    for unit in UNITS:
        if "@" not in unit.name:
            assert unit.name in wanted
    assert set(re.findall(r"countersign-worker@(\w+)\.service", wanted)) == set(settings.WORKER_GROUPS)


def test_every_setting_of_the_example_is_one_that_is_read() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "config").rglob("*.py"))
    names = re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "countersign.env").read_text(), re.MULTILINE)
    assert len(names) > 15
    assert [name for name in names if f'"{name}"' not in sources] == []


def test_nothing_of_the_example_holds_a_password() -> None:
    text = (DEPLOY / "countersign.env").read_text()
    for line in text.splitlines():
        if re.match(r"(SECRET_KEY|OPENAI_API_KEY|EMAIL_HOST_PASSWORD)=", line):
            assert line.endswith("=")


def test_the_requirements_name_no_index_and_no_folder_of_a_machine() -> None:
    for path in sorted((REPOSITORY / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"^--|://|file:", text, re.MULTILINE), path.name


def test_what_bin_up_installs_is_part_of_what_bin_test_installs() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(
                r"^([a-z0-9_.-]+==\S+)", Path(REPOSITORY / "requirements" / f"{name}.txt").read_text(), re.MULTILINE
            )
        )

    assert pins("base") == pins("prod")
    assert pins("base") < pins("dev") < pins("test")


def test_django_has_nothing_to_say_about_the_example_in_production(tmp_path: Path) -> None:
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", (DEPLOY / "countersign.env").read_text(), re.MULTILINE))
    given |= {"SECRET_KEY": secrets.token_urlsafe(48), "OPENAI_API_KEY": "key", "LLM_MODEL": "model"}
    given |= {"EMAIL_HOST": "mail.example.org", "COUNTERSIGN_DATA_DIR": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (told.returncode, told.stderr) == (0, ""), told.stderr
    assert "no issues" in told.stdout
