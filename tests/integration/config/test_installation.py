"""Health, doctor, seed and the system checks on a real database and Redis."""

import json
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client

from agents.models import Agent, Job, Repository
from approvals.models import PolicyVersion
from config import checks
from config.devstack.places import free_port
from config.doctor import services
from config.seed import DEMO_KEY

pytestmark = pytest.mark.django_db


def test_healthz_says_ok_to_anybody_and_is_never_cached(client: Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "ok", "redis": "ok"})
    assert "no-store" in answer["Cache-Control"]
    assert client.post("/healthz").status_code == 405


def test_healthz_names_the_part_that_fails_and_keeps_the_reason_to_the_log(client: Client, settings) -> None:  # type: ignore[no-untyped-def]
    settings.REDIS_URL = f"redis://:s3cret@127.0.0.1:{free_port()}/0"
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "failed", "database": "ok", "redis": "failed"})


def test_seed_makes_what_an_installation_needs_and_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("correct horse battery\n")
    call_command("seed", admin_password_file=str(tmp_path / "password"), json=True)
    assert json.loads(capsys.readouterr().out) == {"created": ["group approvers", "user admin"]}
    admin = User.objects.get(username="admin")
    assert admin.is_superuser and admin.check_password("correct horse battery") and admin.email == "admin@localhost"
    assert list(admin.groups.values_list("name", flat=True)) == ["approvers"]
    assert PolicyVersion.objects.filter(status="published").count() == 1
    assert Agent.objects.filter(enabled=True).exists()
    (tmp_path / "password").write_text("another")
    call_command("seed", admin_password_file=str(tmp_path / "password"), json=True)
    assert json.loads(capsys.readouterr().out) == {"created": []}
    admin.refresh_from_db()
    assert admin.check_password("correct horse battery"), "a changed file must not change a password"
    assert Group.objects.count() == 1


def test_an_administrator_without_a_password_cannot_sign_in() -> None:
    call_command("seed", json=True)
    assert not User.objects.get(username="admin").has_usable_password()


def test_the_demo_is_submitted_once_by_a_user_who_cannot_sign_in(tmp_path: Path, settings) -> None:  # type: ignore[no-untyped-def]
    settings.DATA_DIR = tmp_path
    for _ in range(2):
        call_command("seed", demo=True, json=True)
    job = Job.objects.get(idempotency_key=DEMO_KEY)
    assert job.owner.username == "demo" and not job.owner.has_usable_password()
    assert not job.owner.is_staff and not job.owner.groups.exists(), "nobody approves their own"
    repository = Repository.objects.get(name="sample")
    assert job.repository == repository and (Path(repository.url) / "HEAD").exists()


def test_doctor_reports_each_part_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Here: a superuser's role and no worker, which it must not call healthy."""
    call_command("seed", json=True)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", json=True)
    assert ended.value.code == 1
    report = json.loads(capsys.readouterr().out)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert report["healthy"] is False
    assert found["postgresql"]["level"] == found["redis"]["level"] == found["policies"]["level"] == "ok"
    assert found["migrations"]["level"] == found["sandbox"]["level"] == found["python"]["level"] == "ok"
    assert found["role"]["level"] == "fail" and "database_grants" in found["role"]["todo"]
    assert found["workers"]["level"] == "fail"
    assert all(finding["todo"] for finding in report["findings"] if finding["level"] != "ok")


def test_doctor_says_what_is_wrong_with_the_model(settings) -> None:  # type: ignore[no-untyped-def]
    settings.LLM_BASE_URL, settings.LLM_API_KEY = f"http://127.0.0.1:{free_port()}/v1", "k"
    (finding,) = services.model()
    assert finding.level == "fail" and "OPENAI_BASE_URL" in finding.todo
    settings.LLM_BASE_URL, settings.LLM_API_KEY = "https://api.openai.com/v1", ""
    (finding,) = services.model()
    assert finding.level == "warn" and "OPENAI_API_KEY" in finding.todo


def test_doctor_says_what_is_wrong_with_the_mail_server(settings) -> None:  # type: ignore[no-untyped-def]
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    (finding,) = services.mail()
    assert finding.level == "fail" and "EMAIL_HOST" in finding.todo


def test_a_tool_without_a_worker_group_is_an_error(settings) -> None:  # type: ignore[no-untyped-def]
    assert checks.queues(None) == []
    settings.QUEUES = [queue for queue in django_settings.QUEUES if queue != "git"] + ["shell"]
    assert {message.id for message in checks.queues(None)} == {"countersign.E001", "countersign.E002"}


def test_keys_that_others_may_read_are_an_error(settings, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings.AUDIT_KEY_DIR = tmp_path / "keys"
    settings.AUDIT_KEY_DIR.mkdir(mode=0o700)
    settings.FLOWER_URL = ""
    assert checks.keys(None) == []
    settings.AUDIT_KEY_DIR.chmod(0o750)
    settings.FLOWER_URL, settings.FLOWER_BASIC_AUTH = "http://127.0.0.1:1", ""
    assert {message.id for message in checks.keys(None)} == {"countersign.E003", "countersign.E004"}


def test_development_settings_are_not_fit_for_production() -> None:
    assert "countersign.W103" in {str(message.id) for message in checks.production(None)}
