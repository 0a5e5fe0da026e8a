"""What a worker knows of a step that it holds."""

import time
from uuid import uuid4

from agents.engine.leases import Held


def test_a_lease_that_ran_out_stays_lost_also_when_it_is_renewed_too_late(settings):
    settings.STEP_LEASE_S = 6
    held = Held(uuid4(), 1, time.monotonic() - 5)
    assert not held.stop_requested()
    held.renewed_at = time.monotonic() - 7
    assert held.stop_requested()
    held.renewed_at = time.monotonic()  # the database came back before the sweeper saw the step
    assert held.lost
    assert held.stop_requested()
