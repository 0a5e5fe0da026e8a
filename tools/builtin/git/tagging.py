"""git.tag."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.refs import BRANCH_SCHEMA, MESSAGE_SCHEMA, REF_SCHEMA, check_message, check_name, check_ref
from tools.builtin.git.text import last_line
from tools.builtin.git.tool import GitTool, one_line, typed
from tools.spec import Box, Effect, Result, Risk, RiskScore


class Tag(GitTool):
    name = "git.tag"
    summary = "Make a tag in the workspace: annotated with a message, plain without."
    effect = Effect.ONCE
    examples = ({"name": "v1.0.0", "message": "First"},)
    writes = True
    schema = {
        "type": "object",
        "properties": {
            "name": BRANCH_SCHEMA,
            "ref": {**REF_SCHEMA, "default": "HEAD"},
            "message": MESSAGE_SCHEMA,
        },
        "required": ["name"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_name(arguments["name"], field="name")
        check_ref(arguments.get("ref", "HEAD"), field="ref")
        if "message" in arguments:
            check_message(arguments["message"])

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.MEDIUM, reasons=("a tag names a release for good",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        message = ["-a", "-m", one_line(arguments["message"])] if "message" in arguments else []
        return typed("tag", *message, arguments["name"], arguments.get("ref", ""))

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"sha", "existing"}: the commit to be tagged, and where the tag stands already ("")."""
        git = Git(box)
        return {"sha": git.find(arguments.get("ref", "HEAD")), "existing": _tagged(git, arguments["name"])}

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        sha = git.find(arguments.get("ref", "HEAD"))
        if not sha:
            return "There is no such commit: this would fail."
        if _tagged(git, arguments["name"]):
            return f"Tag {arguments['name']} exists already: this would fail."
        return git.out("log", "--max-count=1", "--no-show-signature", "--no-notes", "--format=%h %an: %s", sha, "--")

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        name, sha = arguments["name"], git.commit(arguments.get("ref", "HEAD"))
        existing = _tagged(git, name)
        if existing:
            raise Declined(f"Tag {name} exists already, at {existing[:10]}.", code="tag_exists", sha=existing)
        message = arguments.get("message")
        if message:
            words, stdin = ["--annotate", "--no-sign", "--cleanup=whitespace", "--file=-"], message.encode()
        else:
            words, stdin = ["--no-sign"], b""
        done = git.run("tag", *words, name, sha, write=True, stdin=stdin)
        if done.exit_code != 0:
            raise Declined(f"git did not tag: {last_line(done.stderr)}", code="tag_refused", exit_code=done.exit_code)
        return _result(name, sha)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        sha = target_state.get("sha") or git.find(arguments.get("ref", "HEAD"))
        return _result(arguments["name"], sha) if sha and _tagged(git, arguments["name"]) == sha else None


def _tagged(git: Git, name: str) -> str:
    return git.find(f"refs/tags/{name}")


def _result(name: str, sha: str) -> Result:
    return Result(ok=True, summary=f"Tagged {sha[:10]} as {name}.", data={"tag": name, "sha": sha}, exit_code=0)
