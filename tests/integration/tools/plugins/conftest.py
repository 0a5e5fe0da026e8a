"""A package of a third party that brings one tool, and what an administrator does with it."""

import pytest
from django.utils import timezone

from audit.actor import Actor
from audit.models import Record
from tests.factories import plugins
from tests.factories import tools as factory
from tools import admission, registry
from tools.models import ToolDefinition
from tools.plugins import inspecting
from tools.spec import Call

TOOL = "greeting.say"
BY = Actor.system("test")


@pytest.fixture
def test_tools():
    with factory.registered():
        yield factory


@pytest.fixture
def folder(tmp_path):
    with plugins.on_path(tmp_path):
        yield tmp_path


@pytest.fixture
def greeting(folder):
    plugins.install(folder, "greeting", {"greeting_tools.py": plugins.TOOL}, "greeting_tools:Greet")
    return folder


@pytest.fixture
def since():
    return timezone.now()


def sync():
    return inspecting.sync(now=timezone.now(), actor=BY)


def row(name=TOOL):
    return ToolDefinition.objects.get(name=name)


def enable(name=TOOL, **given):
    return admission.enable(name, sha256=row(name).found_sha256, by=None, now=timezone.now(), actor=BY, **given)


def told(since):
    """What the log says of the tool: (event, outcome), the oldest first."""
    rows = Record.objects.filter(target_type="tool", target_id=TOOL, created_at__gte=since)
    return [(one.event, one.outcome) for one in rows.order_by("created_at")]


def greet():
    version = registry.get(TOOL).schema_version
    return Call(tool=TOOL, schema_version=version, arguments={"name": "Ada"}, workspace_id=str(row().pk))
