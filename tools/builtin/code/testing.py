"""Reads what test programs print. Pure; hostile text gives a report of what can be told, and never an error."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from xml.parsers import expat

from tools.builtin.code.findings import Finding, Report, number
from tools.builtin.code.node import jest, mocha, node_spec, tap

_PYTHON_PLACE = re.compile(r'^  File "([^"\n]+)", line (\d+)', re.MULTILINE)
_PYTEST_PLACE = re.compile(r"^([^\s:][^:\n]*\.py):(\d+):", re.MULTILINE)


class _Junit:
    """pytest's JUnit XML, read without a tree. A document type is refused: it can only be hostile."""

    def __init__(self) -> None:
        self.tests = self.skipped = 0
        self.found: list[Finding] = []
        self._case: dict[str, str] = {}
        self._kind = ""
        self._message = ""
        self._text: list[str] = []

    def read(self, data: bytes) -> bool:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError):
            return False
        return True

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "testcase":
            self.tests += 1
            self._case = attributes
        elif tag in ("failure", "error"):
            self._kind, self._message, self._text = tag, attributes.get("message", ""), []
        elif tag == "skipped":
            self.skipped += 1

    def _characters(self, data: str) -> None:
        if self._kind:
            self._text.append(data)

    def _end(self, tag: str) -> None:
        if tag != self._kind:
            return
        text = "".join(self._text)
        names = (self._case.get("classname", ""), self._case.get("name", ""))
        file = self._case.get("file", "")
        places = _PYTEST_PLACE.findall(text)
        own = [place for place in places if place[0] == file] or places or [(file, self._case.get("line", ""))]
        self.found.append(
            Finding(
                file=own[-1][0],
                line=number(own[-1][1]) + (0 if places or not file else 1),
                name=".".join(name for name in names if name),
                message=self._message or text[-600:],
                severity="failure" if tag == "failure" else "error",
            )
        )
        self._kind = ""


def junit(data: bytes) -> Report:
    """A report that is not `counted` where this is no such file."""
    read = _Junit()
    whole = read.read(data)
    failed = sum(one.severity == "failure" for one in read.found)
    errors = len(read.found) - failed
    return Report(
        counted=whole,
        passed=max(0, read.tests - len({(one.name) for one in read.found}) - read.skipped),
        failed=failed,
        errors=errors,
        skipped=read.skipped,
        findings=tuple(read.found),
    )


def unittest(text: str) -> Report:
    """`python -m unittest`."""
    found = []
    for block in text.split("=" * 70 + "\n")[1:]:
        head = re.match(r"(FAIL|ERROR): (.+)\n", block)
        if head is None:
            continue
        body = block.partition("-" * 70 + "\n")[2].partition("-" * 70 + "\n")[0]
        places = _PYTHON_PLACE.findall(body)
        own = [place for place in places if "/lib/python" not in place[0]] or places
        message = [line for line in body.splitlines() if line and not line.startswith((" ", "Traceback"))]
        found.append(
            Finding(
                file=own[-1][0] if own else "",
                line=number(own[-1][1]) if own else 0,
                name=head[2],
                message="\n".join(message),
                severity="failure" if head[1] == "FAIL" else "error",
            )
        )
    ran = re.search(r"^Ran (\d+) tests? in ", text, re.MULTILINE)
    ended = re.search(r"^(?:OK|FAILED|NO TESTS RAN)(?: \(([^)\n]*)\))?$", text, re.MULTILINE)
    counts = dict(re.findall(r"([a-z ]+)=(\d+)", ended[1] or "")) if ended else {}
    counts = {name.strip(): number(value) for name, value in counts.items()}
    failed, errors, skipped = (counts.get(name, 0) for name in ("failures", "errors", "skipped"))
    return Report(
        counted=ran is not None,
        passed=max(0, number(ran[1]) - failed - errors - skipped) if ran else 0,
        failed=failed,
        errors=errors,
        skipped=skipped,
        findings=tuple(found),
    )


def cargo(text: str) -> Report:
    """`cargo test`; where it does not compile, the compiler's errors."""
    passed = failed = ignored = 0
    sums = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;", text, re.MULTILINE)
    for one in sums:
        passed, failed, ignored = passed + number(one[0]), failed + number(one[1]), ignored + number(one[2])
    found = []
    for name, body in re.findall(
        r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^failures:$|\Z)", text, re.MULTILINE | re.DOTALL
    ):
        place = re.search(r"panicked at (?:'(.*?)', )?([^\s:][^:\n]*):(\d+):(\d+)", body)
        said = (
            re.split(r"^(?:stack backtrace|note):", body[place.end() :].lstrip(":\n"), flags=re.MULTILINE)[0]
            if place
            else body
        )
        found.append(
            Finding(
                file=place[2] if place else "",
                line=number(place[3]) if place else 0,
                column=number(place[4]) if place else 0,
                name=name,
                message=(place[1] or said) if place else said,
                severity="failure",
            )
        )
    broken = tuple(_compiler(text)) if not sums else ()
    return Report(
        counted=bool(sums),
        passed=passed,
        failed=failed,
        errors=len(broken),
        skipped=ignored,
        findings=(*found, *broken),
    )


def _compiler(text: str) -> Iterator[Finding]:
    for code, message, file, line, column in re.findall(
        r"^error(?:\[(E\d+)\])?: (.+)\n[ \t]*--> ([^:\n]+):(\d+):(\d+)", text, re.MULTILINE
    ):
        yield Finding(file=file, line=number(line), column=number(column), name=code, message=message)


def go(text: str, module: str = "") -> Report:
    """`go test -json`; module: of go.mod, for the folders of packages."""
    outcome: dict[tuple[str, str], str] = {}
    output: dict[tuple[str, str], list[str]] = {}
    build: list[str] = []
    for event in _objects(text):
        action, key = str(event.get("Action", "")), (str(event.get("Package", "")), str(event.get("Test", "")))
        if action in ("pass", "fail", "skip") and key[1]:
            outcome[key] = action
        elif action == "output":
            output.setdefault(key, []).append(str(event.get("Output", "")))
        elif action == "build-output":
            build.append(str(event.get("Output", "")))
    parents = {(package, test.rsplit("/", 1)[0]) for package, test in outcome if "/" in test}
    blamed = {
        (package, test.rsplit("/", 1)[0])
        for (package, test), action in outcome.items()
        if action == "fail" and "/" in test
    }
    own = {
        key: action for key, action in outcome.items() if key not in parents or (action == "fail" and key not in blamed)
    }
    found = [_go(key, "".join(output.get(key, [])), module) for key, action in own.items() if action == "fail"]
    broken = [
        Finding(file=file, line=number(line), column=number(column), message=message)
        for file, line, column, message in re.findall(
            r"^([^\s#:][^:\n]*):(\d+):(\d+): (.+)$", "".join(build), re.MULTILINE
        )
    ]
    actions = list(own.values())
    return Report(
        counted=bool(outcome),
        passed=actions.count("pass"),
        failed=actions.count("fail"),
        errors=len(broken),
        skipped=actions.count("skip"),
        findings=(*found, *broken),
    )


def _go(key: tuple[str, str], text: str, module: str) -> Finding:
    place = re.search(r"^[ \t]*([\w./-]+\.go):(\d+): (.*)", text, re.MULTILINE)
    folder = key[0].removeprefix(module).strip("/") if module and key[0].startswith(module) else ""
    file = f"{folder}/{place[1]}" if place and folder and "/" not in place[1] else place[1] if place else ""
    lines = [line for line in text.splitlines() if not line.startswith(("=== ", "--- "))]
    return Finding(
        file=file,
        line=number(place[2]) if place else 0,
        name=f"{key[0]}.{key[1]}",
        message=place[3] if place else "\n".join(lines[-20:]),
        severity="failure",
    )


def script(text: str) -> Report:
    """Whatever a project's script runs: the first reader that can count it."""
    for reader in (tap, node_spec, jest, mocha, go, cargo, unittest, pytest_text):
        report = reader(text)
        if report.counted:
            return report
    return cargo(text)


def pytest_text(text: str) -> Report:
    """pytest as it prints for people, where a script runs it."""
    line = re.findall(r"^(?:=+ )?(\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s", text, re.MULTILINE)
    if not line:
        return Report()
    counts = {name.rstrip("s"): number(value) for value, name in re.findall(r"(\d+) (\w+)", line[-1])}
    places = dict(_PYTEST_PLACE.findall(text))
    failures = re.findall(r"^(FAILED|ERROR) (\S+)(?: - (.*))?$", text, re.MULTILINE)
    each = Counter(test.split("::")[0] for _, test, _ in failures)
    found = []
    for kind, test, message in failures:
        file = test.split("::")[0]
        found.append(
            Finding(
                file=file,
                line=number(places.get(file)) if each[file] == 1 else 0,
                name=test,
                message=message,
                severity="failure" if kind == "FAILED" else "error",
            )
        )
    return Report(
        counted=True,
        passed=counts.get("passed", 0),
        failed=counts.get("failed", 0),
        errors=counts.get("error", 0),
        skipped=counts.get("skipped", 0),
        findings=tuple(found),
    )


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects."""
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


READERS: dict[str, Callable[[str], Report]] = {"unittest": unittest, "cargo": cargo, "go": go, "script": script}
