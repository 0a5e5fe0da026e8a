"""Reads what test programs of JavaScript print. Pure; as `testing`."""

import re

from tools.builtin.code.findings import Finding, Report, number

_NODE_PLACE = re.compile(r"(?:\(|at |file://)((?:/|\.{0,2}/?)[\w@+~.][^():\n]{0,400}\.[cm]?[jt]sx?):(\d+):(\d+)\)?")


def tap(text: str) -> Report:
    """The Test Anything Protocol, as node --test and others print it."""
    if not re.search(r"^TAP version 1[34]$", text, re.MULTILINE) and not re.search(r"^1\.\.\d+", text, re.MULTILINE):
        return Report()
    points = list(re.finditer(r"^([ ]*)(not ok|ok) \d+(?: - )?([^\n#]*)(# ?(?:SKIP|TODO)[^\n]*)?$", text, re.MULTILINE))
    found, passed, skipped = [], 0, 0
    for place, point in enumerate(points):
        end = points[place + 1].start() if place + 1 < len(points) else len(text)
        body = text[point.end() : end]
        if "type: 'suite'" in body or "failureType: 'subtestsFailed'" in body:
            continue
        if point[4]:
            skipped += 1
        elif point[2] == "ok":
            passed += 1
        else:
            found.append(_tap(point[3].strip(), body))
    return Report(counted=bool(points), passed=passed, failed=len(found), skipped=skipped, findings=tuple(found))


def _tap(name: str, body: str) -> Finding:
    place = _NODE_PLACE.search(body.split("stack:", 1)[1]) if "stack:" in body else None
    said = re.search(r"^[ \t]+error: (?:\|-\n(.*?)(?=^[ \t]+\w+: )|'?([^\n]*?)'?$)", body, re.MULTILINE | re.DOTALL)
    at = place or re.search(r"location: '()([^':\n]+):(\d+):(\d+)'", body)
    groups = at.groups()[-3:] if at else ("", "", "")
    message = " ".join((said[1] or said[2] or "").split()) if said else ""
    return Finding(
        file=groups[0], line=number(groups[1]), column=number(groups[2]), name=name, message=message, severity="failure"
    )


def node_spec(text: str) -> Report:
    """node --test, as it prints for people."""
    counts = {
        name: number(value)
        for name, value in re.findall(r"^\u2139 (pass|fail|cancelled|skipped|todo) (\d+)$", text, re.MULTILINE)
    }
    if "pass" not in counts:
        return Report()
    tail = text.split("✖ failing tests:", 1)
    found = []
    for file, line, column, name, body in re.findall(
        r"^test at ([^\n]+?):(\d+):(\d+)\n✖ ([^\n]*?)(?: \([\d.]+ms\))?\n(.*?)(?=^test at |\Z)",
        tail[1] if len(tail) > 1 else "",
        re.MULTILINE | re.DOTALL,
    ):
        place = _NODE_PLACE.search(body)
        at = place.groups() if place else (file, line, column)
        message = " ".join(re.split(r"\n[ \t]+at ", body, maxsplit=1)[0].split())
        found.append(
            Finding(
                file=at[0], line=number(at[1]), column=number(at[2]), name=name, message=message, severity="failure"
            )
        )
    return Report(
        counted=True,
        passed=counts["pass"],
        failed=counts.get("fail", 0) + counts.get("cancelled", 0),
        skipped=counts.get("skipped", 0) + counts.get("todo", 0),
        findings=tuple(found),
    )


def jest(text: str) -> Report:
    """jest, and vitest with its own words."""
    line = re.search(r"^Tests:\s+(.+), \d+ total$", text, re.MULTILINE) or re.search(
        r"^ +Tests +(\d+ [a-z]+(?: \| \d+ [a-z]+)*) \(\d+\)$", text, re.MULTILINE
    )
    if line is None:
        return Report()
    counts = {name: number(value) for value, name in re.findall(r"(\d+) (\w+)", line[1])}
    parts = (
        re.split(r"^  ● (?!Console)", text, flags=re.MULTILINE)[1:]
        or re.split(r"^ FAIL  ", text, flags=re.MULTILINE)[1:]
    )
    found: dict[str, Finding] = {}
    for part in parts:
        name, _, body = part.partition("\n")
        place = _NODE_PLACE.search(body) or re.search(r"\u276f ()([^\s:]+):(\d+):(\d+)", body)
        at = place.groups()[-3:] if place else ("", "", "")
        message = " ".join(
            re.split(r"\n[ \t]+(?:\d+|>[ \t]+\d+) \||\n[ \t]+at |\n \u276f ", body, maxsplit=1)[0].split()
        )
        found.setdefault(
            name.strip(),
            Finding(
                file=at[0],
                line=number(at[1]),
                column=number(at[2]),
                name=name.strip(),
                message=message,
                severity="failure",
            ),
        )
    return Report(
        counted=True,
        passed=counts.get("passed", 0),
        failed=counts.get("failed", 0),
        skipped=counts.get("skipped", 0) + counts.get("todo", 0),
        findings=tuple(found.values()),
    )


def mocha(text: str) -> Report:
    """mocha's own reporter."""
    passing = re.search(r"^[ \t]+(\d+) passing(?: \(.*\))?$", text, re.MULTILINE)
    if passing is None:
        return Report()
    rest = text[passing.end() :]
    failing, pending = (re.search(rf"^[ \t]+(\d+) {word}$", rest, re.MULTILINE) for word in ("failing", "pending"))
    found = []
    for body in re.split(r"^  \d+\) ", rest, flags=re.MULTILINE)[1:]:
        name, _, said = body.partition(":\n")
        place = _NODE_PLACE.search(said)
        at = place.groups() if place else ("", "", "")
        message = " ".join(re.split(r"\n[ \t]+at |\n[ \t]+\+ expected", said, maxsplit=1)[0].split())
        found.append(
            Finding(
                file=at[0],
                line=number(at[1]),
                column=number(at[2]),
                name=" ".join(name.split()),
                message=message,
                severity="failure",
            )
        )
    return Report(
        counted=True,
        passed=number(passing[1]),
        failed=number(failing[1]) if failing else 0,
        skipped=number(pending[1]) if pending else 0,
        findings=tuple(found),
    )
