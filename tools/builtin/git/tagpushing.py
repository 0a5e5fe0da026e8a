"""git.push_tag: one tag to origin, where there is none of that name."""

from collections.abc import Mapping
from typing import Any

from tools.builtin.git.broker import Broker
from tools.builtin.git.cli import Declined, Git
from tools.builtin.git.pushing import broker_of, contents, flag_words, remote_state, send, transfer
from tools.builtin.git.refs import BRANCH_SCHEMA, check_name
from tools.builtin.git.text import bounded
from tools.builtin.git.tool import GitTool, typed
from tools.spec import Box, Effect, Result, Risk, RiskScore

_PREVIEW_CHARS = 64_000


class PushTag(GitTool):
    name = "git.push_tag"
    summary = "Push a tag to origin. Never moves one: a tag of that name there must be this one, or absent."
    effect = Effect.ONCE
    writes = True
    undone_by = "nothing: who has a tag keeps it"
    examples = ({"tag": "v1.0.0"},)
    schema = {
        "type": "object",
        "properties": {"tag": {**BRANCH_SCHEMA, "description": "The tag, as it stands in the workspace."}},
        "required": ["tag"],
        "additionalProperties": False,
    }

    def check(self, arguments: Mapping[str, Any]) -> None:
        check_name(arguments["tag"], field="tag")

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        reasons = ("a tag names a release for good", "the tag and its commits leave the workspace; others can see them")
        return RiskScore(level=Risk.HIGH, reasons=reasons)

    def describe(self, arguments: Mapping[str, Any]) -> str:
        return typed("push", "origin", f"refs/tags/{arguments['tag']}")

    def target_state(self, arguments: Mapping[str, Any], box: Box) -> dict[str, Any]:
        """{"local_sha", "commit", "remote_ref", "remote_sha" ("" where absent), "url"}; of an annotated tag, `local_sha`
        is its own id, so that its message is held fast too.

        Raises:
            ToolFailed: there is no such tag, no origin, or it cannot be asked.
        """
        git = Git(box)
        return _state(arguments, git, broker_of(git, self.name))

    def preview(self, arguments: Mapping[str, Any], box: Box) -> str:
        git = Git(box)
        broker = broker_of(git, self.name)
        state = _state(arguments, git, broker)
        sha, there = state["local_sha"], state["remote_sha"]
        heading = [f"To {state['url']}", f"  {state['remote_ref']}: {there[:10] or '(new tag)'} -> {sha[:10]}"]
        if there == sha:
            return "\n".join([*heading, "Nothing to push: the remote is there already."])
        if there:
            return "\n".join([*heading, "This would be refused: the remote has another tag of that name."])
        with broker.open():
            broker.refresh()
            transfer(git, broker, state["remote_ref"], sha)
            answer = broker.push(sha, state["remote_ref"], expected="", dry_run=True)
        heading.append(f"  dry run: {answer.detail if answer.ok else flag_words(answer)}")
        words = (
            "for-each-ref",
            "--format=%(objecttype) by %(taggername)%(authorname): %(contents)",
            state["remote_ref"],
        )
        said = [f"  {line}" for line in git.out(*words).strip().splitlines()]
        return bounded("\n".join([*heading, *said, *contents(git, state["commit"], "")]), _PREVIEW_CHARS)

    def operate(self, arguments: Mapping[str, Any], git: Git) -> Result:
        broker = broker_of(git, self.name)
        with broker.open():
            state = _state(arguments, git, broker)
            if state["remote_sha"] == state["local_sha"]:
                return _pushed(state, "already there")
            if state["remote_sha"]:
                raise Declined(f"origin has another tag {arguments['tag']}: it stays.", code="tag_exists", **state)
            broker.refresh()
            transfer(git, broker, state["remote_ref"], state["local_sha"])
            answer = send(broker, state)
            if not answer.ok:
                raise Declined(
                    f"origin refused the tag: {answer.detail.splitlines()[0]}",
                    code="push_refused",
                    text=answer.detail,
                    **state,
                )
        return _pushed(state, "new tag", answer.detail)

    def probe(self, arguments: Mapping[str, Any], target_state: Mapping[str, Any], box: Box) -> Result | None:
        git = Git(box)
        broker = broker_of(git, self.name)
        with broker.open():
            state = dict(target_state) or _state(arguments, git, broker)
            if broker.remote_sha(state["remote_ref"]) != state["local_sha"]:
                return None
        return _pushed(state, "found at the remote")


def _state(arguments: Mapping[str, Any], git: Git, broker: Broker) -> dict[str, Any]:
    ref = f"refs/tags/{arguments['tag']}"
    local_sha, commit = git.object_at(ref), git.find(ref)
    if not commit:
        raise Declined(f"There is no tag {arguments['tag']!r} here.", code="unknown_ref", ref=arguments["tag"])
    return {"commit": commit, **remote_state(broker, local_sha, ref)}


def _pushed(state: Mapping[str, Any], how: str, said: str = "") -> Result:
    tag = state["remote_ref"].removeprefix("refs/tags/")
    return Result(
        ok=True,
        summary=f"origin's tag {tag} names {state['commit'][:10]} ({how}).",
        data={**state, "tag": tag, "how": how},
        text="\n".join(part for part in (f"To {state['url']}", f"{tag}: {how}", said) if part),
        exit_code=0,
    )
