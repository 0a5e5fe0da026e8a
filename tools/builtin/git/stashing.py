"""git.stash: changes set aside, and taken up again."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.hardening import DIFF_OPTIONS
from tools.builtin.git.reading import split_patch
from tools.builtin.git.resetting import KEPT
from tools.builtin.git.staging import refuse_submodules
from tools.builtin.git.text import bounded, diffstat, last_line, numstat, plural, records, unquote
from tools.builtin.git.tool import GitTool, one_line, typed
from tools.errors import InvalidArguments, ToolFailed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_SHOWN = 50
_MARK = "Countersign-Step "
# stash runs `git clean -- :/` and `git checkout -- :/` for itself, which literal path names would make nothing of
_PLAIN = "--no-literal-pathspecs"


class Stash(GitTool):
    name = "git.stash"
    summary = (
        "Set changes aside (save), list what was set aside, take it up again (apply keeps it, pop removes it after), or "
        "drop it. stash: its number in the list, or its id."
    )
    effect = Effect.ONCE
    writes = True
    undone_by = "save: `git.stash` pop; drop: `git.stash` apply `data.sha`"
    schema = {
        "type": "object",
        "properties": {
            "action": {"enum": ["save", "list", "apply", "pop", "drop"]},
            "message": {"type": "string", "minLength": 1, "maxLength": 200},
            "untracked": {"type": "boolean", "description": "save: also files that git does not know."},
            "stash": {
                "type": "string",
                "pattern": "^([0-9]{1,3}|[0-9a-f]{40}|[0-9a-f]{64})$",
                "description": "apply, pop, drop: which; the latest where none is named.",
            },
        },
        "required": ["action"],
        "additionalProperties": False,
    }
    examples = ({"action": "save", "message": "half of the parser", "untracked": True}, {"action": "pop"})

    def check(self, arguments: Mapping[str, Any]) -> None:
        allowed = {"save": {"message", "untracked"}, "list": set()}.get(arguments["action"], {"stash"})
        for name in sorted(set(arguments) - allowed - {"action"}):
            raise InvalidArguments(f"{name} is not for {arguments['action']}.", field=f"arguments.{name}")
        if any(ord(character) < 32 for character in arguments.get("message", "")):
            raise InvalidArguments("The message is one line.", field="arguments.message")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("changes only the job's own workspace",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        action = arguments["action"]
        if action == "save":
            message = ["-m", one_line(arguments["message"])] if "message" in arguments else []
            return typed("stash", "push", "-u" if arguments.get("untracked") else "", *message)
        return typed("stash", action, arguments.get("stash", ""))

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"head", "branch", "sha"}: sha of the stash that is taken up or dropped, "" for the others."""
        git = Git(box)
        sha = "" if arguments["action"] in ("save", "list") else _which(git, arguments)["sha"]
        return {"head": git.head(), "branch": git.current_branch(), "sha": sha}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        action = arguments["action"]
        if action == "list":
            return "\n".join(_line(entry) for entry in _stashes(git)) or "Nothing is set aside."
        if action == "save":
            head = git.head()
            if not head:
                return "There is no commit yet: this would fail."
            words = ["diff", *DIFF_OPTIONS, "--numstat", "--patch", head, "--"]
            stat, patch = split_patch(git.run(*words).stdout)
            lines = ["Would be set aside:", diffstat(numstat(stat)), *_untracked(git, arguments), "", patch]
            return bounded("\n".join(lines), 48_000)
        entry = _which(git, arguments)
        stat, patch = split_patch(_diff(git, entry["sha"]))
        return bounded("\n".join([_line(entry), diffstat(numstat(stat)), "", patch]), 48_000)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        action = arguments["action"]
        if action == "list":
            found = _stashes(git)
            text = "\n".join(map(_line, found)) or "Nothing is set aside."
            return Result(
                ok=True,
                summary=f"{plural(len(found), 'stash')}." if len(found) == 1 else f"{len(found)} stashes.",
                data={"stashes": found},
                text=text,
            )
        refuse_submodules(git)
        if action == "save":
            return self._save(arguments, git)
        entry = _which(git, arguments)
        if action == "drop":
            if not entry["named"]:
                raise Declined("That is not in the list: it cannot be dropped.", code="unknown_stash")
            git.out(_PLAIN, "stash", "drop", "--quiet", f"stash@{{{entry['number']}}}", write=True)
            git.out("update-ref", f"{KEPT}{entry['sha']}", entry["sha"], write=True)  # so that it can be taken back
            return _done(entry, "dropped")
        return self._take_up(entry, action, git)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        """By the list of stashes.

        Raises:
            ToolFailed: whether one was applied cannot be told.
        """
        git, action = Git(box), arguments["action"]
        stashes = _stashes(git)
        if action == "save":
            if not box.call_id:
                raise ToolFailed("Which step set it aside is not known.")
            own = next((entry for entry in stashes if f"{_MARK}{box.call_id}" in entry["subject"]), None)
            return _done(own, "set aside") if own is not None else None
        if action == "list":
            return None
        sha = target_state.get("sha")
        if not sha or action == "apply":
            raise ToolFailed("Whether it was applied cannot be told.")
        if any(entry["sha"] == sha for entry in stashes):
            if action == "pop":
                raise ToolFailed("It is in the list still; whether it was applied cannot be told.")
            return None
        return _done(
            {"sha": sha, "number": 0, "subject": "", "named": False}, "dropped" if action == "drop" else "applied"
        )

    def undo(self, arguments: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any] | None:
        action = {"save": "pop"}.get(arguments["action"])
        return {"tool": self.name, "arguments": {"action": action, "stash": data["sha"]}} if action else None

    def _save(self, arguments: Mapping[str, Any], git: Git) -> Result:
        git.commit("HEAD")
        before = _stashes(git)
        words = ["--include-untracked"] if arguments.get("untracked") else ["--no-include-untracked"]
        message = f"{arguments.get('message', 'set aside')} [{_MARK}{git.box.call_id}]"
        done = git.run(_PLAIN, "stash", "push", "--quiet", *words, "--message", message, write=True)
        after = _stashes(git)
        if done.exit_code != 0:
            raise Declined(
                f"git did not set it aside: {last_line(done.stderr)}", code="stash_refused", text=done.stderr
            )
        if len(after) == len(before):
            raise Declined("There is nothing to set aside.", code="nothing_to_stash")
        return _done(after[0], "set aside")

    def _take_up(self, entry: dict[str, Any], action: str, git: Git) -> Result:
        name = f"stash@{{{entry['number']}}}" if entry["named"] else entry["sha"]
        if action == "pop" and not entry["named"]:
            raise Declined("That is not in the list: apply it.", code="unknown_stash")
        done = git.run(_PLAIN, "stash", action, "--quiet", name, write=True)
        if done.exit_code == 0:
            return _done(entry, "applied")
        conflicts = [unquote(line) for line in git.out("diff", "--name-only", "--diff-filter=U", "--").splitlines()]
        said = done.stderr or done.stdout
        if not conflicts:
            raise Declined(f"git did not apply it: {last_line(said)}", code="stash_refused", text=said)
        raise Declined(
            f"{plural(len(conflicts), 'file')} in conflict, left for you to resolve; the stash stays in the list.",
            code="conflicts",
            error_code="conflict",
            text="\n".join(["In conflict:", *conflicts]),
            conflicts=conflicts,
            exit_code=done.exit_code,
        )


def _stashes(git: Git) -> list[dict[str, Any]]:
    """{number, sha, subject, date, named}, the latest first."""
    if not git.object_at("refs/stash"):
        return []
    layout, parse = records(("%H", "%cI", "%gs"))
    lines = git.out("log", "--walk-reflogs", f"--max-count={_SHOWN}", f"--format={layout}", "refs/stash", "--")
    return [
        {"number": number, "sha": sha, "date": date, "subject": subject, "named": True}
        for number, (sha, date, subject) in enumerate(parse(lines))
    ]


def _which(git: Git, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The stash that is named, by number or id.

    Raises:
        Declined: there is none.
    """
    wanted, found = arguments.get("stash", "0"), _stashes(git)
    if len(wanted) < 40:
        if int(wanted) < len(found):
            return found[int(wanted)]
        raise Declined(f"There is no stash {wanted}.", code="unknown_stash", count=len(found))
    named = next((entry for entry in found if entry["sha"] == wanted), None)
    if named is not None:
        return named
    if git.object_at(f"{KEPT}{wanted}") != wanted:
        raise Declined(f"There is no stash {wanted[:10]}.", code="unknown_stash", count=len(found))
    return {"number": -1, "sha": wanted, "date": "", "subject": "kept", "named": False}


def _diff(git: Git, sha: str) -> str:
    return git.run("diff", *DIFF_OPTIONS, "--numstat", "--patch", f"{sha}^1", sha, "--", bare=True).stdout


def _untracked(git: Git, arguments: Mapping[str, Any]) -> list[str]:
    if not arguments.get("untracked"):
        return []
    listed = git.out("ls-files", "--others", "--exclude-standard").splitlines()
    return [f"{plural(len(listed), 'file')} that git does not know:", *(f"  {unquote(path)}" for path in listed[:200])]


def _line(entry: Mapping[str, Any]) -> str:
    return f"{entry['number']} {entry['sha'][:10]} {entry['subject']}"


def _done(entry: Mapping[str, Any], how: str) -> Result:
    return Result(
        ok=True,
        summary=f"Stash {entry['sha'][:10]} was {how}.",
        data={"sha": entry["sha"], "how": how, "subject": entry["subject"]},
        text=f"{how}: {entry['sha'][:10]} {entry['subject']}",
        exit_code=0,
    )
