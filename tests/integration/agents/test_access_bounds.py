"""What one person may take of what all share, and input that no form would send."""

import pytest
from django.utils import timezone

from agents.chat import turns
from agents.evaluation import running
from agents.memory import keeping
from agents.models import Conversation, Job
from agents.prompts import versions
from audit.models import Payload, Record
from tests.factories.people import user
from tests.factories.policies import publish
from tests.integration.agents import api, web
from tests.unit.agents.test_prompts import PROMPT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("test_tools")]
SUITE = """\
name: many
cases:
  - {name: one, inputs: {who: Ada}, expect: ["answer.words != ''"]}
  - {name: two, inputs: {who: Bob}, expect: ["answer.words != ''"]}
"""


def test_evaluations_of_one_person_leave_others_room(monkeypatch):
    monkeypatch.setattr(running, "AT_ONCE", 3)
    publish(("*", "ask"))
    ada, bob, now = user("ada"), user("bob"), timezone.now()
    versions.save_draft(PROMPT, by=None, now=now)
    for by in (ada, ada, bob):
        running.start(SUITE, ["prompt:greet@1"], by=by, now=now)
    assert running.go_on_all(now) == 3
    assert running.go_on_all(now) == 1  # what waits for room
    assert Job.objects.filter(owner=ada).count() == 3
    assert Job.objects.filter(owner=bob).count() == 2


def test_what_was_decided_about_memories_and_conversations_is_on_record_with_its_reason():
    ada, now = user("ada"), timezone.now()
    new = keeping.New(kind="fact", text="tea", place=keeping.Place(owner=ada), origin="person", key="k", by=ada)
    memory = keeping.write(new, by=ada, now=now)
    keeping.decide(memory, "forget", by=ada, why="no longer so", now=now)
    record = Record.objects.get(target_id=str(memory.pk), event="memory.forgotten")
    assert Payload.objects.get(record=record, slot="why").value == '"no longer so"'
    talk = Conversation.objects.create(owner=ada, agent=api.agent(), title="a", created_at=now, said_at=now)
    turns.change(talk.pk, {"title": "b", "archived": True}, user=ada, now=now)
    turns.change(talk.pk, {}, user=ada, now=now)
    changed = Record.objects.get(target_id=str(talk.pk), event="chat.changed")
    assert '"archived":true' in changed.body


@pytest.mark.parametrize("typed", ["\0", "²", "9" * 5000, "-1", ""])
def test_what_no_form_sends_is_refused_and_breaks_nothing(typed):
    publish(("*", "allow"))
    ada = user("ada")
    job = web.job(ada)
    talk = Conversation.objects.create(
        owner=ada, agent=api.agent(), title="a", created_at=timezone.now(), said_at=timezone.now()
    )
    client = web.signed_in(ada)
    assert client.post(f"/jobs/{job.pk}/feedback", {"thumb": "up", "step": f"x{typed}"}).status_code == 404
    assert client.post("/agents/evaluations/new", {"source": SUITE, "arms": "x", "repeats": typed}).status_code == 422
    assert client.post(f"/chat/{talk.pk}/share", {"days": typed}).status_code == 409
    assert client.get("/agents/", {"for": typed}).status_code == 200
    assert client.get(f"/jobs/{job.pk}/stream", {"after": typed or "x"}).status_code == 400
    for limit in (typed, "0000000019999999"):
        assert api.client(ada).get("/api/v1/jobs", {"limit": limit}).status_code == 400
    refused = api.client(ada).post(f"/api/v1/jobs/{job.pk}/feedback", {"thumb": "up", "step": f"x{typed}"})
    assert refused.status_code in {400, 404}
