"""git.force_push and git.restore_branch: a branch at origin that moves otherwise than forward. Always with a lease."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.broker import Broker
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.pushing import broker_of, contents, dropped, flag_words, push_state, remote_state, send, transfer
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name
from tools.builtin.git.remotes import recall
from tools.builtin.git.text import bounded
from tools.builtin.git.tool import GitTool, typed
from tools.errors import InvalidArguments, ToolRefused
from tools.spec import Box, Effect, Result, Risk, RiskScore

_PREVIEW_CHARS = 64_000
SHA_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^([0-9a-f]{40}|[0-9a-f]{64})$"}

_SHA_OR_NOT: dict[str, Any] = {"type": "string", "pattern": "^([0-9a-f]{40}|[0-9a-f]{64})?$"}


class ForcePush(GitTool):
    name = "git.force_push"
    summary = (
        "Replace a branch at origin by the local one, also where that drops commits. With a lease: only if it still stands "
        "where the preview saw it, or at `expected`. Never the default branch."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.restore_branch`, as `data.undo` has it"
    schema = {
        "type": "object",
        "properties": {
            "branch": {**BRANCH_SCHEMA, "description": "The local branch."},
            "remote_branch": {**BRANCH_SCHEMA, "description": "The branch at origin (default: the same name)."},
            "expected": {**SHA_SCHEMA, "description": "The commit where it must stand at origin."},
        },
        "required": ["branch"],
        "additionalProperties": False,
    }
    examples = ({"branch": "fix/rounding"},)

    def check(self, arguments: Mapping[str, Any]) -> None:
        for field in ("branch", "remote_branch"):
            if field in arguments:
                check_name(arguments[field], field=field)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        reasons = ("commits that others may have built on can leave the branch", "others can see what it becomes")
        return RiskScore(level=Risk.HIGH, reasons=reasons)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        here, there = arguments["branch"], _there(arguments)
        lease = f"--force-with-lease={there}" + (f":{arguments['expected']}" if "expected" in arguments else "")
        return typed("push", lease, "origin", here if here == there else f"{here}:{there}")

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """As of git.push: {"local_sha", "remote_ref", "remote_sha" ("" where absent), "url"}."""
        git = Git(box)
        return self._state(arguments, git, broker_of(git, self.name))

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        broker = broker_of(git, self.name)
        state = self._state(arguments, git, broker)
        local_sha, remote_ref, remote_sha = state["local_sha"], state["remote_ref"], state["remote_sha"]
        heading = [f"To {state['url']}", f"  {remote_ref}: {remote_sha[:10] or '(new branch)'} -> {local_sha[:10]}"]
        if remote_sha == local_sha:
            return "\n".join([*heading, "Nothing to push: the remote is there already."])
        with broker.open():
            broker.refresh()
            transfer(git, broker, f"refs/heads/{arguments['branch']}", local_sha)
            answer = broker.push(local_sha, remote_ref, expected=remote_sha, dry_run=True)
            lost = dropped(broker, remote_sha, local_sha)
            base = broker.base(remote_sha, local_sha) if remote_sha else ""
        heading.append(f"  dry run: {flag_words(answer)}")
        heading += lost or ["  no commit would be dropped"]
        return bounded("\n".join([*heading, *contents(git, local_sha, base)]), _PREVIEW_CHARS)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        broker = broker_of(git, self.name)
        with broker.open():
            state = self._state(arguments, git, broker)
            local_sha, remote_ref, remote_sha = state["local_sha"], state["remote_ref"], state["remote_sha"]
            if remote_sha == local_sha:
                return moved(state, "already there", [])
            broker.refresh()
            transfer(git, broker, f"refs/heads/{arguments['branch']}", local_sha)
            lost = dropped(broker, remote_sha, local_sha)
            if remote_sha:
                broker.keep(remote_sha, remote_ref)
            _sent(broker, state)
        seen = f"refs/remotes/origin/{remote_ref.removeprefix('refs/heads/')}"
        git.run("update-ref", "--no-deref", seen, local_sha, write=True)
        return moved(state, f"{remote_sha[:10] or 'new branch'} -> {local_sha[:10]}", lost)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        broker = broker_of(git, self.name)
        with broker.open():
            state = dict(target_state) or self._state(arguments, git, broker)
            if broker.remote_sha(state["remote_ref"]) != state["local_sha"]:
                return None
        return moved(state, "found at the remote", [])

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        before, after = data["remote_sha"], data["local_sha"]
        if before == after:
            return None
        return bring_back(str(data["remote_branch"]), before, after)

    def _state(self, arguments: Mapping[str, Any], git: Git, broker: Broker) -> dict[str, Any]:
        refuse_default_branch(git, _there(arguments), "replaced")
        state = push_state(arguments, git, broker)
        expected = arguments.get("expected")
        if expected and state["remote_sha"] not in (expected, state["local_sha"]):
            raise Declined(
                f"{state['remote_ref']} at origin stands at {state['remote_sha'][:10] or '(nothing)'}, not at {expected[:10]}.",
                code="lease_broken",
                **state,
            )
        return state


class RestoreBranch(GitTool):
    name = "git.restore_branch"
    summary = (
        "Put a branch at origin back to a commit that it stood at before a push, force push or deletion of this server's "
        "(sha; '' where it was not there). Only if it still stands at `expected` ('' where it is gone)."
    )
    effect = Effect.ONCE
    undone_by = "`git.restore_branch` the other way round, as `data.undo` has it"
    schema = {
        "type": "object",
        "properties": {
            "branch": {**BRANCH_SCHEMA, "description": "The branch at origin."},
            "sha": {**_SHA_OR_NOT, "description": "The commit that it stood at before."},
            "expected": {**_SHA_OR_NOT, "description": "The commit where it must stand now."},
        },
        "required": ["branch", "sha", "expected"],
        "additionalProperties": False,
    }
    examples = ({"branch": "fix/rounding", "sha": "9fceb02d0ae598e95dc970b74767f19372d61af8", "expected": ""},)

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_name(arguments["branch"], field="branch")
        if arguments["sha"] == arguments["expected"]:
            raise InvalidArguments("sha and expected are the same.", field="arguments.expected")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        reasons = ("a branch that others can see moves back", "commits can leave the branch")
        return RiskScore(level=Risk.HIGH, reasons=reasons)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        branch = arguments["branch"]
        return typed(
            "push",
            f"--force-with-lease={branch}:{arguments['expected']}",
            "origin",
            f"{arguments['sha']}:refs/heads/{branch}",
        )

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"local_sha": the commit to go back to, "remote_ref", "remote_sha", "url"}"""
        return _restoring(arguments, Git(box), self.name)[1]

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        broker, state = _restoring(arguments, Git(box), self.name)
        sha, remote_ref, remote_sha = state["local_sha"], state["remote_ref"], state["remote_sha"]
        heading = [f"To {state['url']}", f"  {remote_ref}: {remote_sha[:10] or '(gone)'} -> {sha[:10] or '(deleted)'}"]
        if remote_sha != arguments["expected"]:
            return "\n".join([*heading, "This would be refused: it does not stand where it is expected."])
        with broker.open():
            broker.refresh()
            lines = dropped(broker, remote_sha, *([sha] if sha else _others(broker, arguments["branch"]))) or [
                "  no commit would be dropped"
            ]
            answer = broker.push(sha, remote_ref, expected=remote_sha, dry_run=True)
        return bounded("\n".join([*heading, f"  dry run: {flag_words(answer)}", *lines]))

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        broker, state = _restoring(arguments, git, self.name)
        with broker.open():
            state |= {"remote_sha": broker.remote_sha(state["remote_ref"])}
            remote_sha = state["remote_sha"]
            if remote_sha == state["local_sha"]:
                return moved(state, "already there", [])
            if remote_sha != arguments["expected"]:
                raise Declined(
                    f"{state['remote_ref']} at origin stands at {remote_sha[:10] or '(nothing)'}: it is left there.",
                    code="lease_broken",
                    **state,
                )
            broker.refresh()
            if remote_sha:
                broker.keep(remote_sha, state["remote_ref"])
            _sent(broker, state)
        return moved(state, f"{remote_sha[:10] or 'gone'} -> {state['local_sha'][:10] or 'gone'}", [])

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        state = _restoring(arguments, Git(box), self.name)[1]
        return moved(state, "found at the remote", []) if state["remote_sha"] == state["local_sha"] else None

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        before, after = data["remote_sha"], data["local_sha"]
        return bring_back(str(data["remote_branch"]), before, after) if before != after else None


def bring_back(branch: str, before: str, after: str) -> dict[str, Any]:
    """The call that puts origin's branch back from `after` to `before`; "" where it was not, or is no more, there."""
    return {"tool": "git.restore_branch", "arguments": {"branch": branch, "sha": before, "expected": after}}


def refuse_default_branch(git: Git, branch: str, what: str) -> None:
    """Raises ToolRefused where `branch` is the one that origin calls its default."""
    origin = recall(git.workspace)
    if origin is not None and branch == origin.default_branch:
        raise ToolRefused(f"{branch} is origin's default branch: it is never {what}.", branch=branch)


def moved(state: Mapping[str, Any], how: str, lost: list[str]) -> Result:
    """That origin's branch stands where it was to go."""
    branch = state["remote_ref"].removeprefix("refs/heads/")
    stands = f"stands at {state['local_sha'][:10]}" if state["local_sha"] else "is gone"
    return Result(
        ok=True,
        summary=f"origin's {branch} {stands} ({how}).",
        data={**state, "remote_branch": branch, "how": how},
        text="\n".join([f"To {state['url']}", f"{branch}: {how}", *lost]),
        exit_code=0,
    )


def _sent(broker: Broker, state: Mapping[str, Any]) -> None:
    answer = send(broker, state)
    if not answer.ok:
        why = answer.detail.splitlines()[0]
        raise Declined(f"origin refused: {why}", code="push_refused", text=answer.detail, **state)


def _restoring(arguments: Mapping[str, Any], git: Git, tool: str) -> tuple[Broker, dict[str, Any]]:
    if not arguments["sha"]:
        refuse_default_branch(git, arguments["branch"], "deleted")
    broker = broker_of(git, tool)
    state = remote_state(broker, arguments["sha"], f"refs/heads/{arguments['branch']}")
    if arguments["sha"] and not broker.kept(arguments["sha"], state["remote_ref"]):
        raise Declined(
            f"{arguments['sha'][:10]} is not known to have stood at origin's {arguments['branch']}.", code="not_kept"
        )
    return broker, state


def _others(broker: Broker, branch: str) -> list[str]:
    return [sha for name, sha in broker.branches().items() if name != branch]


def _there(arguments: Mapping[str, Any]) -> str:
    return str(arguments.get("remote_branch", arguments["branch"]))
