"""What is logged holds no secret."""

import json
import logging
import subprocess
import sys

import pytest

from config.devstack.places import REPOSITORY
from config.logging import JsonFormatter, PlainFormatter
from tools import redact
from tools.redact import MARK

SECRET = 'a value/that "nobody" logs'


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_known", redact._known)
    redact.register(SECRET)


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter("%(levelname)s %(message)s")])
def test_a_line_holds_no_secret_wherever_it_stands(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(f"it was {SECRET}")
    except ValueError:
        made = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, __file__, 1, "step.crashed %s", (SECRET,), sys.exc_info(), extra={"url": SECRET}
        )
    line = formatter.format(made)
    assert "nobody" not in line
    assert MARK in line
    if isinstance(formatter, JsonFormatter):
        assert json.loads(line)["event"] == f"step.crashed {MARK}"


def test_a_line_stays_json_whatever_looks_like_a_key() -> None:
    made = logging.makeLogRecord({"msg": "x", "text": "-----BEGIN RSA PRIVATE KEY-----\nMIIE", "after": 1})
    assert json.loads(JsonFormatter().format(made))["text"] == MARK


@pytest.mark.parametrize("where", ["main", "thread"])
def test_an_exception_that_nobody_caught_tells_no_secret(where: str) -> None:
    fail = "raise ValueError('it was ' + value)"
    run = (
        fail
        if where == "main"
        else f"import threading\ndef go():\n    {fail}\nt = threading.Thread(target=go)\nt.start()\nt.join()"
    )
    program = (
        "from config.logging import configure\nfrom tools import redact\n"
        "value = '-'.join(['not', 'to', 'be', 'told'])\n"
        f"redact.register(value)\nconfigure({{'level': 'INFO', 'format': 'json'}})\n{run}"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == (1 if where == "main" else 0)
    assert "not-to-be-told" not in ended.stderr
    assert f"ValueError: it was {MARK}" in ended.stderr
