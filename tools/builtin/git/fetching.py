"""git.fetch, and how commits come from the broker into a workspace."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.broker import Broker, handover
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import TOLERATED_FAULTS
from tools.builtin.git.remotes import recall
from tools.builtin.git.text import ENTRIES_MAX, last_line, plural
from tools.builtin.git.tool import GitTool, typed
from tools.errors import ToolFailed
from tools.spec import Effect, Result, Risk, RiskScore


class Fetch(GitTool):
    name = "git.fetch"
    summary = "Bring origin's branches and tags up to date (as origin/<branch>); your own branches stay as they are."
    effect = Effect.REPEATABLE
    examples = ({},)
    needs_profile = "git"
    writes = True
    schema = {"type": "object", "properties": {}, "additionalProperties": False}

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("reads from origin into the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("fetch", "origin")

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        origin = recall(git.workspace)
        if origin is None:
            raise Declined("This workspace was not cloned from anywhere.", code="no_origin")
        git.box.reach(origin.url)
        before = _remote_branches(git)
        broker = Broker(origin.url, cancelled=git.box.cancelled, tool=self.name, credential=origin.credential)
        with broker.open():
            broker.refresh()
            receive(git, broker)
        after = _remote_branches(git)
        changed = {
            name: {"before": before.get(name, ""), "after": after.get(name, "")}
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        }
        lines = [f"{name}: {_short(move['before'])} -> {_short(move['after'])}" for name, move in changed.items()]
        return Result(
            ok=True,
            summary=f"{plural(len(changed), 'branch') if len(changed) == 1 else f'{len(changed)} branches'} moved.",
            data={"changed": dict(list(changed.items())[:ENTRIES_MAX]), "url": origin.url},
            text="\n".join(lines[:ENTRIES_MAX]) or "Nothing new at origin.",
            exit_code=0,
        )


def receive(git: Git, broker: Broker) -> None:
    """Copies the broker's branches (as refs/remotes/origin/*) and new tags into the workspace. Holds the broker's lock.

    Raises:
        ToolFailed
    """
    if not broker.branches():
        return
    options = {"protocol.file.allow": "always", **{f"fetch.fsck.{fault}": "warn" for fault in TOLERATED_FAULTS}}
    with handover(git.workspace.root) as path:
        broker.write_bundle(path)
        path.chmod(0o444)
        for refspec, prune in (("+refs/heads/*:refs/remotes/origin/*", True), ("refs/tags/*:refs/tags/*", False)):
            done = git.run(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
                "--prune" if prune else "--no-prune", str(path), refspec,
                write=True,
                protocols="file",
                options=options,
                extra_read=[path.parent],
            )  # fmt: skip
            # A tag that stands elsewhere in the workspace stays there; git says so with exit code 1.
            if done.exit_code not in ((0,) if prune else (0, 1)):
                raise ToolFailed(f"The workspace could not take the commits in: {last_line(done.stderr)}")


def _remote_branches(git: Git) -> dict[str, str]:
    lines = git.out("for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes/origin/").splitlines()
    pairs = (line.partition(" ") for line in lines)
    return {
        ref.removeprefix("refs/remotes/"): sha for sha, _, ref in pairs if ref and ref != "refs/remotes/origin/HEAD"
    }


def _short(sha: str) -> str:
    return sha[:10] or "(none)"
