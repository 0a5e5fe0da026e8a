"""The script of the demo: look, test, mend, test again, write notes, commit, ask to push, and hear what people say.

Each move is told by what the conversation shows, so that the script reacts: to tests that still fail, to a step that
failed, to a refusal and its reason.
"""

import re

from agents.llm.scripted import repair
from agents.llm.scripted.look import WHO, finish
from agents.llm.scripted.naming import named_branch
from agents.llm.scripted.notes import NOTES, line, message, notes, summary
from agents.llm.scripted.scene import Ask, Done, Move, Scene

NEEDS = (
    "files.list",
    "files.read",
    "files.write",
    "git.log",
    "git.checkout",
    "git.add",
    "git.commit",
    "git.push",
    "shell.exec",
)
TESTS = ["python3", "-m", "unittest"]
TOPIC = "half-up-rounding"
BRANCH = f"fix/{TOPIC}"
REFUSALS_MOST = 3
QUOTE_MOST = 500
EDITS_MOST = len(repair.RULES)
READS_MOST = 6

# files.read says so where it gave only some of the lines.
_PARTLY = re.compile(r"lines \d+ to \d+ of \d+$")


def move(scene: Scene) -> Move:
    """The next move of the demo."""
    if not scene.all("files.list"):
        return Move(
            words=f"{WHO} I follow a script: first I look at the repository.",
            asks=(
                Ask(name="files.list", arguments={"depth": 2}, reason="To see what is here."),
                Ask(name="git.log", arguments={}, reason="To know what was done, for the release notes."),
            ),
        )
    test = last_test(scene)
    if test is None:
        return Move(words="Now the tests, as they stand.", asks=(run_tests("To see which tests fail."),))
    if test.refused_by or test.status not in ("OK", "FAILED"):
        return finish(f"{WHO} I could not run the tests: {test.status} {test.line}", success=False)
    if any(one.name == "files.write" and one.ok and one.arguments.get("path") != NOTES for one in scene.after(test)):
        return Move(
            words="The file is changed. The tests again.", asks=(run_tests("To see whether the change helps."),)
        )
    if not test.ok:
        return mend(scene, test)
    return _deliver(scene, test)


def mend(scene: Scene, test: Done) -> Move:
    """From a failing test to the file that it tests, and to a change derived from what that file says."""
    edits = [one for one in scene.all("files.write") if one.arguments.get("path") != NOTES]
    if edits and not edits[-1].ok:
        return finish(
            f"{WHO} I could not write {edits[-1].arguments.get('path')}: {edits[-1].status} {edits[-1].line}",
            success=False,
        )
    failing = repair.failing_test_file(test.text)
    if not failing:
        return finish(f"{WHO} The tests fail, and their output names no test file that I could read.", success=False)
    reads = {str(one.arguments.get("path")): one for one in scene.all("files.read")}
    if failing not in reads:
        return Move(
            words=f"A test fails in {failing}. I read what it expects.",
            asks=(_read(failing, "To see what the failing test expects."),),
        )
    listing = scene.all("files.list")[-1].text
    modules = repair.modules_under_test(reads[failing].text, listing)
    unread = [path for path in modules if path not in reads]
    if unread and len(reads) < READS_MOST:
        return Move(
            words="And now the code that it tests.",
            asks=tuple(_read(path, "To find the cause.") for path in unread[:2]),
        )
    for path in modules:
        done = reads.get(path)
        if done is None or not done.ok or "characters left out" in done.text or _PARTLY.search(done.line):
            continue
        versions = [
            done.text,
            *(str(one.arguments["content"]) for one in edits if one.arguments.get("path") == path and one.ok),
        ]
        found = repair.mended(versions[-1], versions)
        if found is not None and len(edits) < EDITS_MOST:
            content, why = found
            return Move(
                words=f"In {path} {why}. I change that and nothing else.",
                asks=(
                    Ask(
                        name="files.write",
                        arguments={"path": path, "content": content},
                        reason=f"In {path} {why}: the failing test says so.",
                    ),
                ),
            )
    return finish(
        f"{WHO} The tests in {failing} fail for a reason that my script does not know. I changed nothing that helps.",
        success=False,
    )


def _deliver(scene: Scene, test: Done) -> Move:
    """The tests pass: notes, branch, commit, push."""
    branch = _branch(scene)
    if branch is None:
        return _prepare(scene)
    commit = scene.last("git.commit")
    if commit is None:
        failed = _failed_since(scene, scene.last("git.checkout"))
        if failed is not None:
            return _give_up(scene, failed)
        written = list(dict.fromkeys(str(one.arguments["path"]) for one in scene.all("files.write") if one.ok))
        return Move(
            words="The tests pass. I commit the change and the notes together.",
            asks=(
                Ask(name="git.add", arguments={"paths": written}, reason="The files that I changed."),
                Ask(
                    name="git.commit",
                    arguments={"message": message(scene)},
                    reason="One commit: the change and its notes.",
                ),
            ),
        )
    if not commit.ok:
        return _give_up(scene, commit)
    push = scene.last("git.push")
    if push is None or push.at < commit.at or push.at < _branch_done(scene).at:
        failed = _failed_since(scene, commit)
        if failed is not None:
            return _give_up(scene, failed)
        reason = "The tests pass; the branch is ready for review."
        return Move(words=f"Committed on {branch}. I ask to push it.", asks=(_push(branch, reason),))
    if push.ok:
        return finish(summary(scene, branch, test), success=True)
    if push.refused_by in ("people", "policy"):
        return _after_refusal(scene, push, branch)
    return _after_failure(scene, push, branch)


def _prepare(scene: Scene) -> Move:
    written = [one for one in scene.all("files.write") if one.arguments.get("path") == NOTES]
    if written and not written[-1].ok:
        return _give_up(scene, written[-1])
    checkout = scene.last("git.checkout")
    if checkout is not None and not checkout.ok:
        tries = len(scene.all("git.checkout"))
        if checkout.refused_by or tries >= 3:
            return _give_up(scene, checkout)
        branch = f"{BRANCH}-{tries + 1}"
        return Move(words=f"That branch cannot be had; I take {branch}.", asks=(_checkout(branch),))
    return Move(
        words=f"The tests pass. I write {NOTES} from the history, on a branch of my own.",
        asks=(
            Ask(
                name="files.write",
                arguments={"path": NOTES, "content": notes(scene)},
                reason="The release notes that were asked for.",
            ),
            _checkout(BRANCH),
        ),
    )


def _after_refusal(scene: Scene, push: Done, branch: str) -> Move:
    """Another way: the branch that the reason names; else the reason goes on record, and the work to review."""
    refusals = [one for one in scene.all("git.push") if one.refused_by]
    by_policy = [one for one in refusals if one.refused_by == "policy"]
    reason = push.why
    quoted = f'The push was refused: "{line(reason)[:QUOTE_MOST]}"'
    if len(refusals) >= REFUSALS_MOST or len(by_policy) > 1 or reason == "nobody answered in time":
        times = f"{len(refusals)} time{'s' if len(refusals) > 1 else ''}"
        told = f"The push was refused {times}, last because: {reason} The work is committed on {branch} and not pushed."
        return finish(f"{WHO} {told}", success=False)
    named = None if by_policy else named_branch(reason, leaf=TOPIC, used=_used(scene))
    if named is not None:
        return Move(
            words=f"{quoted}. I use the branch that the reason names, {named}.",
            asks=(_checkout(named, "The branch that the refusal names."), _push(named, f"As asked: {line(reason)}")),
        )
    # Where people named the branch before, it stays; else the work moves to where reviews are looked for.
    chosen = any(named_branch(one.why, leaf=TOPIC) == branch for one in refusals)
    target = branch if chosen else _unused(scene, f"review/{TOPIC}")
    moves = () if chosen else (_checkout(target, "Offered for review, beside the branch that was refused."),)
    if by_policy:
        return Move(
            words=f"{quoted}. I offer the work for review as {target}.", asks=(*moves, _push(target, "For review."))
        )
    return Move(
        words=f"{quoted}. I put the reason into the release notes and offer the work as {target}.",
        asks=(
            *moves,
            Ask(
                name="files.write",
                arguments={"path": NOTES, "content": notes(scene)},
                reason="The reviewer's reason belongs to the record.",
            ),
            Ask(name="git.add", arguments={"paths": [NOTES]}, reason="The notes with the reviewer's reason."),
            Ask(
                name="git.commit",
                arguments={"message": f"Note the reviewer's reason\n\n{line(reason)[:QUOTE_MOST]}"},
                reason="Says what was asked for.",
            ),
            _push(target, f"After the refusal: {line(reason)}"),
        ),
    )


def _after_failure(scene: Scene, push: Done, branch: str) -> Move:
    """The push itself failed, as when the remote has such a branch already: once more under a fresh name."""
    failures = [one for one in scene.all("git.push") if one.status == "FAILED"]
    if len(failures) >= 2 or push.status != "FAILED":
        return _give_up(scene, push)
    other = _unused(scene, branch)
    return Move(
        words=f"The push failed: {push.line} I try {other}.",
        asks=(_checkout(other), _push(other, "The other name was taken.")),
    )


def _branch_done(scene: Scene) -> Done:
    return next(one for one in reversed(scene.all("git.checkout")) if one.ok)


def _branch(scene: Scene) -> str | None:
    """The branch that we stand on: the last one checked out."""
    done = [one for one in scene.all("git.checkout") if one.ok]
    return str(done[-1].arguments.get("ref")) if done else None


def _used(scene: Scene) -> set[str]:
    return {str(one.arguments.get("ref")) for one in scene.all("git.checkout")}


def _unused(scene: Scene, name: str) -> str:
    used = _used(scene)
    return next(one for one in (name, *(f"{name}-{n}" for n in range(2, 100))) if one not in used)


def _failed_since(scene: Scene, mark: Done | None) -> Done | None:
    return next((one for one in scene.after(mark) if one.status in ("FAILED", "REFUSED", "NOT", "CANCELLED")), None)


def _give_up(scene: Scene, done: Done) -> Move:
    """Ends honestly. A call that was dropped points to the one before it that failed."""
    cause = done
    for one in reversed(scene.done[: done.at]):
        if cause.status != "NOT":
            break
        cause = one
    told = f"{cause.name} did not go through, and my script knows no other way: {cause.status} {cause.line}"
    return finish(f"{WHO} {told}", success=False)


def last_test(scene: Scene) -> Done | None:
    return next((one for one in reversed(scene.all("shell.exec")) if one.arguments.get("argv") == TESTS), None)


def run_tests(reason: str) -> Ask:
    return Ask(name="shell.exec", arguments={"argv": TESTS}, reason=reason)


def _read(path: str, reason: str) -> Ask:
    return Ask(name="files.read", arguments={"path": path}, reason=reason)


def _checkout(branch: str, reason: str = "A branch of my own: the default branch stays as it is.") -> Ask:
    return Ask(name="git.checkout", arguments={"ref": branch, "create": True}, reason=reason)


def _push(branch: str, reason: str) -> Ask:
    return Ask(name="git.push", arguments={"branch": branch}, reason=reason)
