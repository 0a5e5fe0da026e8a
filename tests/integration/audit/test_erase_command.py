"""Erasing by command: only when told twice, all or nothing, on record, and the log stays whole."""

import json
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from audit.actor import Target
from audit.models import Payload
from tests.integration.audit.conftest import Log, query

pytestmark = pytest.mark.django_db(transaction=True)


def kept() -> int:
    return Payload.objects.exclude(salt=None).count()


def test_values_go_the_records_stay_and_the_log_is_whole(log: Log, capsys):
    [one, *_] = log.write(3)
    about = log.write(2, target=Target(type="user", id="person-9"))
    log.settle()
    before = kept()
    call_command("audit_erase", str(one), about=["person-9"], reason="asked to be forgotten")
    assert "Would erase 3 values of 3 records" in capsys.readouterr().out
    assert kept() == before
    call_command("audit_erase", str(one), about=["person-9"], reason="asked to be forgotten", yes=True)
    assert "Erased 3 values of 3 records." in capsys.readouterr().out
    assert not Payload.objects.filter(record_id__in=[one, *about]).exclude(salt=None).exists()
    log.settle()
    assert log.report().findings == []
    told = [json.loads(body) for (body,) in query("SELECT body FROM audit_event WHERE event = 'payload.erased'")]
    assert {facts["target"]["id"] for facts in told} == {str(identifier) for identifier in (one, *about)}


def test_a_wrong_name_erases_nothing(log: Log):
    [one] = log.write()
    before = kept()
    for records, options, words in (
        ([one, uuid4()], {}, "There is no record"),
        ([one], {"about": ["nobody"]}, "No record is about nobody"),
        ([], {}, "Name a record"),
        ([one], {"reason": " "}, "Say why"),
    ):
        with pytest.raises(CommandError, match=words):
            call_command("audit_erase", *map(str, records), **{"reason": "a test", "yes": True, **options})
    assert kept() == before
