"""Asks the installed plugins for their tools, inside the sandbox: nothing of theirs is imported by the server for that."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import tools
from audit.actor import Actor
from audit.ids import uuid7
from tools import admission, workspaces
from tools.admission import Found
from tools.box import SandboxBox
from tools.definitions import flaw
from tools.errors import SandboxUnavailable, ToolError
from tools.models import ToolDefinition
from tools.plugins import KIND, packages
from tools.plugins.packages import Package, Unreadable
from tools.sandbox.identity import reachable
from tools.spec import Limits, Workspace

_LIMITS = Limits(timeout_s=30.0, memory_bytes=1024**3, output_head_bytes=2 * 1024**2, output_tail_bytes=0)
_HERE = Path(tools.__file__).resolve().parent.parent


def sync(*, now: datetime, actor: Actor) -> tuple[list[ToolDefinition], list[str]]:
    """Notes what the installed plugins bring. Gives the rows that changed, and what could not be read, in words.

    Raises:
        SandboxUnavailable: plugins are installed, and no tier works here.
    """
    found: dict[str, Found] = {}
    problems: list[str] = []
    for package in packages.installed():
        tools_found, said = inspect(package)
        problems += said
        for one in tools_found:
            if one.name in found:
                problems.append(f"{one.origin}: {one.name} is a tool of {found[one.name].origin} already.")
            else:
                found[one.name] = one
    # of a plugin that cannot be read, what it brought before has a problem: it may not be used as it was
    for row in ToolDefinition.objects.filter(origin__startswith=f"{KIND}:"):
        mine = [one for one in problems if one.startswith(f"{row.origin}: ")]
        if mine and row.name not in found:
            found[row.name] = Found(
                name=row.name, origin=row.origin, definition=row.definition, problem=mine[0].partition(": ")[2]
            )
    return admission.note(found.values(), kind=KIND, now=now, actor=actor), problems


def inspect(package: Package) -> tuple[list[Found], list[str]]:
    """The plugin's tools, and what is wrong with it as a whole, each in words with its origin before.

    Raises:
        SandboxUnavailable: no tier works here.
    """
    origin = f"{KIND}:{package.name}"
    try:
        facts = package.facts()
        answers = list(_asked(package))
    except (Unreadable, OSError) as error:
        return [], [f"{origin}: {error}"]
    except SandboxUnavailable:
        raise
    except ToolError as error:
        return [], [f"{origin}: {error.message}"]
    found, problems = [], []
    for answer in answers:
        if "tools" not in answer:
            problems.append(f"{origin}: {answer.get('entry')}: {answer.get('problem', 'It gave no answer.')}")
            continue
        for given in answer["tools"]:
            definition = {**given, "package": facts}
            name = str(given.get("name", ""))
            if not name or len(name) > 100:
                problems.append(f"{origin}: {answer['entry']}: a tool has no usable name.")
                continue
            found.append(Found(name=name, origin=origin, definition=definition, problem=flaw(name, origin, definition)))
    return found, problems


def _asked(package: Package) -> Iterator[dict[str, Any]]:
    place = workspaces.workspace_for(str(uuid7()))
    try:
        box = SandboxBox(place, limits=_LIMITS, call_id="")
        lib = _filled(place, package)
        script = lib / "tools" / "plugins" / "describe.py"
        python, extra = _interpreter()
        done = box.run(
            [python, "-I", "-S", "-B", str(script), str(lib), *package.entries],
            cwd=place.scratch,
            profile="read",
            stream=False,
            extra_read=extra,
        )
    finally:
        workspaces.remove(place.id)
    answered = set()
    for line in done.stdout.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and answer.get("entry") in package.entries and answer["entry"] not in answered:
            answered.add(answer["entry"])
            if isinstance(answer.get("tools", []), list) and all(isinstance(t, dict) for t in answer.get("tools", [])):
                yield answer
    for entry in package.entries:
        if entry not in answered:
            why = done.ended_by or f"exit code {done.exit_code}"
            yield {"entry": entry, "problem": f"It gave no answer ({why}). {done.stderr[-300:]}".strip()}


def _filled(place: Workspace, package: Package) -> Path:
    """A folder with the plugin, what it needs, and what it may import of the server, to be read by the sandbox's user."""
    lib = place.scratch / "lib"
    copies = {
        name: path for dist in packages.required(package.dist) for name, path in packages.recorded_files(dist).items()
    }
    copies |= package.files()
    for app in ("tools", "audit"):
        copies |= {path.relative_to(_HERE).as_posix(): path for path in (_HERE / app).rglob("*.py")}
    for name, path in copies.items():
        target = lib / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for folder, _, files in os.walk(lib):
        os.chmod(folder, 0o755)
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
    return lib


def _interpreter() -> tuple[str, list[Path]]:
    """The server's own, where the sandbox's user can get there; else the system's."""
    prefix, python = Path(os.path.realpath(sys.base_prefix)), os.path.realpath(sys.executable)
    if reachable(prefix) and reachable(Path(python)):
        return python, [prefix]
    return "python3", []
