"""The log for other systems: every record, in order, in shapes that others read, resumable, and itself on record."""

import base64
import importlib
import json
import re
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from audit.actor import Actor, Target
from audit.append import record
from audit.entries import entry
from audit.kinds import Event
from audit.merkle import leaf_hash
from audit.siem import cef, ocsf
from audit.siem.source import Sequenced, read
from tests.integration.audit.conftest import Log, query

pytestmark = pytest.mark.django_db(transaction=True)

NASTY = 'a|b=c\\d\n"e" ⟦\u202e'


def _every_event(log: Log) -> None:
    """A record of each kind, but for those that the signer itself believes."""
    for event in Event:
        if event.startswith(("key.", "log.opened", "log.restart")):
            continue
        with transaction.atomic():
            record(
                event,
                actor=Actor.user(7) if event.startswith("auth.") else Actor.agent("dev|eloper", on_behalf_of=7),
                target=Target(type="step", id=NASTY),
                outcome="refused" if event == Event.STEP_REFUSED else "ok",
                context={"job": "j-1", "tool": "git.push", "policy": "default@1", "rule": NASTY},
                payload={"secret": "an argument"},
            )
    log.settle()


def test_every_kind_of_record_is_a_valid_ocsf_event(log: Log):
    models = importlib.import_module("ocsf.v1_6_0.events")
    classes = {3002: models.Authentication, 3004: models.EntityManagement, 6003: models.ApiActivity}
    _every_event(log)
    seen: set[int] = set()
    for one in read(0):
        made = ocsf.event(one)
        seen.add(made["class_uid"])
        classes[made["class_uid"]].model_validate(made)
        assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
        assert made["metadata"]["uid"] == one.facts["id"]
        assert "an argument" not in json.dumps(made), "what can be erased must not leave with an export"
    assert seen == set(classes)


def test_a_copy_in_ocsf_can_be_checked_against_the_log(log: Log):
    log.write(3)
    log.settle()
    for one in read(0):
        made = ocsf.event(one)
        signature = base64.b64decode(made["unmapped"]["signature"])
        text = entry(made["raw_data"], made["unmapped"]["kid"], signature, made["unmapped"]["prev"])
        [(stored,)] = query("SELECT hash FROM audit_leaf WHERE index = %s", made["metadata"]["sequence"])
        assert leaf_hash(text) == bytes(stored)


def _parse_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """By the format's own rules: unescaped bars part the header, unescaped equals signs the extension."""
    header = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    pairs = re.findall(r"(\w+)=((?:\\.|[^\\=])*?)(?= \w+=|$)", header.pop())

    def plain(text: str) -> str:
        return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), text)

    return [plain(part) for part in header], {name: plain(value) for name, value in pairs}


def test_cef_says_the_same_whatever_stands_in_it(log: Log):
    _every_event(log)
    for one in read(0):
        line = cef.line(one, version="0.1")
        assert "\n" not in line
        header, extension = _parse_cef(line)
        assert header[:5] == ["CEF:0", "Countersign", "Countersign", "0.1", one.facts["event"]]
        assert 0 <= int(header[6]) <= 10
        target = one.facts["target"]
        assert extension["cs1"] == f"{target['type']}:{target['id']}"
        assert extension["suid"] == f"{one.facts['actor']['type']}:{one.facts['actor']['id']}"
        assert int(extension["cn1"]) == one.index


def test_a_run_goes_on_where_the_one_before_stopped(log: Log, tmp_path, capsys):
    state = tmp_path / "place"
    log.write(3)
    log.settle()
    first = _lines(capsys, state=state)
    log.write(2)
    log.settle()
    second = _lines(capsys, state=state)
    places = [line["index"] for line in (*first, *second)]
    assert places == list(range(len(places)))
    events = [json.loads(line["body"])["event"] for line in second]
    assert events.count("job.submitted") == 2
    assert "log.exported" in events, "the run before is on record"
    assert [line["index"] for line in _lines(capsys, start=2, end=4)] == [2, 3]


def test_a_damaged_place_is_named_and_nothing_is_written(tmp_path, capsys):
    state = tmp_path / "place"
    for kept in ("", "-1", "x", "1.5", "\N{SUPERSCRIPT TWO}"):
        state.write_text(kept)
        with pytest.raises(CommandError, match="does not hold the place"):
            call_command("audit_siem", "jsonl", state=state)
        assert capsys.readouterr().out == ""
        assert state.read_text() == kept


def _lines(capsys: pytest.CaptureFixture[str], **options: Any) -> list[dict[str, Any]]:
    call_command("audit_siem", "jsonl", **options)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_grave_things_are_grave(log: Log):
    _every_event(log)
    graves: dict[str, Sequenced] = {str(one.facts["event"]): one for one in read(0)}
    assert ocsf.event(graves["glass.broken"])["severity_id"] == 4
    assert ocsf.event(graves["auth.failed"])["status_id"] == 2
    assert ocsf.event(graves["auth.signed_in"])["type_uid"] == 300201
    assert ocsf.event(graves["token.revoked"])["activity_name"] == "Delete"
