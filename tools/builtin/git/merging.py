"""git.merge."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.aside import aside
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS
from tools.builtin.git.reading import log_line, read_log
from tools.builtin.git.refs import MESSAGE_SCHEMA, REF_SCHEMA, check_message, check_ref
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import ENTRIES_MAX, bounded, diffstat, last_line, numstat, plural, unquote
from tools.builtin.git.tool import GitTool, one_line, typed, undo_by_reset
from tools.builtin.git.trailers import with_trailer
from tools.errors import InvalidArguments
from tools.spec import Box, Effect, Result, Risk, RiskScore


class Merge(GitTool):
    name = "git.merge"
    summary = (
        "Merge a branch or commit into the current branch. On conflicts the merge is taken back, or with "
        "on_conflict=keep left for you to resolve, add and commit; abort takes such a merge back."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = "`git.merge` with `abort` while it is unfinished, `git.reset` to `data.before` afterwards"
    examples = ({"ref": "fix/rounding"}, {"abort": True})
    schema = {
        "type": "object",
        "properties": {
            "ref": REF_SCHEMA,
            "message": MESSAGE_SCHEMA,
            "on_conflict": {"enum": ["abort", "keep"], "default": "abort"},
            "abort": {"type": "boolean", "description": "Take back a merge that was left with conflicts."},
        },
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        if arguments.get("abort"):
            if len(arguments) > 1:
                raise InvalidArguments("abort stands alone.", field="arguments.abort")
            return
        if "ref" not in arguments:
            raise InvalidArguments("'ref' is a required property", field="arguments")
        check_ref(arguments["ref"], field="ref")
        if "message" in arguments:
            check_message(arguments["message"])

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("a merge in the job's own workspace; nothing leaves it",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        if arguments.get("abort"):
            return typed("merge", "--abort")
        message = ["-m", one_line(arguments["message"])] if "message" in arguments else []
        return typed("merge", *message, arguments["ref"])

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"head", "branch", "sha"}: what is merged into what."""
        git = Git(box)
        sha = "" if arguments.get("abort") else git.find(locate(git, arguments["ref"]))
        return {"head": git.head(), "branch": git.current_branch(), "sha": sha}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        if arguments.get("abort"):
            return "The unfinished merge would be taken back."
        head, sha = git.head(), git.find(locate(git, arguments["ref"]))
        if not head or not sha:
            return "There is no such commit: this would fail."
        if git.ancestor(sha, head):
            return "Already merged: nothing would change."
        commits = read_log(git, sha, f"^{head}", max_count=50, bare=True)
        base = git.out("merge-base", head, sha).strip()
        stat = numstat(git.run("diff", "--numstat", *DIFF_OPTIONS, base, sha, "--", bare=True).stdout.splitlines())
        lines = [f"{plural(len(commits), 'commit')}, {diffstat(stat)}", *(log_line(commit) for commit in commits)]
        return bounded("\n".join([*lines, *_conflicts(git, head, sha)]))

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        if arguments.get("abort"):
            return self._abort(git)
        refuse_submodules(git)
        if (git.workspace.git_dir / "MERGE_HEAD").exists():
            raise Declined("A merge is unfinished: resolve and commit it, or abort it.", code="merge_unfinished")
        ref = arguments["ref"]
        before, sha = git.commit("HEAD"), git.commit(locate(git, ref))
        if git.ancestor(sha, before):
            return _merged(git, ref, sha, before)
        message = with_trailer(arguments.get("message", f"Merge {ref}"), git.box.call_id)
        done = git.run(
            "merge", "--quiet", "--no-verify", "--no-edit", "--no-gpg-sign", "--no-verify-signatures", "--no-stat",
            "--no-rerere-autoupdate", "-m", message, sha,
            write=True,
        )  # fmt: skip
        if done.exit_code == 0:
            return _merged(git, ref, sha, before)
        conflicts = [unquote(line) for line in git.out("diff", "--name-only", "--diff-filter=U", "--").splitlines()]
        if not conflicts:
            raise Declined(
                f"git did not merge: {last_line(done.stderr or done.stdout)}",
                code="merge_refused",
                text=done.stderr or done.stdout,
                exit_code=done.exit_code,
            )
        kept = arguments.get("on_conflict") == "keep"
        if not kept:
            git.out("merge", "--abort", write=True)
        raise Declined(
            f"{plural(len(conflicts), 'file')} in conflict; the merge was "
            + ("left for you to resolve." if kept else "taken back."),
            code="conflicts",
            error_code="conflict",
            text="\n".join(["In conflict:", *conflicts[:ENTRIES_MAX]]),
            exit_code=done.exit_code,
            conflicts=conflicts[:ENTRIES_MAX],
            kept=kept,
        )

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        if arguments.get("abort"):
            done = not (git.workspace.git_dir / "MERGE_HEAD").exists()
            return Result(ok=True, summary="No merge is unfinished.") if done else None
        sha = target_state.get("sha") or git.find(locate(git, arguments["ref"]))
        head = git.head()
        if not sha or not head or not git.ancestor(sha, head):
            return None
        return _merged(git, arguments["ref"], sha, target_state.get("head") or head)

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        return undo_by_reset(data)

    def _abort(self, git: Git) -> Result:
        done = git.run("merge", "--abort", write=True)
        if done.exit_code != 0:
            raise Declined(f"git did not abort: {last_line(done.stderr)}", code="no_merge", exit_code=done.exit_code)
        return Result(ok=True, summary="The merge was taken back.", data={"sha": git.head()}, exit_code=0)


def _conflicts(git: Git, head: str, sha: str) -> list[str]:
    """Lines that name what would be in conflict, by a merge beside the workspace; none where nothing would."""
    with aside(git, head) as place:
        done = place.run("merge", "--quiet", "--no-commit", "--no-ff", "--no-verify", "--no-stat", sha)
        conflicts = place.conflicts() if done.exit_code != 0 else []
    return (
        ["", f"{plural(len(conflicts), 'file')} would be in conflict:", *(f"  {one}" for one in conflicts)]
        if conflicts
        else []
    )


def locate(git: Git, ref: str) -> str:
    """`ref`, or origin's branch of that name where the workspace has none of its own."""
    remote = f"refs/remotes/origin/{ref}"
    return remote if not git.find(ref) and git.find(remote) else ref


def _merged(git: Git, ref: str, sha: str, before: str) -> Result:
    after, branch = git.head(), git.current_branch()
    stat = numstat(git.out("diff", "--numstat", *DIFF_OPTIONS, before, after, "--").splitlines())
    how = "already merged" if after == before else "fast-forward" if after == sha else "merge commit"
    return Result(
        ok=True,
        summary=f"{ref} is merged into {branch or 'HEAD'} ({how}).",
        data={"sha": after, "before": before, "merged": sha, "branch": branch, "how": how, "files": stat[:ENTRIES_MAX]},
        text=f"{how}: {before[:10]}..{after[:10]}\n{diffstat(stat)}",
        exit_code=0,
    )
