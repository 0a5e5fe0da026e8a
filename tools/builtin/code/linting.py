"""Reads what linters and formatters print. Pure; hostile text gives what can be told, and never an error."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tools.builtin.code.findings import Finding, Report, number

_TEXT = re.compile(
    r"^(?:\x1b\[[0-9;]*m)?([^\s:#][^:\n]*):(\d+)(?::(\d+))?:?[ \t]+(?:(error|warning|note|info)(?:\[([\w:-]+)\])?:?[ \t]+)?([^\n]+)$",
    re.MULTILINE,
)
_CODE = re.compile(r"^([A-Z]+[0-9]+)[ :]+(.*)$", re.DOTALL)
_LAST = re.compile(r"^(.*?)[ \t]+\[([\w-]+)\]$")


def text(output: str) -> Report:
    """`file:line:column: message`, as flake8, mypy, go vet, gcc and many others print."""
    found = []
    for file, line, column, severity, rule, said in _TEXT.findall(output):
        if severity in ("note", "info"):
            continue
        name, message = rule, said
        if (code := _CODE.match(said)) is not None:
            name, message = code[1], code[2]
        elif (last := _LAST.match(said)) is not None:
            name, message = last[2], last[1]
        found.append(
            Finding(
                file=file,
                line=number(line),
                column=number(column),
                name=name,
                message=message,
                severity="warning" if severity == "warning" else "error",
            )
        )
    return Report(counted=bool(found), findings=tuple(found))


def ruff(output: str) -> Report:
    """`ruff check --output-format=json-lines`."""
    found = []
    for one in _lines(output):
        place = _object(one.get("location"))
        if "filename" not in one or not place:
            continue
        found.append(
            Finding(
                file=str(one.get("filename", "")),
                line=_int(place.get("row")),
                column=_int(place.get("column")),
                name=str(one.get("code") or "syntax"),
                message=str(one.get("message", "")),
            )
        )
    return Report(counted=bool(found), findings=tuple(found))


def eslint(output: str) -> Report:
    """`eslint -f json`; as it prints for people, where it is that."""
    begin = output.find("[{")
    try:
        files = json.loads(output[begin:].split("\n", 1)[0]) if begin >= 0 else []
    except (ValueError, RecursionError):
        files = []
    found = []
    for file in files if isinstance(files, list) else []:
        for one in _object(file).get("messages") or []:
            said = _object(one)
            found.append(
                Finding(
                    file=str(_object(file).get("filePath", "")),
                    line=_int(said.get("line")),
                    column=_int(said.get("column")),
                    name=str(said.get("ruleId") or "syntax"),
                    message=str(said.get("message", "")),
                    severity="error" if said.get("severity") == 2 else "warning",
                )
            )
    return Report(counted=bool(found), findings=tuple(found)) if found else _stylish(output)


def _stylish(output: str) -> Report:
    found, file = [], ""
    for line in output.splitlines():
        if match := re.match(r"^\s+(\d+):(\d+)\s+(error|warning)\s+(.*?)(?:\s{2,}(\S+))?$", line):
            found.append(
                Finding(
                    file=file,
                    line=number(match[1]),
                    column=number(match[2]),
                    name=match[5] or "",
                    message=match[4],
                    severity=match[3],
                )
            )
        elif line and not line[0].isspace():
            file = line.strip()
    return Report(counted=bool(found), findings=tuple(found))


def clippy(output: str) -> Report:
    """`cargo clippy --message-format=json`."""
    found = []
    for one in _lines(output):
        message = _object(one.get("message"))
        if one.get("reason") != "compiler-message" or message.get("level") not in ("error", "warning"):
            continue
        spans = [_object(span) for span in message.get("spans") or []]
        place = next((span for span in spans if span.get("is_primary")), None)
        if place is None:
            continue  # a sum of the others
        found.append(
            Finding(
                file=str(place.get("file_name", "")),
                line=_int(place.get("line_start")),
                column=_int(place.get("column_start")),
                name=str(_object(message.get("code")).get("code") or ""),
                message=str(message.get("message", "")),
                severity=str(message["level"]),
            )
        )
    return Report(counted=bool(found), findings=tuple(found))


def script(output: str) -> Report:
    """Whatever a project's script runs."""
    for reader in (eslint, ruff, clippy, text):
        report = reader(output)
        if report.findings:
            return report
    return Report()


_FORMATTED = re.compile(
    r"^(?:(?:would reformat|reformatted|Would reformat:?|\[warn\]) +(\S.*?)|unformatted: .*\n +--> ([^:\n]+):\d+:\d+|([\w@./+ -]+\.[A-Za-z]\w*))$",
    re.MULTILINE,
)


def files_of(output: str) -> list[str]:
    """The files that a formatter lists, each once: what is not formatted, or was not."""
    found = (next(name for name in match if name) for match in _FORMATTED.findall(output))
    return list(dict.fromkeys(name for name in found if "." in name and not name.endswith((".", "!"))))


def _lines(output: str) -> list[dict[str, Any]]:
    found = []
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                found.append(value)
    return found


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else 0


READERS: dict[str, Callable[[str], Report]] = {
    "text": text,
    "ruff": ruff,
    "eslint": eslint,
    "clippy": clippy,
    "script": script,
}
