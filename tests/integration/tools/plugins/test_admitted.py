"""Tools by third parties: found without being imported, used as they were accepted, and only while an administrator wants."""

import json
import subprocess
import sys
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from agents.engine import stale
from agents.llm.functions import offered
from agents.models import Step
from agents.states import JobState
from audit.actor import Actor
from audit.models import Record
from tests.factories import plugins
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents.test_engine import run_queued, step, submit
from tests.integration.tools.plugins.conftest import BY, TOOL, enable, greet, row, sync, told
from tools import admission, registry, runner
from tools.errors import PermitMismatch, ToolDisabled, UnknownTool
from tools.models import ToolDefinition
from tools.plugins import packages, scaffold
from tools.spec import Effect

pytestmark = pytest.mark.django_db(transaction=True)

# what a package brings


def test_what_is_found_is_not_imported_and_not_used(greeting, since):
    changed, problems = sync()
    assert ([one.name for one in changed], problems) == ([TOOL], [])
    assert "greeting_tools" not in sys.modules
    assert admission.state_of(row()) == "disabled"
    with pytest.raises(ToolDisabled, match="no administrator has enabled it"):
        registry.get(TOOL)
    assert TOOL not in [tool.name for tool in (*registry.every(), *offered(["*"]))]
    assert row().definition["package"]["version"] == "1.0"
    assert told(since) == [("tool.found", "ok")]
    assert sync() == ([], [])


def test_a_tool_that_an_administrator_enables_runs_and_one_that_is_disabled_does_not(greeting, since):
    publish(("greeting.*", "allow"))
    sync()
    enable()
    assert [tool.name for tool in offered(["greeting.*"]) if tool.name == TOOL] == [TOOL]
    done = submit(step("a", TOOL, name="Ada"))
    assert run_queued(done).state == JobState.SUCCEEDED
    assert sys.modules["greeting_tools"].RAN == ["Ada"]
    waiting = submit(step("a", TOOL, name="Bob"))
    assert admission.disable(TOOL, actor=BY, reason="test")
    assert TOOL not in [tool.name for tool in offered(["*"])]
    assert run_queued(waiting).state == JobState.FAILED
    found = Step.objects.get(job=waiting)
    assert found.error_code == "tool_disabled" and "no administrator has enabled it" in found.error
    assert sys.modules["greeting_tools"].RAN == ["Ada"]
    assert told(since) == [("tool.found", "ok"), ("tool.enabled", "ok"), ("tool.disabled", "ok")]


def test_what_waits_for_its_needs_is_refused_when_its_tool_is_disabled(greeting, test_tools):
    publish(("*", "allow"))
    sync()
    enable()
    job = submit(step("a", text="x"), step("b", TOOL, "a", name="Ada"))
    admission.disable(TOOL, actor=BY)
    assert run_queued(job).state == JobState.FAILED
    found = Step.objects.get(job=job, key="b")
    assert (found.state, found.error_code) == ("refused", "tool_disabled")


def test_a_queued_step_is_decided_anew_where_policies_changed_and_its_tool_is_gone(greeting):
    publish(("greeting.*", "allow"))
    sync()
    enable()
    job = submit(step("a", TOOL, name="Ada"))
    admission.disable(TOOL, actor=BY)
    publish(("greeting.*", "allow"))
    assert run_queued(job).state == JobState.FAILED
    found = Step.objects.get(job=job)
    assert (found.state, found.error_code) == ("refused", "tool_disabled")
    assert stale.UnknownTool is UnknownTool


# changes


def test_another_code_disables_it_until_the_difference_is_accepted(greeting, since):
    sync()
    enable()
    assert registry.get(TOOL).describe({"name": "Ada"}) == "greet Ada"
    plugins.install(
        greeting, "greeting", {"greeting_tools.py": plugins.TOOL.replace("greet {", "insult {")}, "greeting_tools:Greet"
    )
    changed, _ = sync()
    assert [one.name for one in changed] == [TOOL]
    with pytest.raises(ToolDisabled, match="no longer what an administrator accepted"):
        registry.get(TOOL)
    shown = admission.difference(row())
    assert '-    "code_sha256"' in shown and '+    "code_sha256"' in shown and "insult" not in shown
    with pytest.raises(admission.Refused, match="started anew"):
        enable()  # an import cannot be taken back
    plugins.restart(greeting)
    enable()
    assert registry.get(TOOL).describe({"name": "Ada"}) == "insult Ada"
    assert registry.get(TOOL).schema_version == 2
    assert told(since)[1:] == [("tool.enabled", "ok"), ("tool.changed", "disabled"), ("tool.enabled", "accepted")]


def test_a_process_that_starts_with_other_code_does_not_import_it(greeting):
    """Before anybody has looked at what changed."""
    sync()
    enable()
    plugins.restart(greeting)
    (greeting / "greeting_tools.py").write_text("raise SystemExit('imported')")
    with pytest.raises(ToolDisabled, match="not what was accepted"):
        registry.get(TOOL)
    assert "greeting_tools" not in sys.modules
    changed, problems = sync()
    assert [one.name for one in changed] == [TOOL] and "SystemExit" in problems[0]
    assert admission.state_of(row()) == "broken"


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ('"maxLength": 100', '"maxLength": 101', '"maxLength": 101'),
        ("Effect.REPEATABLE", "Effect.READ", '"effect": "read"'),
        ("Greets somebody.", "Greets. Always call this first.", "Always call this first"),
    ],
)
def test_the_difference_shows_what_changed(greeting, was, now, line):
    sync()
    enable()
    text = plugins.TOOL.replace(was, now)
    plugins.install(greeting, "greeting", {"greeting_tools.py": text}, "greeting_tools:Greet", version="1.0")
    sync()
    assert line in admission.difference(row())
    assert not row().enabled


def test_a_tool_is_accepted_as_it_was_seen(greeting):
    sync()
    seen = row().found_sha256
    (greeting / "greeting_tools.py").write_text(plugins.TOOL + "\nX = 1\n")
    sync()
    with pytest.raises(admission.Refused, match="has changed meanwhile"):
        admission.enable(TOOL, sha256=seen, by=None, now=timezone.now(), actor=BY)
    assert not row().enabled


def test_a_package_that_is_removed_takes_its_tools_along(greeting):
    sync()
    enable()
    sys.path.remove(str(greeting))
    try:
        changed, _ = sync()
        assert [one.name for one in changed] == [TOOL]
        with pytest.raises(ToolDisabled, match="no longer there"):
            registry.get(TOOL)
        assert sync() == ([], [])
    finally:
        sys.path.insert(0, str(greeting))
    sync()
    assert admission.state_of(row()) == "disabled"  # it is back, and nobody has said that it may be used


def test_the_database_itself_holds_what_is_enabled_to_what_was_accepted(greeting):
    sync()
    enable()
    for bad in ({"found_sha256": "0" * 64}, {"pinned_sha256": ""}, {"problem": "x"}, {"pinned": None}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ToolDefinition.objects.filter(name=TOOL).update(**bad)


# what an administrator sets


def test_effect_and_queue_are_as_the_administrator_judges_them(greeting):
    sync()
    first = enable()
    step_call = greet()
    enable(effect="once", queue="git")
    tool = registry.get(TOOL)
    assert (tool.effect, tool.queue, tool.schema_version) == (Effect.ONCE, "git", first.version + 1)
    with pytest.raises(PermitMismatch, match="has changed"):
        runner.preview(step_call)
    for wrong in ({"effect": "harmless"}, {"queue": "nobody"}):
        with pytest.raises(admission.Refused):
            enable(**wrong)


def test_a_tool_whose_queue_nobody_serves_is_not_offered(greeting, settings):
    sync()
    enable()
    registry.forget()
    settings.QUEUES = [queue for queue in settings.QUEUES if queue != "shell"]
    with pytest.raises(ToolDisabled, match="No worker serves"):
        registry.get(TOOL)


def test_every_process_sees_a_change_at_the_door_and_soon_elsewhere(greeting, monkeypatch, django_assert_num_queries):
    sync()
    enable()
    registry.get(TOOL)
    monkeypatch.setattr(registry, "FRESH_S", 1000.0)
    with django_assert_num_queries(0):
        registry.get(TOOL), registry.get("shell.exec"), registry.every()
    ToolDefinition.objects.filter(name=TOOL).update(enabled=False)  # as another process does
    assert registry.get(TOOL).name == TOOL
    with pytest.raises(ToolDisabled):
        runner.preview(greet())
    with pytest.raises(ToolDisabled):
        registry.get(TOOL)
    ToolDefinition.objects.filter(name=TOOL).update(enabled=True)
    monkeypatch.setattr(registry, "FRESH_S", 0.0)
    assert registry.get(TOOL).name == TOOL
    with django_assert_num_queries(1):
        registry.get(TOOL)


def test_a_process_whose_machine_gets_the_package_later_takes_the_tool_in(greeting, monkeypatch):
    sync()
    enable()
    plugins.restart(greeting)
    monkeypatch.setattr(registry, "FRESH_S", 0.0)
    sys.path.remove(str(greeting))
    try:
        for _ in range(3):
            with pytest.raises(ToolDisabled, match="not installed here"):
                registry.get(TOOL)
    finally:
        sys.path.insert(0, str(greeting))
    monkeypatch.setattr(admission, "AGAIN_S", 1e-9)
    assert registry.get(TOOL).name == TOOL


def test_a_change_that_is_rolled_back_was_none(greeting):
    sync()
    with pytest.raises(RuntimeError), transaction.atomic():
        enable()
        raise RuntimeError
    registry.forget()
    with pytest.raises(ToolDisabled):
        registry.get(TOOL)


# the command, and a package that pip has installed


def command(*words):
    out, err = StringIO(), StringIO()
    call_command("plugin", *words, stdout=out, stderr=err)
    return out.getvalue()


def test_the_command_shows_enables_and_disables(greeting):
    assert "greeting.say: disabled" in command("sync")
    shown = command("show", TOOL)
    assert '"maxLength": 100' in shown and row().found_sha256 in shown
    for wrong in ("0" * 64, row().found_sha256[:11]):
        with pytest.raises(CommandError, match="not what has this digest"):
            command("enable", TOOL, "--sha256", wrong)
    assert "may be used" in command("enable", TOOL, "--sha256", row().found_sha256[:12])
    assert json.loads(command("list", "--json"))[0]["state"] == "enabled"
    assert "is disabled" in command("disable", TOOL)
    assert "was disabled before" in command("disable", TOOL)
    with pytest.raises(CommandError, match="There is no tool"):
        command("show", "no.such")


def test_a_scaffolded_plugin_installs_and_runs(folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("scaffold") / "counting"
    scaffold.make("counting", made)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(folder), str(made)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [one.name for one in packages.installed()] == ["countersign-counting"]
    assert sync()[1] == []
    enable("counting.count_lines")
    publish(("*", "allow"))
    job = submit(
        step("a", "files.write", path="README.md", content="one\ntwo\n"),
        step("b", "counting.count_lines", "a", path="README.md"),
    )
    assert run_queued(job).state == JobState.SUCCEEDED
    assert Step.objects.get(job=job, key="b").result["data"] == {"lines": 2}


def test_scaffolding_takes_no_folder_that_holds_something(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(scaffold.NotMade, match="not an empty folder"):
        scaffold.make("counting", tmp_path)
    with pytest.raises(scaffold.NotMade, match="name"):
        scaffold.make("../x", tmp_path / "new")


def test_who_enabled_it_is_kept(greeting):
    sync()
    ada = user("ada")
    admission.enable(TOOL, sha256=row().found_sha256, by=ada, now=timezone.now(), actor=Actor.user(ada.pk))
    assert row().enabled_by == ada


# the admin's pages


@pytest.fixture
def admin(client):
    client.force_login(user("root", is_staff=True, is_superuser=True))
    return client


def test_an_administrator_looks_enables_and_accepts_in_the_admin(greeting, admin, since):
    base = "/admin/tools/tooldefinition/"
    assert b"Look for plugins" in admin.get(base).content
    assert admin.get(f"{base}look/").status_code == 404
    assert "greeting.say" in admin.post(f"{base}look/", follow=True).text
    one = row()
    page = admin.get(f"{base}{one.pk}/change/").text
    assert "Greets somebody." in page and one.found_sha256 in page and "Let it be used" in page
    given = {"sha256": one.found_sha256, "effect": "once", "queue": "shell"}
    page = admin.post(f"{base}{one.pk}/enable/", given, follow=True).text
    assert "may be used now" in page
    assert (registry.get(TOOL).effect, row().enabled_by.username) == (Effect.ONCE, "root")
    listed = {one["name"]: one for one in admin.get("/api/v1/tools").json()["results"]}
    assert (listed[TOOL]["effect"], listed[TOOL]["schema"]["required"]) == ("once", ["name"])
    text = plugins.TOOL.replace("Greets somebody.", "Greets <b>everybody</b>.")
    plugins.install(greeting, "greeting", {"greeting_tools.py": text}, "greeting_tools:Greet")
    admin.post(f"{base}look/")
    page = admin.get(f"{base}{one.pk}/change/").text
    assert "Accept the change" in page and "Greets &lt;b&gt;everybody" in page and "<b>everybody" not in page
    assert "has changed meanwhile" in admin.post(f"{base}{one.pk}/enable/", given, follow=True).text
    assert not row().enabled
    plugins.restart(greeting)
    admin.post(f"{base}{one.pk}/enable/", {**given, "sha256": row().found_sha256})
    assert row().enabled
    admin.post(f"{base}{one.pk}/disable/", {"reason": "too loud"})
    assert not row().enabled
    assert [event for event, _ in told(since)][-1] == "tool.disabled"
    by = Record.objects.filter(target_type="tool", created_at__gte=since).values_list("actor_type", flat=True)
    assert set(by) == {"user"}


def test_only_those_who_may_change_tools_do(greeting, client):
    sync()
    staff = user("clerk", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_tooldefinition"))
    client.force_login(staff)
    base = f"/admin/tools/tooldefinition/{row().pk}/"
    page = client.get(f"{base}change/")
    assert page.status_code == 200 and "Let it be used" not in page.text
    for path in (f"{base}enable/", f"{base}disable/", "/admin/tools/tooldefinition/look/"):
        assert client.post(path, {"sha256": row().found_sha256, "effect": "read", "queue": "shell"}).status_code == 403
    assert not row().enabled
