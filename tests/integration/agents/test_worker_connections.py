"""The database connections of a worker process."""

import pytest
from django.db import connection

from agents import tasks


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_stands_still_in_a_transaction_gives_its_locks_back_when_its_lease_is_over(settings):
    settings.STEP_LEASE_S = 40
    try:
        tasks._bound_transaction(connection)
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone() == ("40s",)
    finally:
        connection.close()
