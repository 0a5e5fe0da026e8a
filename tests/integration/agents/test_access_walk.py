"""Every page and every operation, knocked at by everybody, the least first: who is let in stands in `access_table`.

A page or operation that has no entry there fails here. Who is not let in is told nothing of ada's, and changes nothing.
"""

import copy
import json
import re
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpResponseBase
from django.test import Client
from django.utils import timezone
from rest_framework.views import APIView

from agents import tokens
from agents.models import ApiToken
from tests.integration.agents import access
from tests.integration.agents.access_table import BODIES, FOR_STRANGERS, NOTED, OPERATIONS, PAGES, TOLD

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("test_tools")]

# the least first: nobody; of another tenant, and staff without any permission; who may only read the job, or only
# approve; whose all of it is; a superuser
PEOPLE = ("out", "eve", "bob", "grace", "ada", "root")
STRANGERS = ("out", "eve")
OPEN_TO_STAFF = {
    "admin/",
    "admin/login/",
    "admin/logout/",
    "admin/jsi18n/",
    "admin/password_change/",
    "admin/password_change/done/",
}
APPROVING = ("approvals/", "api/v1/approvals", "api/v1/grants", "api/v1/glass", "a/", "slack/")
CLOSED = {401, 403, 404}
NOBODY = "nobody"


class Door:
    """Clients of everybody in one world."""

    def __init__(self, world: SimpleNamespace) -> None:
        self.world = world
        self.clients = {name: Client(raise_request_exception=False) for name in PEOPLE}
        for name, person in world.people.items():
            self.clients[name].force_login(person, backend="django.contrib.auth.backends.ModelBackend")
        self.cookies = {name: client.cookies.output() for name, client in self.clients.items()}

    def knock(self, name: str, method: str, path: str, body: Any = None) -> tuple[HttpResponseBase, bytes, list[str]]:
        """The answer, its body, and what it changed; nothing stays changed."""
        client, undone = self.clients[name], access.Undone()
        kept = copy.deepcopy(client.cookies)
        given: dict[str, Any] = {"data": body or {}}
        if path.startswith("/api/") and method != "get":
            given = {"data": json.dumps(body or {}), "content_type": "application/json"}
        with undone.going():
            answer = getattr(client, method)(path, **given)
            content = b"" if answer.streaming else answer.content
        client.cookies = SimpleCookie() if name == "out" else kept
        return answer, content, [one for one in undone.writes if not one.endswith(" django_session")]

    def least(self, method: str, route: str) -> tuple[str, list[str]]:
        """Who is the first to be let in, and what they changed. "": the page does not take the method. Of `TOLD`: who
        can change something.

        Raises:
            AssertionError: who was not let in was told something of ada's, or changed something; something that a
                stranger wrote stands in a page as it was written.
        """
        path, key = access.filled(route, self.world.ids), f"{method} {route}"
        for name in _knocking(route):
            answer, content, writes = self.knock(name, method, path, BODIES.get(key))
            if answer.status_code == 405:
                return "", []
            where = f"{method} {path} by {name}: {answer.status_code}"
            assert answer.status_code < 500 or route.startswith("flower/"), where
            content = content.replace(path.encode(), b"")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raw = access.RAW.search(access.TYPED.sub("", content.decode()))
                assert raw is None, f"{where} shows as it was written: {raw[0]}"
            to_sign_in = name == "out" and answer.headers.get("Location", "").startswith("/accounts/login/")
            if answer.status_code not in CLOSED and not to_sign_in and (writes or key not in TOLD):
                assert name not in STRANGERS or key in FOR_STRANGERS or access.MARK.encode() not in content, where
                return name, writes
            assert name not in STRANGERS or access.MARK.encode() not in content, f"{where} tells of ada's"
            assert not writes, f"{where} changed {writes}"
        return NOBODY, []


def _knocking(route: str) -> tuple[str, ...]:
    others = ("bob",) if "<uuid:job_id>" in route else ("grace",) if route.startswith(APPROVING) else ()
    return ("out", "eve", *others, "ada", "root")


@pytest.fixture
def door(monkeypatch, settings, tmp_path):
    settings.ARTIFACT_DIR, settings.MAILBOX_ENABLED = tmp_path, True
    settings.API_RATES = {"anonymous": 0, "user": 0, "token": 0}

    async def reading(function, *arguments):
        return await sync_to_async(function)(*arguments)

    # all of it in the test's own transaction, which no other connection sees
    monkeypatch.setattr(connections, "close_all", lambda: None)
    for module in ("agents.web.stream", "agents.web.views"):
        monkeypatch.setattr(f"{module}.reading", reading)
    # takes a snapshot, which only the first statement of a transaction can
    monkeypatch.setattr("audit.bundle.of_job", lambda job_id, *, actor: b"")
    return Door(access.world())


def parts(everything: list[tuple[str, str]], number: int) -> Any:
    """So many parts, each of them a test: a busy machine takes long for all of it."""
    return pytest.mark.parametrize("todo", [everything[one::number] for one in range(number)], ids=range(number))


def walked(door: Door, todo: list[tuple[str, str]]) -> dict[str, str]:
    """{method and route: who is let in}; reading changes nothing."""
    found = {}
    for method, route in todo:
        who, writes = door.least(method, route)
        if who:
            found[f"{method} {route}"] = who
        if method == "get":
            assert set(writes) <= NOTED.get(route, set()), f"reading {route} changed {writes}"
    return found


def said(table: dict[str, str], todo: list[tuple[str, str]]) -> dict[str, str]:
    return {name: who for name, who in table.items() if tuple(name.split(" ", 1)) in todo}


@parts([(method, route) for route in access.pages() for method in ("get", "post")], 4)
def test_every_page_lets_in_whom_the_table_says_and_nobody_else(door, todo):
    assert walked(door, todo) == said(PAGES, todo)


@parts(access.operations(), 3)
def test_every_operation_lets_in_whom_the_table_says_and_nobody_else(door, todo):
    assert walked(door, todo) == said({name: who for name, (who, _) in OPERATIONS.items()}, todo)


def test_every_operation_asks_a_token_for_its_scope(door):
    """A token without any scope is told which one is missing."""
    secret = tokens.new_secret()
    ApiToken.objects.create(
        user=door.world.people["root"], name="none", token_sha256=tokens.sha256(secret), hint="cs_", scopes=[],
        created_at=timezone.now(),
    )  # fmt: skip
    found = {}
    for method, route in access.operations():
        answer = getattr(Client(), method)(
            access.filled(route, door.world.ids), headers={"Authorization": f"Bearer {secret}"}
        )
        scope = re.fullmatch(r"This token lacks the scope (\S+)\.", answer.json().get("detail", ""))
        found[f"{method} {route}"] = scope[1] if scope else ""
    assert found == {name: scope for name, (_, scope) in OPERATIONS.items()}


def test_only_what_is_signed_by_itself_takes_forms_of_other_sites():
    """All operations ask a session for its token against forged requests, and all pages."""
    exempt = {path for path, one in access.routes() if getattr(one.callback, "csrf_exempt", False)}
    assert {path for path in exempt if not path.startswith("api/")} == {"hooks/<slug:name>/", "slack/interactivity/"}
    for path, one in access.routes():
        view = getattr(one.callback, "view_class", None)
        if path.startswith("api/v1/"):
            assert view.authentication_classes == APIView.authentication_classes, path


def test_staff_without_permission_see_and_do_nothing_in_the_back_office(door):
    """Every page of it, those of actions too: closed. The search over all of it finds nothing."""
    ids = {**door.world.ids, **dict.fromkeys(("object_id", "object_pk", "pk", "rule"), door.world.job.pk)}
    ids |= dict.fromkeys(("id", "user_id", "group_id", "content_type_id"), 1)
    for route in sorted({path for path, _ in access.routes() if path.startswith("admin/") and "(?P" not in path}):
        # the bare id only leads on to `change/`; its history asks as `change/` does
        if route in OPEN_TO_STAFF or route.endswith(("/<path:object_id>/", "/history/")):
            continue
        asked = [("get", {"q": "quagga", "s": "quagga"})]
        if route.count("/") > 3 and not route.endswith(("/change/", "/add/")):
            asked.append(("post", {}))
        for method, given in asked:
            answer, content, writes = door.knock("eve", method, access.filled(route, ids), given)
            where = f"{method} {route}: {answer.status_code}"
            led_away = answer.headers.get("Location", "").startswith("/admin/")  # to a page that is asked here as well
            assert led_away or route == "admin/search/" or answer.status_code in {403, 404, 405}, where
            assert access.MARK.encode() not in content and not writes, where
