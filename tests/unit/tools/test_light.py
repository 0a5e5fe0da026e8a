"""The launcher's own small JSON is JSON, and starting it stays cheap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.sandbox import launcher
from tools.sandbox.light import as_json_line, from_json, suppress

VALUES = st.text() | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), VALUES))
def test_what_is_reported_is_read_as_it_was(facts: dict[str, object]) -> None:
    line = as_json_line(facts)
    assert line.endswith(b"}\n") and line.count(b"\n") == 1
    assert json.loads(line) == facts


@settings(max_examples=40)
@given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_spec_is_read_as_json_reads_it(spec: object) -> None:
    assert from_json(json.dumps(spec)) == spec


def test_only_what_is_named_is_suppressed() -> None:
    with suppress(OSError):
        raise FileNotFoundError
    with pytest.raises(ValueError), suppress(OSError):
        raise ValueError


def test_the_launcher_imports_nothing_dear() -> None:
    """Each of these takes longer than the launcher itself, for every command that is run."""
    code = "import sys; sys.path.append(sys.argv[1]); import tools.sandbox.launcher; print(*sys.modules)"
    root = Path(launcher.__file__).parents[2]
    argv = [sys.executable, "-I", "-S", "-c", code, str(root)]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert "tools.sandbox.supervise" in loaded
    assert not loaded & {"json", "re", "enum", "typing", "collections", "contextlib", "socket", "signal", "dataclasses"}
