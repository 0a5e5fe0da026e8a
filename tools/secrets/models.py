"""Secret handles: names under which agents may use secrets whose values they never see."""

import re

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from tools.secrets.patterns import EVERYBODY, host_problem

ENV_PREFIX = "AGENT_SECRET_"
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){0,3}")
_WORKER_VARIABLE = re.compile(ENV_PREFIX + r"[A-Z0-9_]{1,80}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def _patterns(help_text: str, *, size: int, blank: bool = False) -> ArrayField:
    return ArrayField(models.CharField(max_length=253), size=size, default=list, blank=blank, help_text=help_text)


class SecretHandle(models.Model):
    """A secret by name. The value lies in a file beneath SECRETS_DIR or in the worker's environment, never here.

    Whoever uses it must fit every list: a tool of `tools`, for an agent of `agents`, in a job whose owner is in one of
    `groups`; it goes to a host of `hosts`, or to a command in a variable of `env_names`. An empty list fits nothing.
    """

    class Source(models.TextChoices):
        FILE = "file", "a file beneath SECRETS_DIR"
        ENV = "env", "a variable of the worker's environment"

    name = models.CharField(max_length=63, unique=True, help_text="how calls name it: deploy-token")
    description = models.CharField(max_length=300, blank=True, help_text="what it opens, and who rotates it")
    source = models.CharField(max_length=4, choices=Source.choices, default=Source.FILE)
    place = models.CharField(
        max_length=300, help_text=f"the file's path beneath SECRETS_DIR, or a variable such as {ENV_PREFIX}DEPLOY"
    )
    tools = _patterns("Which tools may use it; * matches any part: shell.exec, git.*", size=50)
    agents = _patterns("Agents that may use it; * is every job, also those without an agent", size=100)
    groups = _patterns("Groups whose members' jobs may use it; * is everybody", size=100)
    hosts = _patterns(
        "Where it may be sent: api.example.org, *.example.org, host:port. Empty: nowhere", size=50, blank=True
    )
    env_names = _patterns(
        "Variables in which commands may be given it: NPM_TOKEN. Empty: to no command", size=20, blank=True
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="when its value last changed")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    value_tag = models.CharField(
        max_length=64, blank=True, editable=False, help_text="keyed hash of the value, to see that it changed"
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(source__in=["file", "env"]), name="secret_source"),
            models.CheckConstraint(condition=Q(name__regex=r"^[a-z0-9][a-z0-9._-]{0,62}$"), name="secret_name"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raises ValidationError where a field says what could never work, or could reach what is not a handle's."""
        wrong: dict[str, str] = {}
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", self.name or ""):
            wrong["name"] = "Lower-case letters, digits, dots, dashes: deploy-token."
        if self.source == self.Source.FILE and not _FILE.fullmatch(self.place or ""):
            wrong["place"] = "A path beneath SECRETS_DIR, such as deploy-token or ci/deploy-token."
        if self.source == self.Source.ENV and not _WORKER_VARIABLE.fullmatch(self.place or ""):
            wrong["place"] = f"A variable whose name begins with {ENV_PREFIX}: the server's own are out of reach."
        for name in ("tools", "agents", "groups"):
            if not getattr(self, name):
                wrong[name] = f"Say which; {EVERYBODY} is every one."
        bad = next((problem for host in self.hosts or [] if (problem := host_problem(host))), "")
        if bad:
            wrong["hosts"] = bad
        odd = next((name for name in self.env_names or [] if not _VARIABLE.fullmatch(name)), "")
        if odd:
            wrong["env_names"] = f"{odd!r} is no name of a variable."
        if not self.hosts and not self.env_names:
            wrong.setdefault("hosts", "Say to which hosts it may go, or in which variables commands may have it.")
        if wrong:
            raise ValidationError(wrong)
