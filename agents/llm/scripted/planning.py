"""The script of a planner: the demo's goal as two plans, the second one from what the first one's steps came to; and the
draft of a workflow. Told by the text of the prompt alone, whatever a person has made of the words around it.

The first plan is hopeful: it looks, runs the tests, and would ship the notes if they pass. They do not, so what needs them
is skipped, and the next plan mends what the search for rounding rules found.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.demo import GOAL
from agents.llm.scripted import demo, repair
from agents.llm.scripted.look import HOW, WHO
from agents.llm.scripted.naming import named_branch
from agents.llm.scripted.notes import NOTES
from agents.llm.scripted.scene import Done, Move, Scene, arguments_of, done

NEEDS = frozenset({*demo.NEEDS, "files.search", "files.patch"})
REFUSALS_MOST = 2
Step = dict[str, Any]

_ENDED = re.compile(r"^Step (?P<key>\S+): (?P<tool>[a-z_]+(?:\.[a-z_]+)+) (?P<arguments>.*)$", re.MULTILINE)
_SENT_BACK = re.compile(r"^A person looked at the plan and said: (?!run\b)(.*)$", re.MULTILINE)
_BARRED = re.compile(r"^Step \S+ of plan \d+ was not begun: REFUSED by policy: (.*)$", re.MULTILINE)
_RULE = re.compile(r"^(?P<path>[^:\n]+\.py):(?P<line>\d+):(?P<text>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What the prompt tells of the steps that ended. keys: of them all; against: what people or policy said against a
    plan that was not begun."""

    done: Sequence[Done]
    keys: frozenset[str]
    against: Sequence[str]

    def last(self, tool: str) -> Done | None:
        return next((one for one in reversed(self.done) if one.name == tool and one.status != "NOT"), None)


def asked(scene: Scene) -> bool:
    """Is it a plan that is asked for, or a workflow?"""
    names = set((scene.schema or {}).get("properties", {}))
    return {"note", "finish"} <= names or {"definition", "note"} <= names


def move(scene: Scene) -> Move:
    names = (scene.schema or {}).get("properties", {})
    return Move(words="", answer=_draft() if "definition" in names else _plan(scene, names))


def _plan(scene: Scene, names: Mapping[str, Any]) -> dict[str, Any]:
    past = _past(scene.goal)
    tools = set(names["steps"]["items"]["properties"]["tool"].get("enum", ())) if "steps" in names else set()
    if _plain(GOAL) in _plain(scene.goal) and (past.done or tools >= NEEDS):
        answer = _demo(past)
    elif not past.done and tools & {"files.list", "git.log"}:
        looks = [_step(key, tool) for key, tool in (("look", "files.list"), ("history", "git.log")) if tool in tools]
        answer = {"note": f"{WHO} I only look around.", "steps": looks}
    else:
        answer = _finish(f"{WHO} {HOW}", success=False)
    if "steps" in answer and not tools:
        return _finish(f"{WHO} There is no room for another plan: the goal is not reached.", success=False)
    return answer


def _demo(past: _Past) -> dict[str, Any]:
    push, tests = past.last("git.push"), past.last("shell.exec")
    if push is not None and push.ok:
        branch = push.arguments.get("branch", "a branch")
        return _finish(
            f"The tests pass, {NOTES} is written, {branch} is pushed. By the scripted stand-in.", success=True
        )
    refused = len(past.against) + sum(bool(one.refused_by) for one in past.done if one.name == "git.push")
    if refused > REFUSALS_MOST or len(past.against) == REFUSALS_MOST:  # a plan without the push was not wanted either
        return _finish(f"{WHO} It was refused {refused} times, and my script knows no other way.", success=False)
    if push is not None:
        return _push_again(past, push)
    if tests is None:
        return _first(past)
    if tests.ok:
        left_out = past.last("git.commit")
        if left_out is not None and left_out.ok and not past.against:
            words = "The tests pass and the work is committed. The plan that ran had no push in it"
            return _finish(f"{words}: it stays here. By the scripted stand-in.", success=True)
        steps = _deliver(past, needs=[], paths=[], fixed="")
        return {"note": f"{WHO} The tests pass: I ship what there is.", "steps": steps}
    return _mend(past, tests)


def _first(past: _Past) -> dict[str, Any]:
    steps = [
        _step("look", "files.list", depth=2, reason="To see what is here."),
        _step("history", "git.log", reason="To know what was done, for the release notes."),
        _step("rounding", "files.search", pattern="ROUND_[A-Z_]+", glob="*.py", reason="What my script can mend."),
        _step("tests", "shell.exec", argv=demo.TESTS, reason="To see whether the tests pass."),
    ]
    note = "I look first, and ship the release notes if the tests pass as they stand."
    more = _deliver(past, needs=["tests"], paths=[], fixed="")
    return {"note": f"{WHO} {_heard(past)}{note}", "steps": [*steps, *more]}


def _mend(past: _Past, tests: Done) -> dict[str, Any]:
    patch, path, why = _patch(past)
    if any(one.name == "files.patch" and one.ok for one in past.done) or not patch:
        return _finish(f"{WHO} The tests fail for a reason that my script does not know: {tests.line}", success=False)
    steps = [
        _step("mend", "files.patch", patch=patch, reason=f"In {path} {why}: the failing test says so."),
        _step(
            "tests_again",
            "shell.exec",
            argv=demo.TESTS,
            needs=["mend"],
            success_check="steps.tests_again.exit_code == 0",
            reason="To see whether the change helps.",
            instead_of="tests" if "tests" in past.keys else "",
        ),
    ]
    fixed = f"- `{path}`: amounts are rounded half up, as the tests and the README ask.\n"
    note = f"The tests fail: in {path} {why}. I mend that and nothing else, test again, and ship it."
    more = _deliver(past, needs=["tests_again"], paths=[path], fixed=fixed)
    return {"note": f"{WHO} {_heard(past)}{note}", "steps": [*steps, *more]}


def _deliver(past: _Past, *, needs: Sequence[str], paths: Sequence[str], fixed: str) -> list[Step]:
    """Branch, notes, commit; and the push, unless somebody was against a plan with one."""
    name = lambda key: _unused(key, past)  # noqa: E731
    stands = {"history"} <= past.keys or not past.keys
    log = "## Since the beginning\n\n${{ steps.history.text }}\n" if stands else ""
    content = f"# Release notes\n\n## Fixed\n\n{fixed or '- Nothing had to be fixed.'}\n{log}"
    branch, notes, stage, commit = map(name, ("branch", "notes", "stage", "commit"))
    history = ["history"] if stands and not past.keys else []
    message = "Round half a cent up, and add release notes" if fixed else "Add release notes"
    steps = [
        _step(branch, "git.checkout", ref=demo.BRANCH, create=True, needs=needs, reason="A branch of my own."),
        _step(
            notes, "files.write", path=NOTES, content=content, needs=[branch, *history],
            reason="The release notes that were asked for.",
        ),
        _step(stage, "git.add", paths=[NOTES, *paths], needs=[notes], reason="What I changed."),
        _step(commit, "git.commit", message=message, needs=[stage], reason="One commit: the change and its notes."),
    ]  # fmt: skip
    if not past.against:
        push = _step(name("push"), "git.push", branch=demo.BRANCH, needs=[commit], reason="Ready for review.")
        steps.append(push)
    for step in steps:
        was = re.sub(r"_\d+$", "", step["key"])
        step["instead_of"] = was if was != step["key"] and was in past.keys else ""
    return steps


def _push_again(past: _Past, push: Done) -> dict[str, Any]:
    """After a refusal: the branch that the reason names, or one that is looked at."""
    used = {str(one.arguments.get("ref")) for one in past.done if one.name == "git.checkout"}
    named = named_branch(push.why, leaf=demo.TOPIC, used=used) if push.refused_by == "people" else None
    branch = named or f"review/{demo.TOPIC}"
    if not push.refused_by or branch in used:
        return _finish(f"{WHO} The push did not go through: {push.status} {push.line}", success=False)
    first, second = _unused("branch", past), _unused("push", past)
    was = max((key for key in past.keys if re.fullmatch(r"push(_\d+)?", key)), default="")
    return {
        "note": f'{WHO} The push was refused: "{" ".join(push.why.split())[:300]}". I offer the work as {branch}.',
        "steps": [
            _step(first, "git.checkout", ref=branch, create=True, reason="Beside the branch that was refused."),
            _step(second, "git.push", branch=branch, needs=[first], instead_of=was, reason="As the refusal says."),
        ],
    }


def _patch(past: _Past) -> tuple[str, str, str]:
    """(a patch, its file, why) for the one rounding rule that the search found and the script knows to be wrong."""
    found = past.last("files.search")
    for wrong, right, why in repair.RULES:
        word = re.compile(rf"\b{wrong}\b")
        lines = [one for one in _RULE.finditer(found.text if found else "") if word.search(one["text"])]
        if lines:
            path = lines[0]["path"]
            hunks = "".join(
                f"@@ -{one['line']} +{one['line']} @@\n-{one['text']}\n+{word.sub(right, one['text'])}\n"
                for one in lines
                if one["path"] == path
            )
            return f"--- a/{path}\n+++ b/{path}\n{hunks}", path, why
    return "", "", ""


def _draft() -> dict[str, Any]:
    """The same small workflow for every problem."""
    return {
        "note": f"{WHO} It did not read your problem: this draft only shows what one looks like.",
        "definition": {
            "title": "Look around",
            "description": "A scripted example: what is in the repository, and what was done lately.",
            "inputs": {"properties": {"depth": {"type": "integer", "minimum": 1, "maximum": 5, "default": 2}}},
            "steps": [
                {"key": "look", "tool": "files.list", "arguments": {"depth": "${{ inputs.depth }}"}},
                {"key": "history", "tool": "git.log", "arguments": {}},
            ],
            "outputs": {"files": "steps.look.text", "history": "steps.history.text"},
        },
    }


def _past(text: str) -> _Past:
    text = re.split(r"(?m)^</\w+>", text)[0]  # what stands below the results is no part of the last one
    marks = list(_ENDED.finditer(text))
    found = []
    for number, mark in enumerate(marks):
        end = marks[number + 1].start() if number + 1 < len(marks) else len(text)
        told = text[mark.end() : end].strip("\n")
        found.append(done(number, mark["tool"], arguments_of(mark["arguments"]), told))
    against = [*_SENT_BACK.findall(text), *_BARRED.findall(text)]
    return _Past(done=found, keys=frozenset(one["key"] for one in marks), against=against)


def _step(key: str, tool: str, *, needs: Sequence[str] = (), **given: Any) -> Step:
    own: dict[str, Any] = {name: given.pop(name) for name in ("reason", "success_check", "instead_of") if name in given}
    return {"key": key, "tool": tool, "arguments": given, "needs": list(needs), **own}


def _finish(summary: str, *, success: bool) -> dict[str, Any]:
    return {"finish": {"success": success, "summary": summary}}


def _heard(past: _Past) -> str:
    return f'You said: "{past.against[-1][:300]}", so I leave the push out. ' if past.against else ""


def _unused(key: str, past: _Past) -> str:
    """A key that no step of the job has."""
    tried = [key, *(f"{key}_{number}" for number in range(2, 20))]
    return next(one for one in tried if one not in past.keys)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace(",", " ").split())
