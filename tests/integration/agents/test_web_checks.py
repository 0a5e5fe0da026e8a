"""What the code tools found, on the page of their step; whatever stands in the row is only text."""

from typing import Any

import pytest

from agents.web.checks import SHOWN_MAX, checks_of
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.test_web_pages import get, strict

FINDING = {
    "file": "tests/test_money.py", "line": 10, "column": 0, "name": "tests.test_money.Money.test_rounds",
    "message": "AssertionError: 28 != 29 : half a cent", "severity": "failure",
}  # fmt: skip
RUN = {
    "program": "pytest",
    "argv": ["python3", "-m", "pytest"],
    "exit_code": 1,
    "ended_by": "",
    "duration_s": 3.2,
    "because": "pytest.ini",
}
DATA: dict[str, Any] = {
    "checks": {"kind": "test", "counts": {"passed": 12, "failed": 1, "errors": 0, "skipped": 1}, "findings": [FINDING], "more": 0, "runs": [RUN]}
}  # fmt: skip


def test_counts_and_places_are_told() -> None:
    found = checks_of("code.test", DATA)
    assert found is not None and found.title == "Tests"
    assert found.counts == [(12, "passed", "good"), (1, "failed", "bad"), (0, "errors", ""), (1, "skipped", "")]
    assert (found.lines[0].place, found.lines[0].severity) == ("tests/test_money.py:10", "failure")
    assert found.runs == [("python3 -m pytest", "exit code 1 after 3.2 s", "pytest.ini")]


@pytest.mark.parametrize("data", [{}, {"checks": None}, {"checks": [1]}])
def test_what_is_no_record_shows_nothing(data: dict[str, Any]) -> None:
    assert checks_of("code.test", data) is None
    assert checks_of("shell.exec", DATA) is None
    odd = {
        "kind": [],
        "counts": {"a": "x", "b": -1},
        "findings": [1, {"line": "x", "severity": "<b>"}],
        "more": "x",
        "runs": [{"argv": 3}],
    }
    found = checks_of("code.lint", {"checks": odd, "files": "x"})
    assert found is not None and (found.title, found.more, len(found.lines), found.lines[0].severity) == (
        "Checks",
        0,
        1,
        "error",
    )
    many = checks_of("code.lint", {"checks": {"findings": [FINDING] * (SHOWN_MAX + 3), "more": 4}, "files": ["x"] * 60})
    assert many is not None and (len(many.lines), many.more, many.more_files) == (SHOWN_MAX, 7, 10)


@pytest.mark.django_db(transaction=True)
def test_the_page_of_a_step_shows_them() -> None:
    ada = user("ada")
    job = web.job(ada)
    hostile = {**FINDING, "file": web.HOSTILE, "name": web.HOSTILE, "message": web.HOSTILE}
    data = {"checks": {**DATA["checks"], "findings": [FINDING, hostile]}}
    web.step(
        job,
        "1.1",
        tool="code.test",
        arguments={},
        result={"ok": False, "summary": "pytest: 12 passed", "text": "x", "data": data},
    )
    html = get(web.signed_in(ada), f"/jobs/{job.pk}/?step=1.1")
    strict(html)
    assert "<h3>Tests</h3>" in html and "<strong>12</strong> passed" in html
    assert "<code>tests/test_money.py:10</code>" in html
    assert "⟦U+202E⟧" in html
