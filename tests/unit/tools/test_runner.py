"""Nothing passes the door without a permit for exactly this call."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest

from audit.ids import uuid7
from tools import permits, redact, registry, runner
from tools.errors import InvalidArguments, PermitMismatch, PermitSpent, ToolFailed, ToolRefused, UnknownTool
from tools.models import Permit
from tools.spec import Box, Call, Effect, Result, Tool
from tools.workspaces import remove

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Door(Tool):
    """Notes what it did; its target is a number that tests move."""

    name: ClassVar[str] = "test.door"
    summary: ClassVar[str] = "A tool of the runner's tests."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"say": {"type": "string"}, "write": {"type": "boolean"}},
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.ONCE
    queue: ClassVar[str] = "shell"
    ran: ClassVar[list[str]] = []
    target: ClassVar[int] = 1

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        return {"number": Door.target}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        ended = box.run(["touch", "made-by-preview"], profile="git")
        return f"{arguments.get('say', '')}\x1b[0m touched: {ended.ok}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        Door.ran.append(box.call_id)
        say = arguments.get("say", "")
        box.log(say)
        for word in say.split():
            box.log(word + " ", "token")
        if say == "refuse":
            raise ToolRefused("not \udcff\0.", name="\udcff\0")
        data = {"said": say, "nul": "a\0b", "name": "\udcff", "half\ud800": ["é\udcc3"]}
        data |= {"numbers": (float("nan"), 2**60, 1.5, True, None), "other": {b"x"}}
        return Result(ok=True, summary=say, data=data, text=say + "\x1b[1m")

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        return Result(ok=True, summary=box.call_id) if box.call_id in Door.ran else None


@pytest.fixture(autouse=True)
def door() -> Iterator[None]:
    before = redact._known
    registry.register(Door())
    yield
    Door.ran.clear()
    Door.target = 1
    registry._tools.pop(Door.name)
    registry._validators.pop(Door.name)
    redact._known = before


@pytest.fixture
def call() -> Iterator[Call]:
    made = Call(tool=Door.name, schema_version=1, arguments={"say": "hello"}, workspace_id=str(uuid7()))
    yield made
    remove(made.workspace_id)


@pytest.fixture
def run() -> Callable[..., Result]:
    def do(call: Call, permit: Permit | UUID, *, sink: Callable[[str, str], None] = lambda *_: None) -> Result:
        permit_id = permit if isinstance(permit, UUID) else permit.pk
        return runner.run(call, permit_id, worker="worker-1", on_output=sink, cancelled=lambda: False, now=NOW)

    return do


def permit_for(call: Call) -> Permit:
    return permits.issue(subject="step-1", digest=call.digest(), granted_by="test", now=NOW)


def unspent() -> bool:
    return Permit.objects.get().spent_at is None


def test_a_permitted_call_runs_once(call: Call, run: Callable[..., Result]) -> None:
    permit = permit_for(call)
    assert run(call, permit).summary == "hello"
    with pytest.raises(PermitSpent):
        run(call, permit)
    assert Door.ran == ["step-1"]


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"say": "other"}},
        {"arguments": {}},
        {"workspace_id": "0190aaaa-0000-7000-8000-000000000000"},
        {"preview_digest": "f" * 64},
        {"target_state": {"number": 1}},
    ],
)
def test_any_other_call_is_refused_before_it_runs(
    change: dict[str, Any], call: Call, run: Callable[..., Result]
) -> None:
    permit = permit_for(call)
    other = replace(call, **change)
    with pytest.raises(PermitMismatch):
        run(other, permit)
    assert Door.ran == []
    assert unspent()
    remove(other.workspace_id)


def test_a_call_without_a_permit_does_not_run(call: Call, run: Callable[..., Result]) -> None:
    with pytest.raises(PermitMismatch):
        run(call, uuid4())
    assert Door.ran == []


def test_a_target_that_moved_since_it_was_approved_stops_the_call(call: Call, run: Callable[..., Result]) -> None:
    _, seen = runner.preview(call)
    approved = replace(call, target_state=seen)
    permit = permit_for(approved)
    Door.target = 2
    with pytest.raises(PermitMismatch, match="changed after it was approved"):
        run(approved, permit)
    assert Door.ran == []
    assert unspent()
    Door.target = 1
    assert run(approved, permit).ok


def test_arguments_are_checked_again_at_the_door(call: Call, run: Callable[..., Result]) -> None:
    wrong = replace(call, arguments={"say": 1})
    with pytest.raises(InvalidArguments) as caught:
        run(wrong, permit_for(wrong))
    assert caught.value.field == "arguments.say"
    assert unspent()


def test_a_tool_that_changed_since_or_is_gone_is_refused(call: Call, run: Callable[..., Result]) -> None:
    old = replace(call, schema_version=2)
    with pytest.raises(PermitMismatch):
        run(old, permit_for(old))
    with pytest.raises(UnknownTool):
        run(replace(call, tool="test.gone"), uuid4())


def test_a_question_is_answered_and_not_run(call: Call, run: Callable[..., Result]) -> None:
    question = replace(call, tool="human.ask", arguments={"question": "why?"})
    with pytest.raises(ToolRefused):
        run(question, permit_for(question))
    assert unspent()


def test_a_preview_has_no_effect_and_needs_no_permit(call: Call) -> None:
    text, state = runner.preview(call)
    assert text == "hello touched: False"
    assert state == {"number": 1}
    assert Door.ran == []


def test_a_probe_says_whether_this_very_step_happened(call: Call, run: Callable[..., Result]) -> None:
    assert runner.probe(call, subject="step-1") is None
    run(call, permit_for(call))
    found = runner.probe(call, subject="step-1")
    assert found is not None and found.summary == "step-1"
    with pytest.raises(ToolFailed):
        runner.probe(replace(call, tool="shell.exec", arguments={"argv": ["ls"]}), subject="step-1")


def test_no_secret_and_no_control_character_leaves_the_door(call: Call, run: Callable[..., Result]) -> None:
    redact.register("a very secret value")
    token = "ghp_" + "a1B2" * 9
    said: dict[str, str] = {}

    def sink(stream: str, text: str) -> None:
        said[stream] = said.get(stream, "") + text

    call = replace(call, arguments={"say": f"it is a very secret value and {token}"})
    result = run(call, permit_for(call), sink=sink)
    for text in (result.summary, result.text, said["note"]):
        assert text.strip() == "it is [redacted] and [redacted]"
    assert said["token"].strip() == "it is [redacted] and [redacted]"
    assert result.data["said"] == f"it is [redacted] and {token}"


def test_what_leaves_the_door_fits_a_row(call: Call, run: Callable[..., Result]) -> None:
    """Names of files may be no Unicode; a step whose end no row takes would be begun again and again."""
    others = {"numbers": ["nan", str(2**60), 1.5, True, None], "other": "{b'x'}"}
    result = run(call, permit_for(call))
    assert result.data == {"said": "hello", "nul": "ab", "name": "\\xff", "half\\ud800": ["é\\xc3"], **others}
    with pytest.raises(ToolRefused) as refused:
        run(replace(call, arguments={"say": "refuse"}), permit_for(replace(call, arguments={"say": "refuse"})))
    assert (refused.value.message, refused.value.details) == ("not \\xff.", {"name": "\\xff"})


def test_a_result_names_the_sandbox_that_held_it(call: Call, run: Callable[..., Result]) -> None:
    call = replace(call, tool="shell.exec", arguments={"argv": ["sh", "-c", "echo x > /etc/countersign; exit 4"]})
    result = run(call, permit_for(call))
    assert not result.ok
    assert result.exit_code == 4
    assert result.sandbox["tier"] in ("bwrap", "ns", "ll")
    assert result.sandbox["profiles"] == ["build"]
    assert result.data["refused"]
    assert "the sandbox refused" in result.summary


def test_a_call_that_has_no_time_left_starts_nothing(call: Call) -> None:
    call = replace(call, tool="shell.exec", arguments={"argv": ["touch", "x"]})
    result = runner.run(
        call, permit_for(call).pk, worker="w", on_output=lambda *_: None, cancelled=lambda: False, deadline_s=0, now=NOW
    )
    assert result.data["ended_by"] == "timeout"
    assert not result.ok
