import json
from pathlib import Path

import pytest

from config.devstack.console import ProcessLog
from config.devstack.options import parse
from config.devstack.processes import programs


@pytest.fixture
def log(tmp_path: Path) -> ProcessLog:
    return ProcessLog(tmp_path, "web")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("just a line", ""),
        ("[2026-01-01 00:00:00] ERROR could not", "[2026-01-01 00:00:00] ERROR could not"),
        ("a WARNING of sorts", "a WARNING of sorts"),
        (json.dumps({"level": "info", "event": "step.claimed"}), ""),
        (json.dumps({"level": "warning", "event": "lease.lost", "step": "s1"}), "warning lease.lost step=s1"),
        (json.dumps({"level": "warning", "logger": "django.request", "event": "Not Found: /x"}), ""),
        (
            json.dumps({"level": "error", "event": "oh", "exception": "Traceback\n  x\nValueError: no"}),
            "error oh ValueError: no",
        ),
        ("{not json", ""),
    ],
)
def test_the_terminal_shows_warnings_and_errors_only(log: ProcessLog, line: str, shown: str) -> None:
    assert log.loud(line) == shown


def test_of_a_traceback_the_terminal_shows_the_last_line(log: ProcessLog) -> None:
    lines = ["Traceback (most recent call last):", '  File "x", line 1', "    y()", "ValueError: no such thing", "fine"]
    assert [log.loud(line) for line in lines] == ["", "", "", "ValueError: no such thing", ""]


def test_the_log_keeps_every_byte_whatever_the_pieces(log: ProcessLog) -> None:
    for piece in (b"one\ntw", b"o\n\xff\xfe", b"\nlast"):
        log.feed(piece)
    log.close()
    assert log.path.read_bytes() == b"one\ntwo\n\xff\xfe\nlast"


def test_a_flood_of_errors_does_not_flood_the_terminal(log: ProcessLog, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(500):
        log.feed(b"ERROR %d\n" % number)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < 10
    assert shown[-1].endswith(f"more of it in {log.path}")


def test_options_have_defaults_and_bounds() -> None:
    assert (parse([]).port, parse([]).demo, parse([]).detach) == (8000, True, False)
    assert parse(["--no-demo", "--port", "9"]).port == 9
    for wrong in ("0", "65536", "http"):
        with pytest.raises(SystemExit) as ended:
            parse(["--port", wrong])
        assert ended.value.code == 2


def test_no_secret_stands_in_an_argument(tmp_path: Path) -> None:
    """Any user of the machine reads the arguments of any process."""
    groups: dict[str, dict[str, object]] = {"git": {"queues": ["git"], "threads": 4}}
    found = programs(port=1, groups=groups, data=tmp_path, flower_port=2, flower_auth="me:s3cret", scripted_port=3)
    assert not [program for program in found if "s3cret" in " ".join(program.arguments)]
    assert [program.environ for program in found if program.name == "worker-git"] == [
        {"COUNTERSIGN_WORKER_GROUP": "git"}
    ]
    assert len({program.name for program in found}) == len(found)
