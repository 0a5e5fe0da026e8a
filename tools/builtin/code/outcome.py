"""From runs and what was read of them to the Result that people and models see."""

from collections.abc import Mapping, Sequence
from typing import Any

from tools.builtin.code.detect import Command
from tools.builtin.code.findings import Report, as_json, line_of
from tools.errors import ToolFailed
from tools.spec import Box, Completed, Result

_SHOWN = 50
_TAIL_CHARACTERS = 6000


def tail(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _TAIL_CHARACTERS else f"[...]\n{text[-_TAIL_CHARACTERS:]}"


def ran(command: Command, argv: Sequence[str], ended: Completed) -> dict[str, Any]:
    return {
        "program": command.name,
        "argv": list(argv),
        "because": command.why,
        "exit_code": ended.exit_code,
        "ended_by": ended.ended_by,
        "duration_s": ended.duration_s,
        "ok": ended.ok,
    }


def tested(
    run: dict[str, Any], report: Report, ended: Completed, box: Box, *, missing: str, others: list[str]
) -> Result:
    counts = {"passed": report.passed, "failed": report.failed, "errors": report.errors, "skipped": report.skipped}
    findings = as_json(report.findings)
    ok = ended.ok and not report.failed and not report.errors
    if missing:
        said = f"{missing} is not installed where commands run."
    elif ended.ended_by:
        said = f"{run['program']} was stopped ({ended.ended_by})" + (f": {_counts(counts)}" if report.counted else "")
    elif report.counted or report.errors:
        said = f"{run['program']}: {_counts(counts)}"
    else:
        said = f"{run['program']} ended with exit code {ended.exit_code}; its tests could not be counted."
    text = f"[{said}]\n" + "".join(f"{line_of(one)}\n" for one in findings[:_SHOWN])
    text += f"[... {len(report.findings) - _SHOWN} more ...]\n" if len(report.findings) > _SHOWN else ""
    if not ok and (not findings or not report.counted):
        text += tail(f"{ended.stdout}\n{ended.stderr}")
    return _result("test", ok, said, text, counts=counts if report.counted or report.errors else {}, findings=findings,
                   more=len(report.findings) - len(findings), runs=[run], others=others, ended=ended, missing=missing, box=box)  # fmt: skip


def linted(runs: list[dict[str, Any]], report: Report, box: Box, missing: list[str], told: list[str]) -> Result:
    findings = as_json(report.findings)
    errors = sum(one.severity == "error" for one in report.findings)
    counts = {"errors": errors, "warnings": len(report.findings) - errors}
    ok = not missing and all(run["ok"] for run in runs) and not errors
    names = ", ".join(run["program"] for run in runs)
    said = f"{names}: {_counts(counts) if report.findings else 'nothing found' if ok else 'failed'}"
    said += "".join(f"; {name} is not installed where commands run" for name in missing)
    text = f"[{said}]\n" + "".join(f"{line_of(one)}\n" for one in findings[:_SHOWN])
    text += f"[... {len(report.findings) - _SHOWN} more ...]\n" if len(report.findings) > _SHOWN else ""
    text += "\n".join(told)
    return _result("lint", ok, said, text, counts=counts, findings=findings, more=len(report.findings) - len(findings),
                   runs=runs, others=[], ended=None, missing=" ".join(missing), box=box)  # fmt: skip


def formatted(
    runs: list[dict[str, Any]], files: list[str], box: Box, missing: list[str], told: list[str], *, only_check: bool
) -> Result:
    failed = bool(missing) or not all(run["ok"] for run in runs)
    ok = not failed and not (only_check and files)
    names = ", ".join(run["program"] for run in runs)
    what = "1 file" if len(files) == 1 else f"{len(files)} files"
    said = f"{names}: {what} {'would change' if only_check else 'changed'}" if files else f"{names}: no file needs it"
    said = f"{names} failed" if failed else said
    said += "".join(f"; {name} is not installed where commands run" for name in missing)
    text = f"[{said}]\n" + "".join(f"{name}\n" for name in files[:200]) + "\n".join(told)
    result = _result("format", ok, said, text, counts={"changed": len(files)}, findings=[], more=0, runs=runs, others=[],
                     ended=None, missing=" ".join(missing), box=box)  # fmt: skip
    return Result(
        ok=ok, summary=result.summary, text=text, sandbox=result.sandbox, data={**result.data, "files": files[:500]}
    )


def _result(
    kind: str,
    ok: bool,
    said: str,
    text: str,
    *,
    counts: Mapping[str, int],
    findings: list[dict[str, Any]],
    more: int,
    runs: list[dict[str, Any]],
    others: list[str],
    ended: Completed | None,
    missing: str,
    box: Box,
) -> Result:
    code = "not_installed" if missing else next((str(run["ended_by"]) for run in runs if run["ended_by"]), "")
    if not runs:
        raise ToolFailed("It was stopped before anything ran.")
    return Result(
        ok=ok,
        summary=said,
        data={
            "checks": {"kind": kind, "counts": dict(counts), "findings": findings, "more": more, "runs": runs},
            **({"others": others} if others else {}),
            **({"error_code": code} if code and not ok else {}),
        },
        text=text,
        exit_code=ended.exit_code if ended is not None else None,
        truncated_bytes=ended.truncated_bytes if ended is not None else 0,
        sandbox=dict(box.record_sandbox()),
    )


def _counts(counts: Mapping[str, int]) -> str:
    """`2 passed, 1 failed`; what is none is left out, unless all is."""
    some = [
        f"{number} {name if number != 1 or not name.endswith('s') else name[:-1]}"
        for name, number in counts.items()
        if number
    ]
    return ", ".join(some) or "nothing ran" if "passed" in counts else ", ".join(some) or "nothing found"
