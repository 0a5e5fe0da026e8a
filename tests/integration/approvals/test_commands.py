"""`manage.py approve` and `deny`."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from approvals.models import Vote
from tests.factories import approvals, people

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_approve_names_who_decides():
    approvals.approvers("grace")
    request = approvals.request()
    assert run("approve", str(request.pk), "--as", "grace") == "Approved: git push origin main\n"
    assert (Vote.objects.get().user.username, Vote.objects.get().channel) == ("grace", "cli")


def test_the_only_superuser_is_the_default():
    people.user("root", groups=("approvers",), is_superuser=True)
    request = approvals.request()
    facts = json.loads(run("approve", str(request.pk), "--json"))
    assert facts == {"approval": str(request.pk), "state": "approved", "approvals": 1, "quorum": 1}
    people.user("second", is_superuser=True)
    with pytest.raises(CommandError, match="--as"):
        run("approve", str(request.pk))


def test_a_quorum_is_counted():
    approvals.approvers("grace", "alan")
    request = approvals.request(quorum=2)
    assert run("approve", str(request.pk), "--as", "grace").startswith("Pending (1 of 2 from approvers)")


def test_deny_needs_a_reason():
    approvals.approvers("grace")
    request = approvals.request()
    with pytest.raises(CommandError):
        run("deny", str(request.pk), "--as", "grace")
    with pytest.raises(CommandError, match="Say why"):
        run("deny", str(request.pk), "--as", "grace", "--reason", " ")
    run("deny", str(request.pk), "--as", "grace", "--reason", "red")
    request.refresh_from_db()
    assert (request.state, request.answer) == ("denied", "red")


def test_refusals_exit_with_3_and_say_why(capsys):
    ada = people.user("ada", groups=("approvers",), is_superuser=True)
    request = approvals.request(requester=ada)
    with pytest.raises(CommandError) as caught:
        run("approve", str(request.pk))
    assert caught.value.returncode == 3
    assert "Nobody approves their own" in str(caught.value)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("approve", str(request.pk), "--json", stdout=out)
    assert ended.value.code == 3
    assert json.loads(out.getvalue())["code"] == "not_eligible"
    for nothing in ("no-id", "0190a7a4-7a0b-7c3e-8a55-0123456789ab"):
        with pytest.raises(CommandError, match="no such request"):
            run("approve", nothing)
    assert not Vote.objects.exists()


def test_hidden_characters_of_a_command_are_shown_in_the_terminal():
    approvals.approvers("grace")
    request = approvals.request(command="git \x1b[2J\u202epush")
    assert "\x1b" not in run("approve", str(request.pk), "--as", "grace")
