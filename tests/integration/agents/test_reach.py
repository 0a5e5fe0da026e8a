"""What a call touches stands in the request about it."""

import pytest

from agents.engine.execute import execute
from agents.engine.intake import NewStep
from approvals.models import ApprovalRequest
from tests.factories.policies import publish
from tests.integration.agents.driving import HERE, step_of, submit

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_request_says_how_many_lines_of_how_many_files_it_is_about():
    publish(("files.*", "ask"))
    job = submit(NewStep(key="a", tool="files.write", arguments={"path": "new.txt", "content": "one\ntwo\n"}, needs=()))
    one = step_of(job, "a")
    execute(one.pk, one.attempt, HERE)
    request = ApprovalRequest.objects.get(subject_id=str(one.pk))
    assert request.blast == {"files": 1, "lines_added": 2, "lines_removed": 0}
