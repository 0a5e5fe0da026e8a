"""Tools by others."""

from collections.abc import Iterator

from config.doctor.finding import Finding, ok, warn
from tools.admission import state_of
from tools.models import ToolDefinition
from tools.plugins import KIND, packages
from tools.plugins.packages import Unreadable

LOOK = "manage.py plugin sync, then manage.py plugin show NAME, and enable what you accept."


def tools() -> Iterator[Finding]:
    """Is what is installed here what an administrator has seen and accepted? Nothing of it is imported."""
    rows = list(ToolDefinition.objects.filter(origin__startswith=f"{KIND}:"))
    wrong = [said for package in packages.installed() if (said := _wrong(package, rows))]
    gone = {row.origin for row in rows if row.enabled} - {f"{KIND}:{package.name}" for package in packages.installed()}
    wrong += [f"{origin} is in use and not installed here" for origin in sorted(gone)]
    waiting = sorted(row.name for row in rows if state_of(row) == "changed")
    if waiting:
        wrong.append(f"{', '.join(waiting)} changed, and nobody has accepted it")
    if wrong:
        yield warn("plugins", ". ".join(wrong), LOOK)
    else:
        used = sum(row.enabled for row in rows)
        yield ok("plugins", f"{used} of {len(rows)} tools in use, as accepted" if rows else "none are installed")


def _wrong(package: packages.Package, rows: list[ToolDefinition]) -> str:
    mine = [row for row in rows if row.origin == f"{KIND}:{package.name}"]
    if not mine:
        return f"{package.name} is installed, and nobody has looked at it"
    try:
        code = package.code_sha256()
    except Unreadable as error:
        return f"{package.name}: {error}"
    other = [row.name for row in mine if (row.definition.get("package") or {}).get("code_sha256") != code]
    return f"{package.name} has other code here than {', '.join(other)} had when it was looked at" if other else ""
