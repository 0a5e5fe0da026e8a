"""The short form of the campaign (`bench/chaos.py` is the full one): a stack of its own, struck by faults."""

from pathlib import Path

import pytest

from bench.campaign.run import Plan, campaign
from bench.campaign.verdict import as_text

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos, pytest.mark.stack]


def test_kills_outages_and_doubled_messages_lose_and_double_nothing(shared_tmp: Path):
    """It asks what happened, never how fast: the seconds of a recovery are the bench's figure."""
    outcome = campaign(Plan.short(seed=7), say=print, keep=shared_tmp / "campaign")
    report = as_text(outcome.verdict, outcome.faults)
    assert outcome.verdict.lost == [], report
    assert outcome.verdict.doubled == [], report
    assert outcome.verdict.unfinished == [], report
    assert outcome.verdict.unexplained == [], report
    assert outcome.verdict.broken == [], report
    assert outcome.verdict.audit == "", report
    assert outcome.verdict.backlog == 0, report
    assert outcome.verdict.counts["jobs"] >= 50, report
    assert outcome.doubled, "each message was sent twice"
    struck = {fault.kind for fault in outcome.faults}
    faults = {"kill_worker", "stop_worker", "kill_sweeper", "kill_web", "kill_redis", "flush_redis"}
    assert faults | {"restart_postgres", "crash_postgres"} <= struck, report
    assert not outcome.left, f"processes left behind: {outcome.left}"
