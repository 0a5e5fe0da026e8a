"""A small world of one person's things, and a walk over every address of the server by everybody who may knock.

Each request is rolled back, so that all of them meet the same world. Everything that is ada's alone holds `MARK`.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from django.db import connection, transaction
from django.urls import URLPattern, get_resolver
from django.utils import timezone
from guardian.shortcuts import assign_perm

from agents.chat import links as chat_links
from agents.engine.doubt import NEEDS_PERSON
from agents.evaluation import running
from agents.memory import keeping
from agents.models import (
    Conversation,
    EventRule,
    Plan,
    Repository,
    Schedule,
    Tenant,
    TriggerEvent,
    Webhook,
    WebhookEndpoint,
    WebhookMessage,
)
from agents.prompts import versions as prompt_versions
from agents.triggers import changes
from agents.workflows import versions as workflow_versions
from approvals import links
from approvals.models import BreakGlass, ChannelIdentity, Comment, Delegation, Grant, MailboxMessage
from audit.models import Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import web
from tests.integration.agents.api import agent
from tests.unit.agents.test_prompts import PROMPT
from tools.artifacts import store
from tools.models import Artifact

MARK = "quagga-7f3e"
NASTY = f"{MARK}<img src=x onerror=alert(1)>\u202egnp"  # in whatever people, models and strangers write
# where somebody changes a text it stands as it is
TYPED = re.compile(r"<textarea.*?</textarea>|<input[^>]*>", re.S)
RAW = re.compile(r".{0,120}(?:<img src=x|\u202e).{0,60}", re.S)
OPEN_NASTY = NASTY.replace(MARK, "for all")
PAYLOAD = {"steps": [{"key": "a", "tool": "test.note", "arguments": {"text": MARK}}]}
WORKFLOW = """\
name: ship-it
steps:
  - {key: a, tool: test.note, arguments: {text: x}}
"""
SUITE = """\
name: tries-quagga-7f3e
cases:
  - {name: one, inputs: {who: quagga-7f3e}, expect: ["answer.words != ''"]}
"""


def routes() -> Iterator[tuple[str, URLPattern]]:
    """Every pattern of the server, with the whole path as it is written."""

    def walk(patterns: Any, before: str) -> Iterator[tuple[str, URLPattern]]:
        for one in patterns:
            if isinstance(one, URLPattern):
                yield before + str(one.pattern), one
            else:
                yield from walk(one.url_patterns, before + str(one.pattern))

    return walk(get_resolver().url_patterns, "")


def pages() -> list[str]:
    """Those that are neither the API's nor the back office's."""
    return sorted(path for path, _ in routes() if not path.startswith(("admin/", "api/v1/", "api/^")))


def operations() -> list[tuple[str, str]]:
    """(method, path) of every operation of the API."""
    found = []
    for path, pattern in routes():
        view = getattr(pattern.callback, "view_class", None)
        if path.startswith("api/v1/"):
            assert view is not None, f"{path}: what is this?"
            found += [(name, path) for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)]
    return sorted(found, key=lambda one: (one[1], one[0]))


def world() -> SimpleNamespace:
    """ada's job, shared with bob for reading and asking grace, and one of each thing that she has; `ids` fill in the
    paths. eve is of another tenant, and staff without any permission."""
    now, later = timezone.now(), timezone.now() + timedelta(hours=1)
    people = {
        "ada": user("ada", groups=("red",)),
        "bob": user("bob"),
        "eve": user("eve", groups=("blue",), is_staff=True),
        "grace": user("grace", groups=("approvers",)),
        "root": user("root", is_staff=True, is_superuser=True),
    }
    ada = people["ada"]
    policy = publish(("test.*", "allow"))
    red = Tenant.objects.create(name=f"red-{MARK}")
    red.groups.add(ada.groups.get())
    helper = agent(
        "helper", description=OPEN_NASTY, instructions=OPEN_NASTY, role=OPEN_NASTY[:40], capabilities=["x<img src=x"]
    )
    repository = Repository.objects.create(name=f"shop-{MARK}", url=f"https://git.example/{MARK}.git", owner=ada)
    job = web.job(ada, goal=f"mend {NASTY}", agent=helper, repository=repository, tenant=red)
    done = web.step(
        job, "1.1", arguments={"text": NASTY}, result={"ok": True, "summary": NASTY, "text": NASTY, "data": {}}
    )
    doubt = web.step(job, "1.2", state="in_doubt", effect="once", error_code=NEEDS_PERSON)
    waits = web.step(job, "1.3", state="waiting_approval")
    web.write(job, web.output(done, f"said {NASTY}\n"))
    assign_perm("agents.view_job", people["bob"], job)
    call = {"tool": "git.push", "schema_version": 1, "arguments": {"remote": NASTY}, "workspace_id": "w"}
    request = web.request(waits, title=f"push {NASTY}", command=f"git push {NASTY}", call=call)
    type(waits).objects.filter(pk=waits.pk).update(approval_id=request.pk)
    comment = Comment.objects.create(
        request=request, user=people["grace"], text=f"why {NASTY}?", channel="page", at=now
    )
    content = f"kept {MARK}".encode()
    digest = _stored(content)
    artifact = Artifact.objects.create(
        workspace_id=job.pk, subject=str(done.pk), name=f"{NASTY}.txt", path="a.txt", content_type="text/plain",
        size_bytes=len(content), sha256=digest, created_at=now,
    )  # fmt: skip
    steps = [{"key": "a", "tool": "test.note", "arguments": {"text": NASTY}, "needs": [], "success_check": "",
              "reason": NASTY, "instead_of": ""}]  # fmt: skip
    Plan.objects.create(
        job=job, number=1, origin="agent", state="proposed", steps=steps, sha256="0" * 64, created_at=now
    )
    talk = Conversation.objects.create(
        owner=ada, agent=helper, title=f"about {NASTY}", titled_by="person", created_at=now, said_at=now
    )
    turn = web.job(
        ada,
        kind="chat",
        goal=f"hello {NASTY}",
        outcome=f"**so** {NASTY}",
        agent=helper,
        conversation=talk,
        state="succeeded",
    )
    link, address = chat_links.make(talk, {"shows": "now", "days": 7}, by=ada, now=now)
    memory = keeping.write(
        keeping.New(kind="fact", text=f"she likes {NASTY}", place=keeping.Place(owner=ada), origin="person",
                    key=f"test:{MARK}", by=ada), by=ada, now=now
    )  # fmt: skip
    prompt_versions.save_draft(
        PROMPT.replace("system: Be", f"system: {OPEN_NASTY}"), note=OPEN_NASTY, by=people["root"], now=now
    )
    draft = workflow_versions.save_draft(WORKFLOW, note=OPEN_NASTY, by=people["root"], now=now)
    evaluation = running.start(SUITE, ["prompt:greet@1"], by=ada, now=now)
    schedule, _ = changes.create(
        Schedule, {"name": f"s-{MARK}", "cron": "0 3 * * *", "time_zone": "UTC", "payload": PAYLOAD}, user=ada, now=now
    )
    hook, _ = changes.create(Webhook, {"name": f"h-{MARK}", "payload": PAYLOAD}, user=ada, now=now)
    rule, _ = changes.create(
        EventRule, {"name": f"r-{MARK}", "events": [{"name": "a"}], "payload": PAYLOAD}, user=ada, now=now
    )
    TriggerEvent.objects.create(name=f"e-{MARK}", owner=ada, source="api", at=now)
    endpoint, _ = changes.create(
        WebhookEndpoint,
        {"name": f"w-{MARK}", "address": f"https://example.com/{MARK}", "events": []},
        user=ada,
        now=now,
    )
    message = WebhookMessage.objects.create(
        endpoint=endpoint, event="job.failed", body="{}", state="failed", tries_left=0, not_before=now, created_at=now
    )
    grant = Grant.objects.create(
        parent_id=str(job.pk), parent_path=job.get_absolute_url(), tool="git.push", matcher={}, words=f"any {NASTY}",
        risk_max="low", policy_version=policy, rule="rule-1", from_request=request, given_by=[people["grace"].pk],
        created_at=now, expires_at=later, uses_max=3,
    )  # fmt: skip
    delegation = Delegation.objects.create(
        person=ada, deputy=people["bob"], starts_at=now, ends_at=later, reason=f"away {NASTY}"
    )
    glass = BreakGlass.objects.create(
        request=request, user=people["grace"], reason=f"fire {NASTY}", at=now, review_by=later
    )
    identity = ChannelIdentity.objects.create(
        user=ada, channel="slack", team="T", external_id="U1", name=NASTY, linked_at=now
    )
    mail = MailboxMessage.objects.create(
        sent_at=now, sender="a@b.c", recipients=["ada@example.invalid"], subject=NASTY, text=NASTY, source=b""
    )
    _, mailed = links.issue(request, recipient_id=people["grace"].pk, channel="email", now=now)
    # the names of a path's parts, and where one name means several things the path's beginning before it
    ids: dict[str, Any] = {
        "job_id": job.pk, "key": "1.2", "artifact_id": artifact.pk, "talk_id": talk.pk, "link_id": link.pk,
        "secret": address.rstrip("/").rpartition("/")[2], "memory_id": memory.pk, "evaluation_id": evaluation.pk,
        "step_id": doubt.pk, "request_id": request.pk, "comment_id": comment.pk, "grant_id": grant.pk,
        "delegation_id": delegation.pk, "glass_id": glass.pk, "identity_id": identity.pk, "message_id": mail.pk,
        "record_id": Record.objects.order_by("-pk").values_list("pk", flat=True)[0], "number": 1,
        "name": "helper", "token": "x" * 40, "provider_id": "sso", "pk": 1, "path": "x",
        "a/token": mailed.rstrip("/").rpartition("/")[2],
        "workflows/name": "ship-it", "prompts/name": "greet", "policies/name": policy.policy.name,
        "tenants/name": red.name, "policy-packs/name": "read-only", "hooks/name": hook.name,
        "schedules/pk": schedule.pk, "webhooks/pk": hook.pk, "event-rules/pk": rule.pk,
        "webhook-endpoints/pk": endpoint.pk, "webhook-messages/pk": message.pk,
    }  # fmt: skip
    return SimpleNamespace(people=people, ids=ids, job=job, turn=turn, draft=draft, talk=talk, link=link)


def filled(route: str, ids: dict[str, Any]) -> str:
    """The path with this world's ids in it."""
    before = ""
    parts = []
    for part in route.split("/"):
        found = re.fullmatch(r"(.*)<(?:\w+:)?(\w+)>(.*)", part)
        if found:
            name = found[2]
            part = f"{found[1]}{ids.get(f'{before}/{name}', ids[name])}{found[3]}"
        else:
            before = part
        parts.append(part)
    return "/" + "/".join(parts)


def _stored(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    with store.incoming() as path:
        path.write_bytes(content)
        store.put(path, digest)
    return digest


class Undone:
    """A request whose changes are taken back. writes: the statements that it changed rows by, with their tables."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    @contextmanager
    def going(self) -> Iterator[None]:
        block = transaction.atomic()
        block._from_testcase = True  # durable blocks may stand in it, as in a test's own
        with connection.execute_wrapper(self._seen), block:
            yield
            transaction.set_rollback(True)

    def _seen(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        found = re.match(r'\s*(INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)', str(sql))
        if found:
            self.writes.append(f"{found[1].split()[0].lower()} {found[2]}")
        return execute(sql, params, many, context)
