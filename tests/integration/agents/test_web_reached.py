"""The connections of a step on its page: what it reached, what was refused; whatever stands in the row is only text."""

from typing import Any

import pytest

from agents.web.reached import SHOWN_MAX, reached
from tests.factories.people import user
from tests.integration.agents import web
from tests.integration.agents.test_web_pages import get, strict


def connection(host: str = "pypi.org", **changes: Any) -> dict[str, Any]:
    given = {"host": host, "port": 443, "address": "93.184.216.34", "allowed": True, "why": "", "sent_bytes": 1200,
             "received_bytes": 3_000_000, "started": "2026-03-02T10:00:00+00:00", "ended": "2026-03-02T10:00:01+00:00"}  # fmt: skip
    return {**given, **changes}


def test_each_connection_has_an_outcome() -> None:
    lines, more = reached(
        {
            "connections": [
                connection(),
                connection("evil.example", address="", allowed=False, why="evil.example:443 is not among the hosts"),
                connection("gone.example", address="", why="gone.example could not be reached"),
                connection("", address="", allowed=False, port=0),
                {"left_out": 3},
            ]
        }
    )
    assert [(line.place, line.outcome) for line in lines] == [
        ("pypi.org:443", "reached"),
        ("evil.example:443", "refused"),
        ("gone.example:443", "failed"),
        ("(no host)", "refused"),
    ]
    assert (lines[0].traffic, lines[0].at is not None, more) == ("1.2 KiB sent, 2.9 MiB received", True, 3)


@pytest.mark.parametrize("given", [{}, {"connections": None}, {"connections": "x"}, {"connections": [1, None, "x"]}])
def test_what_is_no_record_shows_nothing(given: dict[str, Any]) -> None:
    assert reached(given) == ([], 0)
    assert len(reached({"connections": [connection()] * (SHOWN_MAX + 2)})[0]) == SHOWN_MAX
    broken = {"host": web.HOSTILE, "port": [], "sent_bytes": "x", "started": 5, "allowed": "yes"}
    assert reached({"connections": [broken]})[0][0].outcome == "refused"


@pytest.mark.django_db(transaction=True)
def test_the_page_of_a_step_shows_them() -> None:
    ada = user("ada")
    job = web.job(ada)
    entries = [connection(), connection(web.HOSTILE, why=web.HOSTILE, address=web.HOSTILE, allowed=False)]
    sandbox = {"tier": "ns", "hosts": ["pypi.org"], "network": "allow-list", "connections": entries}
    web.step(job, "1.1", result={"ok": True, "summary": "done", "text": "", "sandbox": sandbox})
    html = get(web.signed_in(ada), f"/jobs/{job.pk}/?step=1.1")
    strict(html)
    assert "<h3>Connections</h3>" in html
    assert "<code>pypi.org:443</code>" in html
    assert "hosts: pypi.org" in html
    assert "connections:" not in html
    assert "⟦U+202E⟧" in html
