import pytest

from agents.engine.leases import leases
from tests.factories import tools


@pytest.fixture
def test_tools(settings, tmp_path_factory):
    with tools.registered():
        yield tools


@pytest.fixture(autouse=True)
def _leases_thread_has_ended(monkeypatch):
    """The thread that renews leases has a connection of its own: it ends before the database goes, and soon."""
    monkeypatch.setattr("agents.engine.leases.LOOK_S", 0.05)
    yield
    thread = leases._thread
    if thread is not None:
        thread.join(60)
