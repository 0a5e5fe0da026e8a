"""What all git tools share: the queue, the limits, the lock, and how a refusal by git becomes a Result."""

import shlex
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar

from tools.builtin.git import remotes
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.locks import exclusive
from tools.builtin.git.text import TEXT_MAX_CHARS, bounded
from tools.builtin.git.unfinished import rebasing, take_back
from tools.spec import Box, Limits, Result, Tool


class GitTool(Tool):
    """A typed git operation. Subclasses implement `operate`; `writes` takes the workspace's lock around it.

    A rebase that died in the workspace is taken back first, whatever the operation is.
    """

    queue: ClassVar[str] = "git"
    limits: ClassVar[Limits] = Limits(
        timeout_s=600.0,
        file_size_bytes=4 * 1024**3,
        output_head_bytes=512 * 1024,
        output_tail_bytes=32 * 1024,
    )
    writes: ClassVar[bool] = False

    @abstractmethod
    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        """The operation itself.

        Raises:
            Declined: git refuses something that the caller can put right.
            ToolFailed, ToolRefused, SandboxUnavailable
        """

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        try:
            with self._lock(box) as locked:
                git = Git(box)
                if locked is not None:
                    take_back(git)
                result = self.operate(arguments, git)
        except Declined as declined:
            result = refusal(declined)
        missing = max(0, len(result.text) - TEXT_MAX_CHARS)
        return replace(
            result,
            text=bounded(result.text),
            truncated_bytes=result.truncated_bytes + missing,
            sandbox=box.record_sandbox(),
        )

    def _lock(self, box: Box) -> AbstractContextManager[int | None]:
        if not self.writes and not rebasing(box.workspace):
            return nullcontext()
        return exclusive(remotes.lock_path(box.workspace), what="this workspace's repository", cancelled=box.cancelled)


def refusal(declined: Declined) -> Result:
    """A Result that says why git did not do it; `data.code` is stable."""
    return Result(
        ok=False,
        summary=declined.message,
        text=declined.text or declined.message,
        data=declined.details,
        exit_code=declined.exit_code,
    )


def undo_by_reset(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The reset that takes the current branch back to `data.before`, past changes that are not committed."""
    before, after = data.get("before"), data.get("sha")
    if not before or before == after:
        return None
    return {"tool": "git.reset", "arguments": {"ref": before, "mode": "keep"}}


def typed(*words: object) -> str:
    """The command as it would be typed, quoted for a shell; empty words are left out."""
    return shlex.join(["git", *(str(word) for word in words if word != "" and word is not None)])


def one_line(message: str) -> str:
    """The first line of a message, for descriptions."""
    return message.strip().splitlines()[0] if message.strip() else ""
