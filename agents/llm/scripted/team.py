"""The script of a team: a researcher who reads, a coder who mends and commits, a reviewer who judges the diff by rules.

Which of them it is stands in the first words of the goal, as the workflow `team` writes it. What the goal itself asks for
is known only where it speaks of tests or of release notes; anything else ends honestly.
"""

import re

from agents.llm.scripted import answers, demo, look
from agents.llm.scripted.look import WHO, finish
from agents.llm.scripted.notes import NOTES, line
from agents.llm.scripted.scene import Ask, Done, Move, Scene

RESEARCH = re.compile(r"Research, and change nothing: (?P<goal>.+)")
CODE = re.compile(r"Work on this in small commits, on the branch that is checked out: (?P<goal>.+)")
REVIEW = re.compile(r"Review what the branch \S+ changes against (?P<base>\S+) to reach this: (?P<goal>.+)")
ASKED = "What the review asks for:"
LINE_MOST = 100  # of the notes
APPROVE, CHANGES = "Verdict: approve", "Verdict: request changes"

_LOOK = ("files.list", "git.log")
_NEEDS = {RESEARCH: (*_LOOK, "files.read"), CODE: (*_LOOK, "files.read", "files.write", "shell.exec", "git.commit")}
_NEEDS[REVIEW] = ("git.log", "git.diff", "git.status")
_README = re.compile(r"(?im)(?<![\w/.-])README(?:\.md|\.rst|\.txt)?(?![\w/-])")
_CODE_FILE = re.compile(r"(?m)^\+\+\+ (?:b/)?(\S+\.py)$")
_RECORDS = re.compile(r"(?im)^\+\+\+ (?:b/)?(?:\S*/)?(?:RELEASE_NOTES|CHANGELOG|CHANGES)\b")


def move(scene: Scene) -> Move | None:
    """The next move of the one of the team whom the goal means; None where it means none."""
    for pattern, play in ((RESEARCH, _research), (CODE, _code), (REVIEW, _review)):
        found = pattern.match(scene.goal)
        if found is not None and all(scene.has(name) for name in _NEEDS[pattern]):
            return play(scene, found)
    return None


def _research(scene: Scene, found: re.Match[str]) -> Move:
    if not scene.done:
        return _looks(scene, "I am to find out what is here, and change nothing.")
    listed = scene.last("files.list")
    if listed is None or not listed.ok:
        return finish(f"{WHO} I could not see what is here.", success=False)
    readme = _README.search(listed.text)
    if readme is not None and scene.last("files.read") is None:
        return Move(
            words="The README says how things are meant.",
            asks=(Ask(name="files.read", arguments={"path": readme[0]}, reason="To see what the project promises."),),
        )
    return finish(_report(scene, listed, found["goal"]), success=True)


def _report(scene: Scene, listed: Done, goal: str) -> str:
    paths = [line(one) for one in listed.text.splitlines() if one.strip()]
    log, read = scene.last("git.log"), scene.last("files.read")
    parts = [
        f"{WHO} For: {goal}",
        f"There are {len(paths)} files and folders, among them {', '.join(paths[:12])}.",
    ]
    if log is not None and log.ok and log.text.strip():
        parts.append(f"The newest commit: {line(log.text.splitlines()[0])}")
    if read is not None and read.ok:
        runs = next((one.strip() for one in read.text.splitlines() if "unittest" in one or "pytest" in one), "")
        parts += [f"{read.arguments['path']} says how to run the tests: {runs}"] if runs else []
    return "\n".join(parts)


def _code(scene: Scene, found: re.Match[str]) -> Move:
    asked = scene.goal.partition(ASKED)[2]
    goal = found["goal"].lower()
    wants_notes = NOTES in asked or "release notes" in goal
    if not wants_notes and (asked or "test" not in goal):
        return finish(f"{WHO} {look.HOW} I changed nothing.", success=False)
    if not scene.done:
        return _looks(scene, "I am to make the change and commit it.")
    test = demo.last_test(scene)
    if test is None or any(one.name == "files.write" and one.ok for one in scene.after(test) if not _notes(one)):
        return Move(words="The tests, as they stand.", asks=(demo.run_tests("To see which tests fail."),))
    if test.refused_by or test.status not in ("OK", "FAILED"):
        return finish(f"{WHO} I could not run the tests: {test.status} {test.line}", success=False)
    if not test.ok:
        return demo.mend(scene, test)
    return _commit(scene, wants_notes)


def _commit(scene: Scene, wants_notes: bool) -> Move:
    """The tests pass: the notes where they are wanted, one commit, and a report."""
    failed = next((one for one in scene.done if one.name != "shell.exec" and one.status in ("FAILED", "REFUSED")), None)
    if failed is not None:
        return finish(f"{WHO} {failed.name} did not go through: {failed.status} {failed.line}", success=False)
    written = list(dict.fromkeys(str(one.arguments["path"]) for one in scene.all("files.write") if one.ok))
    if wants_notes and NOTES not in written:
        text = _release_notes(scene, written)
        return Move(
            words=f"The tests pass. I write {NOTES}.",
            asks=(Ask(name="files.write", arguments={"path": NOTES, "content": text}, reason="They were asked for."),),
        )
    if not written:
        return finish(f"{WHO} The tests pass already: there was nothing to change.", success=True)
    commit = scene.last("git.commit")
    if commit is None:
        return Move(
            words="I commit it.",
            asks=(
                Ask(name="git.add", arguments={"paths": written}, reason="The files that I changed."),
                Ask(name="git.commit", arguments={"message": _message(written)}, reason="One change, one commit."),
            ),
        )
    return finish(f"{WHO} The tests pass; {', '.join(written)} changed, and committed.", success=True)


def _message(written: list[str]) -> str:
    code = [path for path in written if path != NOTES]
    if not code:
        return "Add release notes\n\nThe review asks for them."
    return f"Round half a cent up\n\nThe tests and the README ask for it; {', '.join(code)} rounded otherwise."


def _release_notes(scene: Scene, written: list[str]) -> str:
    log = scene.last("git.log")
    known = log.text.splitlines() if log is not None and log.ok else []
    lines = [f"- `{path}`: amounts are rounded half up, as the tests and the README ask." for path in written]
    lines += [f"- {line(one)[:LINE_MOST]}" for one in known[:20]]
    return "\n".join(["# Release notes", "", *lines, "", "_Written by the scripted stand-in._", ""])


def _review(scene: Scene, found: re.Match[str]) -> Move:
    base = found["base"].rstrip(".,:")
    if not scene.done:
        between = {"from_ref": base, "to_ref": "HEAD"}
        return Move(
            words=f"{WHO} I read what was committed, not what is said of it.",
            asks=(
                Ask(name="git.diff", arguments=between, reason="What the branch changes."),
                Ask(name="git.log", arguments={"exclude_ref": base}, reason="The commits, and why."),
                Ask(name="git.status", arguments={}, reason="Is anything left outside the commits?"),
            ),
        )
    diff, status = scene.last("git.diff"), scene.last("git.status")
    if diff is None or not diff.ok or status is None or not status.ok:
        return finish(f"{WHO} I could not read the change.", success=False)
    wrong = _wrong(diff.text, clean="clean" in status.text.splitlines())
    if wrong:
        return finish("\n".join([CHANGES, "", *(f"- {one}" for one in wrong), "", WHO]), success=True)
    files = len(re.findall(r"(?m)^\+\+\+ ", diff.text))
    told = f"By its rules there is nothing to say against the {files} changed file{'s' if files != 1 else ''}."
    return finish(f"{APPROVE}\n\n{WHO} {told}", success=True)


def _wrong(diff: str, *, clean: bool) -> list[str]:
    """What the rules find, each in a line."""
    if "+++ " not in diff and "--- " not in diff:
        return ["Nothing is committed on the branch."]
    wrong = [f"{one['file']}:{one['line']}: {one['comment']}" for one in answers.findings(diff)]
    if _CODE_FILE.search(diff) and not _RECORDS.search(diff):
        wrong.append(f"{NOTES} says nothing of a change of the code: add it.")
    if not clean:
        wrong.append("Some changes are not committed.")
    return wrong[: answers.FINDINGS_MOST]


def _looks(scene: Scene, words: str) -> Move:
    return Move(
        words=f"{WHO} {words}",
        asks=(
            Ask(name="files.list", arguments={"depth": 2}, reason="To see what is here."),
            Ask(name="git.log", arguments={}, reason="To know what was done before."),
        ),
    )


def _notes(done: Done) -> bool:
    return done.arguments.get("path") == NOTES
