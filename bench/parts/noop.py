"""A tool that does nothing, so that what is measured is the engine. Workers of a bench import it (`-I`)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tools import registry
from tools.spec import Box, Effect, Result, Tool


class Noop(Tool):
    name: ClassVar[str] = "bench.noop"
    summary: ClassVar[str] = "Does nothing."
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
    effect: ClassVar[Effect] = Effect.READ
    queue: ClassVar[str] = "shell"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        return Result(ok=True, summary="Nothing was done.")


registry.register(Noop())
