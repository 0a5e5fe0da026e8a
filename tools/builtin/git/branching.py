"""git.branch and git.checkout."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.refs import BRANCH_SCHEMA, REF_SCHEMA, check_name, check_ref
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import ENTRIES_MAX, last_line, records
from tools.builtin.git.tool import GitTool, typed
from tools.errors import InvalidArguments
from tools.spec import Effect, Result, Risk, RiskScore

_REFS = ("refs/heads/", "refs/remotes/origin/")
_OWN_WORKSPACE = RiskScore(level=Risk.LOW, reasons=("changes only the job's own workspace",))


class Branch(GitTool):
    name = "git.branch"
    summary = "List branches; with `create`, make a new one (without checking it out)."
    effect = Effect.REPEATABLE
    writes = True
    undone_by = "`git.delete_branch`"
    examples = ({"create": "fix/rounding"},)
    schema = {
        "type": "object",
        "properties": {
            "create": {**BRANCH_SCHEMA, "description": "Name of the branch to make."},
            "start": {**REF_SCHEMA, "description": "Where the new branch starts (default: HEAD)."},
        },
        "dependentRequired": {"start": ["create"]},
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        _check_new(arguments, "create")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return _OWN_WORKSPACE

    def describe(self, arguments: Mapping[str, Any]) -> str:
        if "create" not in arguments:
            return typed("branch", "--all")
        return typed("branch", "--no-track", arguments["create"], arguments.get("start", ""))

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        if not data.get("created"):
            return None
        call = {"branch": data["branch"], "unmerged": True, "expected": data["sha"]}
        return {"tool": "git.delete_branch", "arguments": call}

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        if "create" in arguments:
            return self._create(arguments["create"], arguments.get("start", "HEAD"), git)
        branches = _list(git)
        return Result(
            ok=True,
            summary="1 branch." if len(branches) == 1 else f"{len(branches)} branches.",
            data={"branches": branches[:ENTRIES_MAX], "current": git.current_branch(), "count": len(branches)},
            text="\n".join(
                f"{'*' if entry['current'] else ' '} {entry['name']} {entry['sha'][:10]} {entry['subject']}"
                for entry in branches[:ENTRIES_MAX]
            ),
        )

    def _create(self, name: str, start: str, git: Git) -> Result:
        sha = git.commit(start)
        existing = git.branch(name)
        if existing and existing != sha:
            raise Declined(
                f"Branch {name} exists already, at {existing[:10]}.", code="branch_exists", branch=name, sha=existing
            )
        if not existing:
            done = git.run("branch", "--no-track", name, sha, write=True)
            if done.exit_code != 0:
                raise Declined(f"git did not make the branch: {last_line(done.stderr)}", code="branch_refused")
        data = {"branch": name, "sha": sha, "created": not existing}
        return Result(ok=True, summary=f"Branch {name} stands at {sha[:10]}.", data=data)


def _list(git: Git) -> list[dict[str, Any]]:
    layout, parse = records(("%(refname)", "%(objectname)", "%(HEAD)", "%(contents:subject)"))
    branches = []
    for ref, sha, head, subject in parse(git.out("for-each-ref", f"--format={layout}", *_REFS)):
        if ref == "refs/remotes/origin/HEAD":
            continue
        remote = ref.startswith("refs/remotes/")
        name = ref.removeprefix("refs/remotes/" if remote else "refs/heads/")
        branches.append({"name": name, "sha": sha, "remote": remote, "current": head == "*", "subject": subject})
    return branches


class Checkout(GitTool):
    name = "git.checkout"
    summary = "Switch the work tree to a branch, tag or commit; with `create`, to a new branch."
    effect = Effect.REPEATABLE
    writes = True
    undone_by = "`git.checkout` of what was checked out before"
    examples = ({"ref": "fix/rounding", "create": True},)
    schema = {
        "type": "object",
        "properties": {
            "ref": {**REF_SCHEMA, "description": "The branch, or with `create` the new branch's name."},
            "create": {"type": "boolean", "default": False},
            "start": {**REF_SCHEMA, "description": "With `create`: where it starts (default: HEAD)."},
        },
        "required": ["ref"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        if arguments.get("create"):
            _check_new(arguments, "ref")
        elif "start" in arguments:
            raise InvalidArguments("start is only for a new branch.", field="arguments.start")
        else:
            check_ref(arguments["ref"], field="ref")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return _OWN_WORKSPACE

    def describe(self, arguments: Mapping[str, Any]) -> str:
        if arguments.get("create"):
            return typed("checkout", "--no-track", "-b", arguments["ref"], arguments.get("start", ""))
        return typed("checkout", arguments["ref"])

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        before = data["before"]
        if not before or before in (data["branch"], data["sha"]):
            return None
        return {"tool": self.name, "arguments": {"ref": before}}

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        refuse_submodules(git)
        name = arguments["ref"]
        before = git.current_branch() or git.head()
        words = self._new(name, arguments, git) if arguments.get("create") else self._existing(name, git)
        if words:
            done = git.run("checkout", "--quiet", "--no-guess", "--no-recurse-submodules", *words, write=True)
            if done.exit_code != 0:
                raise Declined(
                    f"git did not check out {name}: {last_line(done.stderr)}",
                    code="checkout_refused",
                    text=done.stderr,
                    exit_code=done.exit_code,
                )
        sha, branch = git.head(), git.current_branch()
        where = f"On branch {branch}" if branch else "Detached"
        return Result(ok=True, summary=f"{where} at {sha[:10]}.", data={"branch": branch, "sha": sha, "before": before})

    def _new(self, name: str, arguments: Mapping[str, Any], git: Git) -> list[str]:
        head = git.head()
        if not head and "start" not in arguments:
            return ["--orphan", name] if git.current_branch() != name else []
        sha = git.commit(arguments.get("start", "HEAD"))
        existing = git.branch(name)
        if existing and existing == sha:
            return [name, "--"]
        if existing:
            raise Declined(
                f"Branch {name} exists already, at {existing[:10]}: check it out without create.",
                code="branch_exists",
                branch=name,
                sha=existing,
            )
        return ["--no-track", "-b", name, sha, "--"]

    def _existing(self, name: str, git: Git) -> list[str]:
        if git.branch(name):
            return [name, "--"]
        remote = git.find(f"refs/remotes/origin/{name}")
        if remote:
            return ["--no-track", "-b", name, remote, "--"]
        return ["--detach", git.commit(name), "--"]


def _check_new(arguments: Mapping[str, Any], field: str) -> None:
    if field in arguments:
        check_name(arguments[field], field=field)
    if "start" in arguments:
        check_ref(arguments["start"], field="start")
