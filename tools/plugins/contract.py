"""The contract of every tool, as tests that its author runs:

    class TestMine(ToolContract):
        tool = Mine
        files = {"notes.txt": "one"}      what stands in the workspace's work tree
        works = {"path": "notes.txt"}     a call that succeeds there

They run against the sandbox of this machine, with pytest, in the folder of the plugin: `manage.py plugin test DIR`.
"""

import contextlib
import copy
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
django.setup()

from tools import admitted, definitions, registry  # noqa: E402
from tools.box import SandboxBox  # noqa: E402
from tools.errors import InvalidArguments, ToolError, ToolFailed, ToolRefused  # noqa: E402
from tools.plugins import KIND  # noqa: E402
from tools.plugins.defining import definition_of  # noqa: E402
from tools.sandbox.identity import identity_for  # noqa: E402
from tools.spec import Effect, Result, Risk, RiskScore, Tool, Workspace  # noqa: E402

# What a model may put where words stand.
HOSTILE = (
    "",
    "\0",
    "../../etc/passwd",
    "/etc/shadow",
    "-rf",
    "--output=/tmp/x",
    "$(id)",
    "`id`; id\n",
    "\x1b[2J",
    "é\u202e",
    "x" * 20000,
)
TIMEOUT_MAX_S = 6 * 3600


class ToolContract:
    """Subclass it with `tool` and `works`. A tool that needs more than a sandbox (an account elsewhere) sets
    `runs = False`, and tests its runs by itself."""

    tool: ClassVar[type[Tool]]
    works: ClassVar[Mapping[str, Any]]
    files: ClassVar[Mapping[str, str | bytes]] = {}
    runs: ClassVar[bool] = True

    @pytest.fixture
    def workspace(self) -> Iterator[Workspace]:
        """A workspace with `files` in its work tree, which belong to the sandbox's user."""
        place = Workspace(id=str(uuid.uuid4()), root=Path(tempfile.mkdtemp(prefix="countersign-contract-", dir="/tmp")))
        place.root.chmod(0o711)
        for folder in (place.tree, place.git_dir, place.scratch):
            folder.mkdir(mode=0o700)
        for name, content in self.files.items():
            path = place.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        identity = identity_for(place.id)
        if identity.dropped:
            for folder in (place.tree, place.git_dir, place.scratch):
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
        yield place
        shutil.rmtree(place.root, ignore_errors=True)

    @pytest.fixture
    def box(self, workspace: Workspace) -> Iterator[SandboxBox]:
        """What the tool is given when it runs."""
        made = SandboxBox(workspace, limits=self.tool.limits, call_id=str(uuid.uuid4()))
        yield made
        made.close()

    @pytest.fixture
    def looking(self, workspace: Workspace) -> SandboxBox:
        """What it is given for a preview, a target state or a probe: everything is read-only."""
        return SandboxBox(workspace, limits=self.tool.limits, call_id="", read_only=True)

    def made(self) -> Tool:
        return self.tool()

    # what it says of itself

    def test_its_definition_can_be_admitted(self) -> None:
        definition = definition_of(self.made())
        assert definitions.flaw(self.tool.name, f"{KIND}:this", definition) == ""
        definitions.digest_of(definition)

    def test_its_definition_is_the_same_every_time(self) -> None:
        first, second = (definitions.digest_of(definition_of(self.made())) for _ in range(2))
        assert first == second

    def test_its_limits_are_bounds(self) -> None:
        limits = self.tool.limits
        assert 0 < limits.timeout_s <= TIMEOUT_MAX_S
        assert min(limits.memory_bytes, limits.processes, limits.output_kill_bytes) > 0

    def test_it_has_examples_that_fit(self) -> None:
        assert self.tool.examples, "an administrator, and the tool's page, want examples"
        for example in self.tool.examples:
            registry.validate(self.made(), example)

    def test_what_once_happens_can_be_probed(self) -> None:
        if self.tool.effect is Effect.ONCE:
            assert self.tool.probe is not Tool.probe, (
                "a lost attempt of a ONCE tool ends with a person where it has no probe"
            )

    # what it is asked before anything runs

    def test_it_takes_the_call_that_works(self) -> None:
        registry.validate(self.made(), self.works)

    def test_it_refuses_fields_that_it_does_not_name(self) -> None:
        with pytest.raises(InvalidArguments):
            registry.validate(self.made(), {**self.works, "no_such_field": 1})

    def test_risk_and_words_are_plain(self) -> None:
        for call in (self.works, *self.tool.examples):
            _judged(self.made(), call)

    def test_it_is_not_moved_by_hostile_words(self) -> None:
        """Every text among its arguments replaced: it is refused, or judged and described, and never a crash."""
        tool = self.made()
        for call in _hostile(self.works):
            try:
                registry.validate(tool, call)
            except (InvalidArguments, ToolRefused):
                continue
            _judged(tool, call)

    def test_judging_a_call_changes_nothing(self) -> None:
        tool, before = self.made(), copy.deepcopy(dict(self.works))
        tool.check(before)
        first = (tool.risk(before), tool.describe(before))
        assert (tool.risk(before), tool.describe(before)) == first
        assert before == dict(self.works)

    # what it does

    def test_looking_changes_nothing(self, workspace: Workspace, looking: SandboxBox) -> None:
        """Its preview and its target state."""
        if not self.runs:
            pytest.skip("it needs more than a sandbox")
        tool, before = self.made(), _state(workspace)
        state = tool.target_state(self.works, looking)
        preview = tool.preview(self.works, looking)
        assert isinstance(preview, str)
        json.dumps(state)
        assert tool.target_state(self.works, looking) == state
        assert _state(workspace) == before

    def test_it_works(self, workspace: Workspace, box: SandboxBox) -> None:
        if not self.runs:
            pytest.skip("it needs more than a sandbox")
        before = _state(workspace)
        result = self._run(box)
        assert result.ok, result.summary
        assert result.summary.strip()
        json.dumps(dict(result.data), allow_nan=False)
        if self.tool.effect is Effect.READ:
            assert _state(workspace) == before, "a READ tool changed the work tree"

    def test_it_may_run_again(self, box: SandboxBox) -> None:
        """READ and REPEATABLE do no harm twice."""
        if not self.runs or self.tool.effect is Effect.ONCE:
            pytest.skip("it needs more than a sandbox" if not self.runs else "it happens once")
        assert self._run(box).ok
        assert self._run(box).ok

    def test_its_probe_tells(self, workspace: Workspace, box: SandboxBox, looking: SandboxBox) -> None:
        """Before it ran a probe says no, or that it cannot tell; afterwards it says so, or that it cannot tell."""
        if not self.runs or self.tool.probe is Tool.probe:
            pytest.skip("it needs more than a sandbox" if not self.runs else "it has no probe")
        tool = self.made()
        state = tool.target_state(self.works, looking)
        with contextlib.suppress(ToolFailed):
            assert tool.probe(self.works, state, looking) is None
        assert self._run(box).ok
        try:
            found = tool.probe(self.works, state, looking)
        except ToolFailed:
            return
        assert found is not None and found.ok

    def test_it_ends_when_it_is_cancelled(self, workspace: Workspace) -> None:
        """Within the test's time limit, by a result or an error of the tool's."""
        if not self.runs:
            pytest.skip("it needs more than a sandbox")
        box = SandboxBox(workspace, limits=self.tool.limits, call_id=str(uuid.uuid4()), cancelled=lambda: True)
        try:
            assert isinstance(self.made().run(self.works, box), Result)
        except ToolError:
            pass
        finally:
            box.close()

    def _run(self, box: SandboxBox) -> Result:
        tool = self.made()
        wrapped = admitted.AdmittedTool(
            tool, name=tool.name, effect=tool.effect, queue=tool.queue, schema_version=tool.schema_version
        )
        return wrapped.run(self.works, box)


def _judged(tool: Tool, call: Mapping[str, Any]) -> None:
    risk, words = tool.risk(call), tool.describe(call)
    assert isinstance(risk, RiskScore) and risk.level in set(Risk)
    assert all(isinstance(reason, str) for reason in risk.reasons)
    assert isinstance(words, str) and words.strip()


def _hostile(call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The call with each of its texts, at whatever depth, as each of HOSTILE."""
    for place in _texts(call, ()):
        for word in HOSTILE:
            made: Any = copy.deepcopy(dict(call))
            inner = made
            for part in place[:-1]:
                inner = inner[part]
            inner[place[-1]] = word
            yield made


def _texts(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str) and place:
        yield place
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*place, index))


def _state(workspace: Workspace) -> dict[str, tuple[int, int, int, bytes]]:
    """Name -> mode, owner, time of change, content, of everything in the work tree and the git directory."""
    found = {}
    for root in (workspace.tree, workspace.git_dir):
        for path in (root, *sorted(root.rglob("*"))):
            facts = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (facts.st_mode, facts.st_uid, facts.st_mtime_ns, content)
    return found
