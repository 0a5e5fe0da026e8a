"""Agents and repositories: what a job may use."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from agents.models.endpoint import ModelRoute
from audit.ids import uuid7


class Agent(models.Model):
    """A profile: how a model is told to work, with which tools and limits. `tools` are patterns such as `git.*`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    instructions = models.TextField(help_text="The system prompt: role, house rules, what done means.")
    tools = ArrayField(models.CharField(max_length=120), help_text="Tool patterns offered to the model: files.*, git.*")
    model = models.CharField(max_length=120, blank=True, help_text="Empty: the server's LLM_MODEL.")
    route = models.ForeignKey(
        ModelRoute,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="agents",
        help_text="Which endpoints it asks. Empty: the default route, or the server's settings.",
    )
    max_steps = models.PositiveIntegerField(default=60)
    max_tokens = models.PositiveIntegerField(default=400_000, help_text="Prompt and completion tokens of a job.")
    max_cost = models.DecimalField(
        max_digits=14, decimal_places=6, null=True, blank=True, help_text="US dollars a job. Empty: no bound."
    )
    enabled = models.BooleanField(default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Who answers for it: this user does not approve what it asks for.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Repository(models.Model):
    """A git repository that jobs may work on."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    url = models.CharField(max_length=500, help_text="https://… ; a local path only where the settings allow it.")
    default_branch = models.CharField(max_length=200, default="main")
    environment = models.CharField(
        max_length=40,
        blank=True,
        default="",
        db_default="",
        help_text="What it runs as, such as production: policies and freeze windows may ask for it.",
    )
    hosting = models.CharField(
        max_length=10,
        blank=True,
        default="",
        db_default="",
        choices=[("github", "GitHub"), ("gitlab", "GitLab"), ("gitea", "Gitea or Forgejo")],
        help_text="For pull requests. Empty: told by the host's name, or by asking it.",
    )
    credential = models.CharField(
        max_length=63,
        blank=True,
        default="",
        db_default="",
        help_text="The secret handle with which the server goes there. Empty: the one that fits its host, if there is one.",
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return self.name


class RepositoryLogin(models.Model):
    """The secret handle with which the server goes to a repository in one user's jobs, instead of the repository's own."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="logins")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    credential = models.CharField(max_length=63, help_text="The name of a secret handle.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["repository", "user"], name="repository_login_once")]

    def __str__(self) -> str:
        return f"{self.user_id} at {self.repository_id}"
