"""git.cherry_pick and git.revert: what commits did, once more or taken back, as commits of the job's own."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from tools.builtin.git.aside import Aside, Person, aside, in_conflict, shown, step_to
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.reading import log_line, read_log
from tools.builtin.git.refs import MESSAGE_SCHEMA, REF_SCHEMA, check_message, check_ref
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import bounded, diffstat, last_line, numstat, plural, records
from tools.builtin.git.tool import GitTool, typed, undo_by_reset
from tools.builtin.git.trailers import STEP_TRAILER, find_step, with_trailer
from tools.errors import InvalidArguments
from tools.spec import Box, Effect, Result, Risk, RiskScore

_REFS_MAX = 20
_TRAILER = re.compile(rf"^{STEP_TRAILER}: .*\n?", re.MULTILINE)


class _Pick(GitTool):
    """Commits made aside, one on the other; the branch steps to the last of them, or stays where it is."""

    effect = Effect.ONCE
    writes = True
    undone_by = "`git.reset` to `data.before`"
    verb: ClassVar[str]

    @abstractmethod
    def wanted(self, arguments: Mapping[str, Any]) -> list[str]:
        """The refs, in the order in which they are taken."""

    @abstractmethod
    def message(self, arguments: Mapping[str, Any], commit: Mapping[str, Any], body: str) -> str:
        """Of the new commit, without the step's trailer."""

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("commits in the job's own workspace; nothing leaves it",))

    def check(self, arguments: Mapping[str, Any]) -> None:
        for ref in self.wanted(arguments):
            check_ref(ref, field="refs")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        mainline = arguments.get("mainline")
        return typed(self.verb, *(["-m", mainline] if mainline else []), *self.wanted(arguments))

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"head", "branch", "commits"}: which commits, on top of what."""
        git = Git(box)
        commits = [git.find(ref) for ref in self.wanted(arguments)]
        return {"head": git.head(), "branch": git.current_branch(), "commits": commits}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        head = git.commit("HEAD")
        commits = _resolved(git, self.wanted(arguments))
        lines = [f"On {git.current_branch() or 'a detached HEAD'} at {head[:10]}"]
        try:
            with aside(git, head) as place:
                made = self._make(arguments, git, place, head, commits)
                lines += [f"{plural(len(commits), 'commit')}, {shown(git, head, made, place.env, patch=False)[0]}"]
                lines += [f"  {log_line(commit)}" for commit in commits]
                lines += shown(git, head, made, place.env)[1:]
        except Declined as declined:
            lines += [f"This would fail: {declined.message}", declined.text]
        return bounded("\n".join(lines), 64_000)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        refuse_submodules(git)
        if (git.workspace.git_dir / "MERGE_HEAD").exists():
            raise Declined("A merge is unfinished: resolve and commit it, or abort it.", code="merge_unfinished")
        before = git.commit("HEAD")
        with aside(git, before, keep=True) as place:
            made = self._make(arguments, git, place, before, _resolved(git, self.wanted(arguments)))
        step_to(git, made)
        return self._done(git, before, made)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        sha = find_step(git, box.call_id)
        return self._done(git, target_state.get("head") or "", sha) if sha else None

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        return undo_by_reset(data)

    def _make(
        self, arguments: Mapping[str, Any], git: Git, place: Aside, head: str, commits: list[dict[str, Any]]
    ) -> str:
        mainline = arguments.get("mainline")
        for commit in commits:
            sha, parents = commit["sha"], commit["parents"]
            if len(parents) > 1 and not mainline:
                raise Declined(
                    f"{sha[:10]} is a merge commit: say with mainline which parent it is seen from.",
                    code="merge_commit",
                    parents=parents,
                )
            words = ["-m", str(mainline)] if mainline and len(parents) > 1 else []
            done = place.run(self.verb.split()[0], "--no-commit", *words, sha)
            if done.exit_code != 0:
                conflicts = place.conflicts()
                if conflicts:
                    raise in_conflict(self.verb, conflicts, at=sha)
                raise Declined(f"git did not {self.verb} {sha[:10]}: {last_line(done.stderr)}", code="pick_refused")
            tree = place.tree()
            if tree == place.out("rev-parse", "HEAD^{tree}"):
                raise Declined(f"{sha[:10]} changes nothing here: it is there already.", code="empty", sha=sha)
            body = _TRAILER.sub("", git.out("log", "--max-count=1", "--no-notes", "--format=%B", sha, "--")).strip()
            message = with_trailer(self.message(arguments, commit, body), git.box.call_id)
            head = place.commit(tree, [head], message, self.author(git, sha))
        return head

    def author(self, git: Git, sha: str) -> Person | None:
        """Whose commit it becomes; None: the agents' own."""
        return None

    def _done(self, git: Git, before: str, sha: str) -> Result:
        stat = numstat(
            git.run("diff", "--numstat", "--no-ext-diff", "--no-textconv", before, sha, "--").stdout.splitlines()
        )
        commits = read_log(git, sha, f"^{before}", max_count=_REFS_MAX) if before else []
        branch = git.current_branch()
        return Result(
            ok=True,
            summary=f"{branch or 'HEAD'} stands at {sha[:10]}: {plural(len(commits), 'commit')} by {self.verb}.",
            data={"sha": sha, "before": before, "branch": branch, "commits": [one["sha"] for one in commits]},
            text="\n".join([diffstat(stat), *(log_line(commit) for commit in commits)]),
            exit_code=0,
        )


class CherryPick(_Pick):
    name = "git.cherry_pick"
    verb = "cherry-pick"
    summary = (
        "Apply what given commits did on top of the current branch, in the order given, as commits of their authors. "
        "All or none: on a conflict nothing is changed."
    )
    schema = {
        "type": "object",
        "properties": {
            "refs": {"type": "array", "items": REF_SCHEMA, "minItems": 1, "maxItems": _REFS_MAX},
            "mainline": {
                "type": "integer",
                "minimum": 1,
                "maximum": 8,
                "description": "Of a merge commit: the number of the parent that it is seen from.",
            },
        },
        "required": ["refs"],
        "additionalProperties": False,
    }
    examples = ({"refs": ["origin/fix~1", "origin/fix"]},)

    def wanted(self, arguments: Mapping[str, Any]) -> list[str]:
        return list(arguments["refs"])

    def message(self, arguments: Mapping[str, Any], commit: Mapping[str, Any], body: str) -> str:
        return f"{body or commit['sha'][:10]}\n\n(cherry picked from commit {commit['sha']})"

    def author(self, git: Git, sha: str) -> Person | None:
        layout, parse = records(("%an", "%ae", "%ad"))
        done = git.out("log", "--max-count=1", "--no-mailmap", "--date=raw", f"--format={layout}", sha, "--")
        found = next(parse(done), None)
        if found is None:
            return None
        return Person(name=found[0].strip("<> "), email=found[1].strip("<> "), date=f"@{found[2]}")


class Revert(_Pick):
    name = "git.revert"
    verb = "revert"
    summary = "Take back what a commit did, by a new commit on the current branch. On a conflict nothing is changed."
    schema = {
        "type": "object",
        "properties": {
            "ref": REF_SCHEMA,
            "message": MESSAGE_SCHEMA,
            "mainline": {
                "type": "integer",
                "minimum": 1,
                "maximum": 8,
                "description": "Of a merge commit: the number of the parent that is kept.",
            },
        },
        "required": ["ref"],
        "additionalProperties": False,
    }
    examples = ({"ref": "HEAD"}, {"ref": "HEAD~2", "message": "Take the cache out again: it served old prices."})

    def check(self, arguments: Mapping[str, Any]) -> None:
        super().check(arguments)
        if "message" in arguments:
            check_message(arguments["message"])

    def wanted(self, arguments: Mapping[str, Any]) -> list[str]:
        return [arguments["ref"]]

    def message(self, arguments: Mapping[str, Any], commit: Mapping[str, Any], body: str) -> str:
        if "message" in arguments:
            return str(arguments["message"])
        return f'Revert "{commit["subject"]}"\n\nThis reverts commit {commit["sha"]}.'


def _resolved(git: Git, refs: list[str]) -> list[dict[str, Any]]:
    """The commits of `refs`, in their order.

    Raises:
        Declined: one is not there.
        InvalidArguments: one is named twice.
    """
    shas = [git.commit(ref) for ref in refs]
    if len(set(shas)) < len(shas):
        raise InvalidArguments("A commit is named twice.", field="arguments.refs")
    found = {one["sha"]: one for one in read_log(git, "--no-walk=unsorted", *shas, max_count=len(shas))}
    return [found[sha] for sha in shas]
