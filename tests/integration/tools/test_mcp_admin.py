"""The admin and the command for MCP servers: what people see, change and accept."""

import shutil
import tempfile
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import Record
from tests.factories import mcp_servers as servers
from tests.factories.people import user
from tools import admission
from tools.mcp.models import McpServer
from tools.models import ToolDefinition

pytestmark = pytest.mark.django_db(transaction=True)
HELLO = "mcp.told.say_hello"


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="countersign-mcp-", dir="/var/tmp"))
    made.chmod(0o755)
    shutil.copyfile(servers.TOLD, made / servers.TOLD.name)
    (made / servers.TOLD.name).chmod(0o644)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def admin():
    client = Client()
    client.force_login(user("root", is_staff=True, is_superuser=True))
    return client


def form(folder, **more):
    return {
        "name": "told",
        "transport": "stdio",
        "protocol": "auto",
        "enabled": "on",
        "command": servers.PYTHON,
        "args": f"-S\n{folder / servers.TOLD.name}",
        "paths": str(folder),
        "env": "{}",
        "secrets": "{}",
        "profile": "read",
        "auth": "none",
        "timeout_s": "60",
        "idle_s": "60",
        **more,
    }


def test_a_server_is_added_asked_and_its_tools_are_accepted(admin, folder):
    since = timezone.now()
    wrong = admin.post(reverse("admin:tools_mcpserver_add"), form(folder, command="", network="*"))
    assert wrong.status_code == 200 and not McpServer.objects.exists()
    assert admin.post(reverse("admin:tools_mcpserver_add"), form(folder)).status_code == 302
    server = McpServer.objects.get()
    assert server.args == ["-S", str(folder / servers.TOLD.name)]
    page = reverse("admin:tools_mcpserver_change", args=[server.pk])
    look = reverse("admin:tools_mcpserver_look", args=[server.pk])
    assert admin.get(look).status_code == 404
    answer = admin.post(look, follow=True)
    assert "8 tools. New or changed: " in answer.content.decode()
    assert HELLO in admin.get(page).content.decode()
    row = ToolDefinition.objects.get(name=HELLO)
    tool_page = reverse("admin:tools_tooldefinition_change", args=[row.pk])
    shown = admin.get(tool_page).content.decode()
    assert "sayHello" in shown and "it says: readOnlyHint" in shown and "a stranger" in shown
    enable = reverse("admin:tools_tooldefinition_enable", args=[row.pk])
    admin.post(enable, {"sha256": row.found_sha256, "effect": "read", "queue": "mcp"})
    row.refresh_from_db()
    assert (row.enabled, row.effect) == (True, "read")
    answer = admin.post(page, form(folder, profile="build"), follow=True)
    assert "to be accepted again" in answer.content.decode()
    row.refresh_from_db()
    assert admission.state_of(row) == "changed"
    assert "1 of" not in admin.get(reverse("admin:tools_mcpserver_changelist")).content.decode()
    assert admin.post(reverse("admin:tools_mcpserver_delete", args=[server.pk]), {"post": "yes"}).status_code == 302
    told = Record.objects.filter(event="mcp.server_changed", target_id="told", created_at__gte=since)
    assert [one.outcome for one in told.order_by("created_at")] == ["added", "ok", "removed"]


def test_who_may_not_change_servers_may_not_ask_them(folder):
    server = servers.told(folder)
    client = Client()
    client.force_login(user("eve", is_staff=True))
    assert client.post(reverse("admin:tools_mcpserver_look", args=[server.pk])).status_code == 403
    assert not ToolDefinition.objects.filter(origin="mcp:told").exists()


def manage(*words):
    out, err = StringIO(), StringIO()
    try:
        call_command("mcp", *words, stdout=out, stderr=err)
    except SystemExit as ended:
        return f"{out.getvalue()}{err.getvalue()} exit {ended.code}"
    return out.getvalue()


def test_the_command(folder):
    assert "None." in manage("list")
    with pytest.raises(CommandError, match="command: Say which program"):
        manage("add", "told")
    with pytest.raises(CommandError, match="cannot be read: No closing quotation"):
        manage("add", "told", "--command=a 'b")
    with pytest.raises(CommandError, match="'A' is no NAME=VALUE"):
        manage("add", "told", "--command=a", "--env=A")
    program = str(folder / servers.TOLD.name)
    assert "is there" in manage(
        "add", "told", f"--path={folder}", "--env=A=b=c", f"--command={servers.PYTHON} -S {program}"
    )
    assert McpServer.objects.get().env == {"A": "b=c"}
    looked = manage("look")
    assert "8 tools, 8 new or changed." in looked and f"{HELLO}: disabled." in looked
    servers.enable(HELLO)
    assert "1 of 8 tools in use  on" in manage("list")
    assert '"in_use": 1' in manage("list", "--json")
    assert "is off" in manage("off", "told") and "  off" in manage("list")
    assert "is on" in manage("on", "told")
    manage("add", "away", "--url=http://127.0.0.1:9/mcp")
    assert "exit 3" in manage("look", "away")
    assert "is gone" in manage("remove", "told")
    assert admission.state_of(ToolDefinition.objects.get(name=HELLO)) == "broken"
    with pytest.raises(CommandError, match="no MCP server"):
        manage("remove", "told")
