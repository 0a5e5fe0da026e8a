"""Secrets that agents use by handles."""

from collections.abc import Iterator

from config.doctor.finding import Finding, fail, ok, warn
from tools.models import SecretHandle
from tools.secrets.checking import folder_problem, problems, unnamed


def handles() -> Iterator[Finding]:
    """Are the values there, as this user sees them, and closed to others? Nothing of them is told."""
    every = list(SecretHandle.objects.all())
    used = [handle for handle in every if handle.enabled]
    wrong = [f"{handle.name}: {'; '.join(found)}" for handle in used if (found := problems(handle))]
    folder = folder_problem()
    if folder:
        yield fail("secret handles", folder, "chmod 700 that folder: only the workers' user reads it.")
    if wrong:
        yield warn(
            "secret handles",
            ". ".join(wrong),
            "Put the value in its place (mode 0600, the workers' user), or manage.py secret disable NAME. Of variables, "
            "the workers' environment counts, not this one's.",
        )
    if not wrong and not folder:
        yield ok("secret handles", f"{len(used)} in use, their values are there" if used else "none are in use")
    if lying := unnamed(every):
        yield warn(
            "secret handles",
            f"no handle names {', '.join(lying)} beneath SECRETS_DIR",
            "manage.py secret add, or remove what nobody uses.",
        )
