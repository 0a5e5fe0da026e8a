"""Sessions of the older era at `/mcp`: kept where a process has them, needed for nothing that our tools do."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.shared.exceptions import MCPError

from agents import tokens
from agents.mcp import updates
from agents.mcp.caller import as_access
from agents.models import ApiToken
from audit.actor import Actor
from tests.factories.people import user
from tests.integration.agents.web import Server, job, served

pytestmark = pytest.mark.django_db(transaction=True)
OLDER = "2025-11-25"
BEGIN = {"protocolVersion": OLDER, "capabilities": {}, "clientInfo": {"name": "curl", "version": "1"}}


@pytest.fixture(scope="module")
def processes(django_db_setup: None) -> Iterator[list[Server]]:
    with served() as one, served() as another:
        yield [one, another]


def token(of: User) -> tuple[ApiToken, str]:
    scopes, now = list(ApiToken.Scope.values), timezone.now()
    return tokens.create_token(user=of, name="curl", scopes=scopes, now=now, actor=Actor.user(of.pk))


class Raw:
    """What `curl` sends to a process."""

    def __init__(self, secret: str) -> None:
        self._http = httpx2.Client(trust_env=False, timeout=60)
        self._headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {secret}"}

    def send(self, to: Server, method: str, session: str = "", params: Any = None, *, verb: str = "POST") -> Any:
        known = {"Mcp-Session-Id": session, "Mcp-Protocol-Version": OLDER} if session else {}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        sent = None if verb == "DELETE" else body
        return self._http.request(verb, f"{to.url}/mcp", headers={**self._headers, **known}, json=sent)


def test_a_session_is_kept_where_it_began_and_needed_nowhere(processes):
    here, there = processes
    ada, mallory = (Raw(token(user(name))[1]) for name in ("ada", "mallory"))
    assert "get_job" in ada.send(here, "tools/list").text  # not even a handshake is
    session = ada.send(here, "initialize", params=BEGIN).headers["Mcp-Session-Id"]
    answers = [ada.send(to, "tools/list", session) for to in (here, there)]
    assert [one.status_code for one in answers] == [200, 200] and all("get_job" in one.text for one in answers)
    assert [one.headers.get("Mcp-Session-Id") for one in answers] == [session, None]
    assert mallory.send(here, "tools/list", session).status_code == 404
    assert ada.send(here, "", session, verb="DELETE").status_code == 200
    assert ada.send(here, "tools/list", session).status_code == 404
    assert ada.send(here, "tools/list", "of-a-process-before").status_code == 200


@dataclass(frozen=True)
class Asked:
    params: dict[str, Any]
    method: str = "subscriptions/listen"


@pytest.mark.parametrize("what", ["the token", "the job"])
def test_a_stream_ends_when_what_it_tells_is_no_longer_theirs(what, monkeypatch):
    monkeypatch.setattr(updates, "JUDGED_AGAIN_S", 0.05)
    ada = user("ada")
    held, _ = token(ada)
    mine = job(ada)
    uri = f"countersign://jobs/{mine.pk}"
    heard: list[Any] = []

    def lose() -> None:
        if what == "the token":
            ApiToken.objects.filter(pk=held.pk).update(revoked_at=timezone.now())
        else:
            type(mine).objects.filter(pk=mine.pk).update(owner=user("mallory"))

    async def stream(ctx: Any) -> Any:
        heard.append(ctx.params["notifications"]["resourceSubscriptions"])
        await updates.call(lose)
        await asyncio.sleep(60)

    async def listen() -> None:
        auth_context_var.set(AuthenticatedUser(as_access(held)))
        wanted = {"notifications": {"resourceSubscriptions": [uri]}}
        async with asyncio.timeout(50):
            asked: Any = Asked(wanted)
            await updates.only_visible(asked, stream)

    with pytest.raises(MCPError, match="no longer yours"):
        asyncio.run(listen())
    assert heard == [[uri]]
