"""All looks, one after the other; one that breaks is a finding itself."""

from collections.abc import Callable, Iterator

from config.doctor import database, installation, machine, models, plugins, room, secrets, services
from config.doctor.finding import Finding, fail

Look = Callable[[], Iterator[Finding]]

MACHINE: dict[str, Look] = {
    "python": machine.python,
    "git": machine.git,
    "sandbox": machine.sandbox,
    "secrets": machine.secret_files,
    "folders": machine.folders,
    "room": room.room,
}
DATABASE: dict[str, Look] = {
    "postgresql": database.server,
    "role": database.role,
    "migrations": database.migrations,
    "audit grants": database.audit_grants,
}
# These read tables, so they wait until the database is there and migrated.
INSTALLATION: dict[str, Look] = {
    "audit log": installation.audit_log,
    "policies": installation.policies,
    "agents": installation.agents,
    "model endpoints": models.endpoints,
    "secret handles": secrets.handles,
    "plugins": plugins.tools,
    "workers": installation.workers,
    "sweeper": installation.sweeper,
}
SERVICES: dict[str, Look] = {
    "redis": services.redis_server,
    "model": services.model,
    "mail": services.mail,
    "slack": services.slack,
    "flower": services.flower,
}


def examine() -> Iterator[Finding]:
    """Findings as they come. Nothing is changed, sent or submitted."""
    for name, look in MACHINE.items():
        yield from _try(name, look)
    usable = True
    for name, look in DATABASE.items():
        for finding in _try(name, look):
            usable = usable and (finding.level != "fail" or name in {"role", "audit grants"})
            yield finding
        if not usable:
            break
    for name, look in INSTALLATION.items() if usable else ():
        yield from _try(name, look)
    for name, look in SERVICES.items():
        yield from _try(name, look)


def _try(name: str, look: Look) -> Iterator[Finding]:
    try:
        yield from look()
    except Exception as error:  # a look that breaks must not hide the others
        said = (str(error).strip().splitlines() or [""])[0][:300]
        yield fail(name, f"the check itself failed: {type(error).__name__}: {said}", "Report this with its output.")
