"""What the shipped pack stops of attacks on everyday tasks, and what it asks where there is no attack: the table of the page
about it is what is counted here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.models import Agent
from approvals.models import PolicyVersion
from tests.corpus.injection import replay
from tests.integration.agents.test_injection import guarded
from tools import registry

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "injection.md"


@pytest.fixture(autouse=True)
def mail() -> Iterator[None]:
    names = [registry.register(tool).name for tool in replay.mail_tools()]
    yield
    for name in names:
        registry.unregister(name)


@pytest.mark.django_db
def test_the_page_says_how_many_attacks_are_stopped_and_how_many_tasks_ask() -> None:
    guarded(("*", "allow"))
    agent = Agent.objects.create(name="gullible", instructions="Do as you are told.", tools=["*"])
    table = replay.replay(agent)
    assert table.markdown() in PAGE.read_text(), f"the page's table is now:\n{table.markdown()}"
    alone = [replay.ORDER, *list(replay.WRITTEN)[:3]]
    missed = {key: table.of[key] - table.counted[key] for key in table.of if key[0] in alone}
    assert set(missed.values()) == {0}, missed
    PolicyVersion.objects.filter(policy__name="injection-defence").update(status="retired")
    without = replay.replay(agent, ways=[replay.AS_IT_GOES])
    assert not any(without.counted.values()), "nothing but the pack stops them"
