"""Calls of tools by the one door, all of one workspace."""

import threading
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from audit.ids import uuid7
from tools import permits, registry, runner
from tools.spec import Call, Result


@dataclass
class Job:
    """log: what came for the live log; stop: set, the call that runs is cancelled."""

    id: str = field(default_factory=lambda: str(uuid7()))
    log: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def call(self, tool: str, constraints: dict[str, Any] | None = None, **arguments: Any) -> Call:
        version = registry.get(tool, at_once=True).schema_version
        return Call(
            tool=tool,
            schema_version=version,
            arguments=arguments,
            workspace_id=self.id,
            constraints=constraints or {},
        )

    def run(self, tool: str, constraints: dict[str, Any] | None = None, **arguments: Any) -> Result:
        call, now = self.call(tool, constraints, **arguments), timezone.now()
        permit = permits.issue(subject=self.id, digest=call.digest(), granted_by="test", now=now)
        return runner.run(
            call,
            permit.pk,
            worker="test",
            on_output=lambda stream, text: self.log.append(text),
            cancelled=self.stop.is_set,
            now=now,
        )
