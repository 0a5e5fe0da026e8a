"""artifacts.keep: files of the workspace that people keep when the job is over."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from tools.artifacts.keeping import Wanted, keep, shown
from tools.errors import InvalidArguments, ToolRefused
from tools.registry import register
from tools.spec import Box, Effect, Limits, Result, Risk, RiskScore, Tool

FILES_MAX = 20
_TYPE = r"^[a-z]+/[a-z0-9][a-z0-9.+-]{0,80}$"
_NAME_HIDES = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff/\\]")


class Keep(Tool):
    """Kept under the same names again, the files take the place of those before: it may run twice."""

    name: ClassVar[str] = "artifacts.keep"
    summary: ClassVar[str] = "Keeps files of the workspace for people to download, beyond the job's end."
    effect: ClassVar[Effect] = Effect.REPEATABLE
    queue: ClassVar[str] = "files"
    limits: ClassVar[Limits] = Limits(timeout_s=300.0)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "files": {
                "type": "array",
                "minItems": 1,
                "maxItems": FILES_MAX,
                "items": {
                    "type": "object",
                    "properties": {
                        "path": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 1024,
                            "description": "A file, relative to the work tree. A folder is packed first (tar).",
                        },
                        "name": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 200,
                            "description": "As people will see it; the file's own name where none is given.",
                        },
                        "content_type": {
                            "type": "string",
                            "pattern": _TYPE,
                            "maxLength": 100,
                            "description": "Such as text/csv; by what it holds where none is given.",
                        },
                    },
                    "required": ["path"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["files"],
        "additionalProperties": False,
    }
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"files": [{"path": "report/coverage.xml"}]},
        {"files": [{"path": "dist/app.tar.gz", "name": "app-1.2.tar.gz", "content_type": "application/gzip"}]},
    )

    def check(self, arguments: Mapping[str, Any]) -> None:
        names = set()
        for number, wanted in enumerate(_wanted(arguments)):
            field = f"arguments.files[{number}]"
            parts = wanted.path.split("/")
            if "\0" in wanted.path or wanted.path.startswith("/") or ".." in parts or not wanted.name:
                raise ToolRefused("A path is relative to the work tree and stays inside it.", path=wanted.path)
            if any(part.lower() == ".git" for part in parts):
                raise ToolRefused("Git's own files are not kept.", path=wanted.path)
            if _NAME_HIDES.search(wanted.name) or wanted.name in {".", ".."}:
                raise InvalidArguments("A name has no slash and no hidden character.", field=f"{field}.name")
            try:
                (wanted.path + wanted.name).encode()
            except UnicodeEncodeError:
                raise InvalidArguments("This is not text that UTF-8 can hold.", field=field) from None
            if wanted.name in names:
                raise InvalidArguments(f"Two files cannot both be {wanted.name}.", field=f"{field}.name")
            names.add(wanted.name)

    def risk(self, arguments: Mapping[str, Any]) -> RiskScore:
        return RiskScore(level=Risk.LOW, reasons=("whoever sees the job can download what it keeps",))

    def describe(self, arguments: Mapping[str, Any]) -> str:
        files = [
            one.path if one.name == PurePosixPath(one.path).name else f"{one.path} as {one.name}"
            for one in _wanted(arguments)
        ]
        return f"keep {', '.join(files)}"

    def run(self, arguments: Mapping[str, Any], box: Box) -> Result:
        made = keep(box.workspace, _wanted(arguments), subject=box.call_id)
        lines = [f"{one.name}: {one.size_bytes} bytes, sha256 {one.sha256}" for one in made]
        taken_out = sum(one.redacted for one in made)
        if taken_out:
            lines.append(f"{taken_out} secrets were taken out of them.")
        names = ", ".join(one.name for one in made)
        return Result(
            ok=True,
            summary=f"Kept {names}.",
            data={"artifacts": [shown(one) for one in made]},
            text="\n".join(lines),
        )


def _wanted(arguments: Mapping[str, Any]) -> list[Wanted]:
    return [
        Wanted(
            path=one["path"],
            name=one.get("name") or PurePosixPath(one["path"]).name,
            content_type=one.get("content_type", ""),
        )
        for one in arguments["files"]
    ]


KEEP = register(Keep())
