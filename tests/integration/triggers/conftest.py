import pytest

from tests.factories import tools
from tests.factories.people import user
from tests.factories.policies import publish


@pytest.fixture
def ada(settings):
    """Somebody whose jobs may run; her jobs stay queued: no worker listens."""
    with tools.registered():
        publish(("test.*", "allow"))
        yield user("ada")
