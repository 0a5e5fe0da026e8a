"""Small real tools for engine tests. What they do is told by their arguments; what they did stands in `RAN`."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from tools import registry
from tools.errors import ToolFailed, ToolRefused
from tools.spec import Box, Effect, Result, Tool

RAN: list[tuple[str, str]] = []
STATE: dict[str, Any] = {}
STARTED = threading.Event()
GO_ON = threading.Event()

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "fail": {"type": "string"}},
    "additionalProperties": False,
}


class Note(Tool):
    name: ClassVar[str] = "test.note"
    summary: ClassVar[str] = "Notes a text."
    schema: ClassVar[dict[str, Any]] = _SCHEMA
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "shell"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        RAN.append((self.name, str(arguments.get("text", ""))))
        fail = "" if STATE.get("mended") else arguments.get("fail")
        if fail == "transient":
            raise ToolFailed("Not now.", transient=True)
        if fail == "refuse":
            raise ToolRefused("Never.")
        if fail == "crash":
            raise RuntimeError("a bug")
        if fail in {"wait", "stopped"}:
            STARTED.set()
            GO_ON.wait(60)
        if fail == "endless":
            while not box.cancelled() and not GO_ON.wait(0.02):
                pass
            return Result(ok=False, summary="stopped")
        box.log("noted")
        return Result(ok=fail not in {"not_ok", "stopped"}, summary=str(arguments.get("text", "")), text="noted")


class Read(Note):
    name: ClassVar[str] = "test.read"
    effect: ClassVar[Effect] = Effect.READ


class Once(Note):
    """Its effect is a key in STATE, which its probe reads; its target state is STATE["target"], and its preview ends in
    STATE["shown"]."""

    name: ClassVar[str] = "test.once"
    effect: ClassVar[Effect] = Effect.ONCE

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        return {"target": STATE.get("target", "")}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        if STATE.get("preview") == "crash":
            raise RuntimeError("a bug in the preview")
        if STATE.get("preview") == "transient":
            raise ToolFailed("Not now.", transient=True)
        return f"would note {arguments.get('text', '')}{STATE.get('shown', '')}"

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        if STATE.get("probe") == "unsure":
            raise ToolFailed("Cannot tell.")
        if STATE.get("probe") == "crash":
            raise RuntimeError("a bug in the probe")
        return Result(ok=True, summary="it happened") if STATE.get("happened") else None


@contextmanager
def registered() -> Iterator[None]:
    """Puts the test tools into the registry for a while."""
    RAN.clear()
    STATE.clear()
    STARTED.clear()
    GO_ON.clear()
    for tool in (Note(), Read(), Once()):
        registry.register(tool)
    try:
        yield
    finally:
        GO_ON.set()
        for name in ("test.note", "test.read", "test.once"):
            registry.unregister(name)
