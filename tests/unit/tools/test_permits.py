"""A permit lets one exact call run once."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection

from tools import permits
from tools.errors import PermitError, PermitMismatch, PermitSpent
from tools.models import Permit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "a" * 64


def issue(**changes: object) -> Permit:
    given = {"subject": "step", "digest": DIGEST, "granted_by": "default@1 rule", "now": NOW, **changes}
    return permits.issue(**given)  # type: ignore[arg-type]


@pytest.mark.django_db
def test_a_permit_is_spent_once() -> None:
    permit = issue()
    assert permits.spend(permit.pk, digest=DIGEST, by="worker", now=NOW).spent_by == "worker"
    with pytest.raises(PermitSpent, match="used before"):
        permits.spend(permit.pk, digest=DIGEST, by="other", now=NOW)
    assert Permit.objects.get().spent_by == "worker"


@pytest.mark.django_db
def test_another_call_is_refused_and_the_permit_stays_unspent() -> None:
    permit = issue()
    with pytest.raises(PermitMismatch):
        permits.spend(permit.pk, digest="b" * 64, by="worker", now=NOW)
    assert permits.spend(permit.pk, digest=DIGEST, by="worker", now=NOW).spent_at == NOW


@pytest.mark.django_db
def test_a_permit_that_does_not_exist_is_refused() -> None:
    with pytest.raises(PermitMismatch):
        permits.spend(uuid4(), digest=DIGEST, by="worker", now=NOW)


@pytest.mark.django_db
def test_a_permit_ends_at_its_time() -> None:
    permit = issue(expires_at=NOW + timedelta(minutes=1))
    with pytest.raises(PermitSpent, match="expired"):
        permits.spend(permit.pk, digest=DIGEST, by="worker", now=NOW + timedelta(minutes=1))
    assert permits.spend(permit.pk, digest=DIGEST, by="worker", now=NOW + timedelta(seconds=59)).spent_at


@pytest.mark.django_db(transaction=True)
def test_of_twenty_who_spend_a_permit_at_once_one_succeeds() -> None:
    permit = issue()
    start = threading.Barrier(20)
    outcomes: list[str] = []

    def one(number: int) -> None:
        start.wait()
        try:
            permits.spend(permit.pk, digest=DIGEST, by=f"worker {number}", now=NOW)
            outcomes.append("spent")
        except PermitError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["permit_spent"] * 19 + ["spent"]
