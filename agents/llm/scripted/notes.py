"""What the demo's script writes: release notes, a commit message, and its last words."""

import re

from agents.llm.scripted.scene import Done, Scene

NOTES = "RELEASE_NOTES.md"

# A line of git.log: id, date, author, subject, and the refs in brackets.
_COMMIT = re.compile(
    r"(?P<id>[0-9a-f]{7,64}) (?P<date>\d{4}-\d\d-\d\d) (?P<author>[^:]*): "
    r"(?P<subject>.*?)(?: \((?:HEAD|tag: |origin/|main\b|master\b)[^()]*\))?$"
)


def notes(scene: Scene) -> str:
    """The release notes: what this change does, the history, and what reviewers said."""
    lines = ["# Release notes", "", "## Fixed", ""]
    fixes = fixed(scene)
    lines += [
        f"- `{one.arguments['path']}`: amounts are rounded half up, as the tests and the README ask." for one in fixes
    ]
    if not fixes:
        lines.append("- Nothing had to be fixed: all tests passed.")
    log = scene.last("git.log")
    commits = _commits(log.text) if log is not None and log.ok else []
    if commits:
        lines += [
            "",
            "## Since the beginning",
            "",
            *(f"- {subject} ({author}, {date}, {id})" for id, date, author, subject in commits),
        ]
    refused = [one.why for one in scene.all("git.push") if one.refused_by == "people" and one.why]
    if refused:
        lines += ["", "## Reviewers' notes", "", *(f"- {line(reason)}" for reason in refused)]
    return "\n".join([*lines, "", "_Written by the scripted demo agent._", ""])


def message(scene: Scene) -> str:
    """The commit's message: what it is, and why."""
    fixes = list(dict.fromkeys(str(one.arguments["path"]) for one in fixed(scene)))
    if not fixes:
        return "Add release notes"
    why = f"The tests and the README ask for it; {', '.join(fixes)} rounded otherwise."
    return f"Round half a cent up\n\n{why}\nAdds release notes."


def summary(scene: Scene, branch: str, test: Done) -> str:
    """The last words of a demo that succeeded. test: the test run that passed."""
    ran = re.search(r"Ran (\d+) tests?", test.text)
    refused = sum(1 for one in scene.all("git.push") if one.refused_by)
    parts = [
        f"The tests pass ({ran.group(1)} ran)" if ran else "The tests pass",
        f"{NOTES} is written",
        f"{branch} is pushed" + (f", after {refused} refusal{'s' if refused > 1 else ''}" if refused else ""),
    ]
    return f"{'; '.join(parts)}. Done by the scripted stand-in, not by a model."


def fixed(scene: Scene) -> list[Done]:
    """The edits that were written, but for the notes."""
    return [one for one in scene.all("files.write") if one.ok and one.arguments.get("path") != NOTES]


def line(text: str) -> str:
    """`text` in one line."""
    return " ".join(text.split())


def _commits(log: str) -> list[tuple[str, str, str, str]]:
    """(id, date, author, subject) of each commit in a log of one line a commit."""
    found = (_COMMIT.match(line) for line in log.splitlines())
    return [(one["id"][:9], one["date"], one["author"], one["subject"]) for one in found if one is not None]
