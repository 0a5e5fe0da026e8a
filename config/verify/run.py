"""All lines, one after the other; what breaks is a line that fails."""

from collections.abc import Callable, Iterator
from functools import partial

from config.doctor import database, installation, machine, services
from config.doctor.finding import Finding
from config.verify import governance, reaching
from config.verify import installation as settled
from config.verify.line import Line, Result, failed, judged

Look = Callable[[], Iterator[Line]]


def _doctor(look: Callable[[], Iterator[Finding]], warnings: Result = Result.FAIL) -> Look:
    return lambda: judged(look(), warnings=warnings)


SETTINGS: dict[str, Look] = {
    "debug": settled.debug,
    "secret key": settled.secret_key,
    "hosts": settled.hosts,
    "https": settled.https,
    "second factor": settled.second_factor,
    "development switches": settled.switches,
    "system checks": settled.system_checks,
    "signing key": settled.signing_key,
    "secrets": _doctor(machine.secret_files),
    "git": _doctor(machine.git),
    "sandbox": _doctor(machine.sandbox, Result.NA),
    "folders": _doctor(machine.folders),
    "disk": settled.disk,
}
DATABASE: dict[str, Look] = {
    "postgresql": _doctor(database.server),
    "migrations": _doctor(database.migrations),
}
# These read the database: where it is away or not migrated, each of them fails.
WITH_DATABASE: dict[str, Look] = {
    "role": _doctor(database.role),
    "audit grants": _doctor(database.audit_grants),
    "clock": governance.clocks,
    "audit log": _doctor(installation.audit_log),
    "policies": _doctor(installation.policies),
    "tools": governance.tools_covered,
    "quorum": governance.quorums,
    "workers": _doctor(installation.workers),
    "sweeper": _doctor(installation.sweeper),
    "messages": governance.messages,
    "reviews": governance.reviews,
}


def run(*, send_to: str = "", send: bool = False) -> Iterator[Line]:
    """Lines as they come. Nothing is changed; messages are sent only where `send` (Slack) or `send_to` (mail) say so."""
    around: dict[str, Look] = {
        "redis": _doctor(services.redis_server),
        "channels": reaching.listed,
        "mail": partial(reaching.mail, send_to),
        "slack": partial(reaching.slack, send),
        "approval webhook": reaching.webhook,
        "web server": settled.web_server,
    }
    for name, look in SETTINGS.items():
        yield from _tried(name, look)
    usable = True
    for name, look in DATABASE.items():
        for line in _tried(name, look) if usable else _unseen(name):
            usable = usable and line.result is not Result.FAIL
            yield line
    for name, look in WITH_DATABASE.items():
        yield from _tried(name, look) if usable else _unseen(name)
    for name, look in around.items():
        yield from _tried(name, look)


def _unseen(name: str) -> Iterator[Line]:
    yield failed(name, "cannot be told without the database", "Mend the database first.")


def _tried(name: str, look: Look) -> Iterator[Line]:
    try:
        yield from look()
    except Exception as error:  # whatever breaks in one line must not hide the others
        said = (str(error).strip().splitlines() or [""])[0][:300]
        yield failed(
            name, f"could not be looked at: {type(error).__name__}: {said}", "Mend what it says, or report it."
        )
