"""The self-test of the live configuration: each line passes, fails with its mend, or does not apply."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from approvals.models import BreakGlass, Notification
from config.devstack.places import free_port
from config.doctor import services
from config.verify import Line, governance, reaching
from config.verify import installation as settled
from tests import slackserver, smtpserver
from tests.factories import approvals
from tests.factories.policies import publish
from tests.smtpserver import Inbox
from tests.stack import Stack
from tools import registry

ROOT = Path(__file__).resolve().parents[3]


def one(lines: Iterable[Line]) -> Line:
    (line,) = lines
    return line


@pytest.fixture
def smtp(settings) -> Iterator[Inbox]:
    with smtpserver.running(settings) as inbox:
        yield inbox


@pytest.fixture
def production(settings) -> Any:
    settings.DEVELOPMENT, settings.DEBUG = False, False
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = "https://countersign.example", ["countersign.example"]
    settings.SECRET_KEY = "f3b1" * 16 + "zyxw"
    for switch in ("ALLOW_LOCAL_REPOSITORIES", "ALLOW_LOCAL_WEBHOOKS", "MAILBOX_ENABLED", "LLM_SCRIPTED"):
        setattr(settings, switch, False)
    return settings


def test_with_every_service_down_each_line_says_so_and_nothing_breaks(tmp_path: Path):
    closed = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "config.settings.prod",
        "SECRET_KEY": "f3b1" * 16 + "zyxw",
        "PUBLIC_URL": f"https://127.0.0.1:{closed}",
        "ALLOWED_HOSTS": "127.0.0.1",
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{closed}/none",
        "REDIS_URL": f"redis://127.0.0.1:{closed}/0",
        "COUNTERSIGN_DATA_DIR": str(tmp_path),
        "SLACK_BOT_TOKEN": "xoxb-secret-token",
        "SLACK_API_URL": f"http://127.0.0.1:{closed}/api/",
        "SLACK_CHANNEL": "C1",
        "APPROVAL_WEBHOOK_URL": f"https://127.0.0.1:{closed}/hook?secret-query",
        "APPROVAL_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    ran = subprocess.run(
        [sys.executable, "manage.py", "verify", "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "secret-token" not in ran.stdout + ran.stderr and "secret-query" not in ran.stdout
    report = json.loads(ran.stdout)
    lines = {line["name"]: line for line in report["lines"]}
    for name in ("postgresql", "migrations", "audit log", "policies", "quorum", "workers", "clock", "redis"):
        assert lines[name]["result"] == "fail", name
    for name in ("mail", "slack", "slack buttons", "approval webhook", "web server"):
        assert lines[name]["result"] == "fail", name
    assert "EMAIL_HOST is not set" in lines["mail"]["says"]
    for name in ("debug", "secret key", "hosts", "https", "second factor", "development switches"):
        assert lines[name]["result"] == "pass", lines[name]
    assert all(bool(line["mend"]) == (line["result"] == "fail") for line in report["lines"])
    assert report["ok"] is False and report["counts"]["fail"] >= 10


@pytest.mark.django_db
def test_it_prints_lines_and_ends_with_1_where_one_fails(capsys):
    """Here: the tests' role is a superuser, and no worker runs."""
    publish(("*", "allow"))
    with pytest.raises(SystemExit) as ended:
        call_command("verify", no_color=True)
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "pass postgresql" in out and "pass redis" in out and "FAIL workers" in out and "FAIL role" in out
    assert "n/a  https" in out


def test_settings_of_development_fail_in_production(production):
    assert one(settled.secret_key()).result == one(settled.hosts()).result == one(settled.switches()).result == "pass"
    production.SECRET_KEY = "development-only-not-a-secret-0123456789abcdef0123456789"
    assert one(settled.secret_key()).result == "fail"
    production.SECRET_KEY = "a" * 80
    assert one(settled.secret_key()).result == "fail"
    production.ALLOWED_HOSTS = ["*"]
    assert one(settled.hosts()).result == "fail"
    production.ALLOWED_HOSTS = ["elsewhere.example"]
    assert "countersign.example" in one(settled.hosts()).mend
    production.ALLOW_LOCAL_WEBHOOKS = True
    assert "ALLOW_LOCAL_WEBHOOKS" in one(settled.switches()).says
    production.PUBLIC_URL = "http://countersign.example"
    assert one(settled.https()).result == "fail"
    production.STEP_UP = False
    assert one(settled.second_factor()).result == "fail"
    production.DEBUG = True
    assert one(settled.debug()).result == "fail"


def test_a_signing_key_that_others_may_read_fails(settings, tmp_path: Path):
    settings.AUDIT_KEY_DIR = tmp_path / "keys"
    assert one(settled.signing_key()).result == "n/a"
    settings.AUDIT_KEY_DIR.mkdir(mode=0o700)
    key = settings.AUDIT_KEY_DIR / "checkpoint.key"
    key.write_text("secret")
    key.chmod(0o600)
    assert one(settled.signing_key()).result == "pass"
    key.chmod(0o640)
    assert str(key) in one(settled.signing_key()).says


@pytest.mark.django_db
def test_policies_must_name_every_tool_and_quorums_must_be_reachable():
    assert one(governance.tools_covered()).result == "fail"
    publish(("*", "ask"), quorum=2)
    assert one(governance.tools_covered()).result == "pass"
    approvals.approvers("grace")
    stuck = one(governance.quorums())
    assert stuck.result == "fail" and "rule-1" in stuck.says
    approvals.approvers("alan")
    assert one(governance.quorums()).result == "pass"
    publish(("git.*", "allow"))
    first = next(tool.name for tool in registry.every() if not tool.name.startswith("git."))
    assert first in one(governance.tools_covered()).says


@pytest.mark.django_db
def test_messages_given_up_and_reviews_overdue_fail():
    assert one(governance.messages()).result == one(governance.reviews()).result == "pass"
    (grace,) = approvals.approvers("grace")
    request = approvals.request()
    Notification.objects.filter(request=request).update(state="failed", error="550 no such user")
    assert "550" in one(governance.messages()).says
    at = timezone.now() - timedelta(days=2)
    BreakGlass.objects.create(request=request, user=grace, reason="fire", at=at, review_by=at + timedelta(days=1))
    assert one(governance.reviews()).result == "fail"


@pytest.mark.django_db
def test_a_database_whose_clock_is_off_fails(monkeypatch):
    assert one(governance.clocks()).result == "pass"
    real = timezone.now
    monkeypatch.setattr(governance.timezone, "now", lambda: real() + timedelta(seconds=30))
    assert one(governance.clocks()).result == "fail"
    assert connection.is_usable()


def test_slack_signs_in_and_posts_only_when_asked(settings, monkeypatch):
    monkeypatch.setattr(services, "TIMEOUT_S", 120.0)
    with slackserver.running() as slack:
        settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = slack.url, slackserver.TOKEN
        settings.SLACK_SIGNING_SECRET, settings.SLACK_CHANNEL = slackserver.SECRET, slackserver.CHANNEL
        assert [line.result for line in reaching.slack()] == ["pass", "pass"]
        assert not slack.messages
        assert [line.result for line in reaching.slack(send=True)] == ["pass", "pass", "pass"]
        assert len(slack.messages) == 1
        settings.SLACK_BOT_TOKEN = "xoxb-wrong"
        first = next(iter(reaching.slack()))
        assert first.result == "fail" and "invalid_auth" in first.says and "xoxb" not in first.says


def test_mail_is_connected_to_and_sent_only_when_asked(smtp, monkeypatch):
    monkeypatch.setattr(services, "TIMEOUT_S", 120.0)
    assert [line.result for line in reaching.mail()] == ["pass"]
    assert not smtp.taken
    assert [line.result for line in reaching.mail("ops@example.invalid")] == ["pass", "pass"]
    assert smtp.taken[0].rcpt_tos == ["ops@example.invalid"]
    smtp.answer = "550 no"
    assert [line.result for line in reaching.mail("ops@example.invalid")] == ["pass", "fail"]


def test_what_bin_up_starts_passes_but_for_what_other_tests_leave_in_it(stack: Stack):
    done = stack.manage("verify", "--json", timeout_s=180)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    lines = {line["name"]: line["result"] for line in report["lines"]}
    sure = ("debug", "hosts", "system checks", "signing key", "secrets", "sandbox", "postgresql", "migrations", "role")
    for name in (*sure, "audit grants", "policies", "channels", "mail"):
        assert lines[name] == "pass", name
    for name in ("https", "secret key", "slack", "approval webhook"):
        assert lines[name] == "n/a", name
