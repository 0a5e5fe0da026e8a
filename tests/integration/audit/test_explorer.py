"""The explorer: who may look, what they find, proofs worked out before them, bundles that stand on their own."""

import base64
import io
import json
import re
import zipfile
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client

from audit import related
from audit.actor import Actor, Target
from audit.append import record
from audit.checking.trust import Trust
from audit.entries import commitment
from audit.kinds import Event
from audit.merkle import check_inclusion, leaf_hash
from audit.models import Delivery, Record
from audit.notes import open_checkpoint
from audit.words import sentence
from tests.integration.audit.conftest import Log, query

pytestmark = pytest.mark.django_db(transaction=True)

JOB = "0199c5c4-9d3e-7c62-b6f4-3f0a1c2d4e5f"


@pytest.fixture
def auditor(db: None) -> Client:
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get_or_create(name="auditors")[0])
    client = Client()
    client.force_login(user)
    return client


def write(event: Event, target: str, **changes: Any) -> UUID:
    with transaction.atomic():
        return record(event, **{"actor": Actor.user(7), "target": Target(type="step", id=target), **changes})


def test_only_auditors_look(log: Log, auditor: Client):
    [one] = log.write()
    pages = ["/audit/", f"/audit/records/{one}/", f"/audit/records/{one}/proof", f"/audit/jobs/{JOB}/bundle.zip"]
    stranger = Client()
    stranger.force_login(User.objects.create_user("sam"))
    for page in pages:
        assert Client().get(page).status_code == 302
        assert stranger.get(page).status_code == 403
        assert auditor.post(page).status_code in {403, 405}
    answer = auditor.get("/audit/")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert 'href="/audit/"' not in stranger.get("/jobs/").content.decode()


def _listed(client: Client, query: str) -> list[str]:
    page = client.get(f"/audit/?{query}").content.decode()
    return re.findall(r"/audit/records/([0-9a-f-]{36})/", page)


def test_filters_find_what_is_asked_for(log: Log, auditor: Client):
    ada = User.objects.create_user("ada")
    decided = write(Event.STEP_DECIDED, "s1", outcome="deny", context={"tool": "git.push", "job": JOB})
    voted = write(Event.APPROVAL_VOTED, "r1", outcome="approve", actor=Actor.user(ada.pk))
    other = write(Event.STEP_CONFIRMED, "s9", context={"tool": "git.push_tag", "job": "other"})
    assert _listed(auditor, "show=decisions") == [str(decided)]
    assert _listed(auditor, "show=approvals") == [str(voted)]
    assert _listed(auditor, "tool=git.push") == [str(decided)]
    assert _listed(auditor, "actor=ada") == [str(voted)]
    assert _listed(auditor, "event=step.confirmed") == [str(other)]
    assert _listed(auditor, "outcome=deny") == [str(decided)]
    assert _listed(auditor, "after=2100-01-01") == []
    assert set(_listed(auditor, "")) >= {str(decided), str(voted), str(other)}


def test_a_job_s_records_are_those_of_what_belongs_to_it(log: Log, auditor: Client, monkeypatch):
    monkeypatch.setattr(related, "_sources", {"job": [lambda job: ["s1"] if job == JOB else []]})
    mine = write(Event.STEP_PROPOSED, "s1")
    write(Event.STEP_PROPOSED, "s2")
    assert _listed(auditor, f"job={JOB}") == [str(mine)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("job=x", "A job&#x27;s id looks like"),
        ("event=no.such", "There is no event"),
        ("after=31.1.", "A date such as"),
    ],
)
def test_a_wrong_filter_is_named_beside_its_field(log: Log, auditor: Client, query, words):
    answer = auditor.get(f"/audit/?{query}")
    assert answer.status_code == 400
    assert words in answer.content.decode()


def test_pages_follow_each_other_without_gap_or_doubling(log: Log, auditor: Client):
    with transaction.atomic():
        written = [
            str(record(Event.STEP_PROPOSED, actor=Actor.user(7), target=Target(type="step", id="s")))
            for _ in range(120)
        ]
    found, page = [], auditor.get("/audit/?event=step.proposed").content.decode()
    while True:
        found += re.findall(r"/audit/records/([0-9a-f-]{36})/", page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        if older is None:
            break
        page = auditor.get("/audit/" + older[1].replace("&amp;", "&")).content.decode()
    assert found == sorted(written, reverse=True)


def test_a_record_s_page_shows_sentence_bytes_and_a_proof_that_holds(log: Log, auditor: Client):
    nasty = "<script>alert(1)</script>"
    one = write(Event.STEP_DECIDED, "s1", outcome="ask", context={"tool": nasty, "key": "k"}, payload={"reason": nasty})
    log.settle()
    page = auditor.get(f"/audit/records/{one}/").content.decode()
    assert nasty not in page
    assert "Policy said ask to &lt;script&gt;" in page
    assert "it holds" in page
    assert Record.objects.get(pk=one).body.replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;") in page
    proof = auditor.get(f"/audit/records/{one}/proof")
    assert proof.content.startswith(b"c2sp.org/tlog-proof@v1\n")
    assert auditor.get(f"/audit/records/{uuid4()}/").status_code == 404


def test_a_record_that_was_changed_does_not_hold(log: Log, auditor: Client, tamper):
    [one] = log.write()
    log.write(2)
    log.settle()
    assert "it holds" in auditor.get(f"/audit/records/{one}/").content.decode()
    tamper(("UPDATE audit_event SET signature = %s WHERE id = %s", [bytes(64), one]))
    assert "it does not hold" in auditor.get(f"/audit/records/{one}/").content.decode()


def test_what_is_not_signed_yet_says_so(log: Log, auditor: Client):
    [one] = log.write()
    page = auditor.get(f"/audit/records/{one}/")
    assert page.status_code == 200
    assert "not signed yet" in page.content.decode()
    assert auditor.get(f"/audit/records/{one}/proof").status_code == 409


def test_the_picture_says_how_far_the_log_is(log: Log, auditor: Client):
    log.write(3)
    assert "no checkpoint yet" in auditor.get("/audit/").content.decode()
    log.settle()
    page = auditor.get("/audit/").content.decode()
    assert "the latest checkpoint" in page
    assert "being signed" in page
    names = ["git:/srv/log", *(f"witness:number{number}" for number in range(9)), "witnesses"]
    Delivery.objects.bulk_create(Delivery(name=name, size=1, failures=9 * (name[-1] == "8")) for name in names)
    page = auditor.get("/audit/").content.decode()
    assert all(name.rpartition(":")[2] in page for name in names)
    assert "number8: 9 failed" in page


def test_a_bundle_is_checked_with_the_log_s_key_alone(log: Log, auditor: Client, monkeypatch):
    monkeypatch.setattr(related, "_sources", {"job": [lambda _: ["s1", "r1"]]})
    mine = [write(Event.STEP_PROPOSED, "s1", payload={"arguments": {"n": 1.5}}), write(Event.APPROVAL_VOTED, "r1")]
    write(Event.STEP_PROPOSED, "other")
    log.settle()
    answer = auditor.get(f"/audit/jobs/{JOB}/bundle.zip")
    assert answer.status_code == 200, answer.content
    files = zipfile.ZipFile(io.BytesIO(answer.content))
    verifier = Trust.from_settings().verifier
    assert verifier is not None
    checkpoint = open_checkpoint(files.read("checkpoint").decode(), [verifier])
    keys = _checked(files.read("keys.jsonl"), checkpoint.size, checkpoint.root)
    public = {facts["target"]["id"] for _, facts, _ in keys}
    records = _checked(files.read("records.jsonl"), checkpoint.size, checkpoint.root)
    assert [facts["id"] for _, facts, _ in records] == [str(one) for one in mine]
    for _, _, kid in records:
        assert kid in public
    [payload] = [json.loads(line) for line in files.read("payloads.jsonl").splitlines()]
    made = commitment(base64.b64decode(payload["salt"]), payload["slot"], payload["value"])
    assert base64.b64encode(made).decode() == records[0][1]["commit"]["arguments"]
    [(told,)] = query("SELECT body FROM audit_event WHERE event = 'log.exported'")
    assert json.loads(told)["target"] == {"type": "job", "id": JOB}


def _checked(lines: bytes, size: int, root: bytes) -> list[tuple[int, dict[str, Any], str]]:
    """(index, facts, kid) of each line, after its inclusion was checked."""
    found = []
    for line in lines.splitlines():
        one = json.loads(line)
        path = [base64.b64decode(value) for value in one["proof"]]
        leaf = leaf_hash(one["entry"].encode())
        check_inclusion(leaf=leaf, index=one["index"], size=size, proof=path, root=root)
        body, rest = one["entry"].rstrip("\n").rsplit("\n", 1)
        found.append((one["index"], json.loads(body), rest.split(" ")[0]))
    return found


def test_a_bundle_of_nothing_says_so(log: Log, auditor: Client):
    log.settle()
    answer = auditor.get(f"/audit/jobs/{JOB}/bundle.zip")
    assert (answer.status_code, b"says nothing of the job" in answer.content) == (409, True)


def test_every_event_has_a_sentence_and_names_come_from_the_users():
    for event in Event:
        facts = {
            "event": event,
            "outcome": "ok",
            "actor": {"type": "agent", "id": "dev", "on_behalf_of": "7"},
            "target": {"type": "user", "id": "7"},
            "context": {},
        }
        said = sentence(facts, {"7": "ada"})
        assert said
        assert "{" not in said
    assert sentence({**facts, "event": "job.cancelled"}, {"7": "ada"}) == "agent dev for ada cancelled ada"
