"""Agents and repositories: what a job may use."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Value

from agents.models.endpoint import ModelRoute
from audit.ids import uuid7


class Agent(models.Model):
    """A profile: how a model is told to work, with which tools and limits. `tools` are patterns such as `git.*`.

    What it says at a moment is kept as an `AgentVersion` as soon as a job runs by it (`agents.profiles`).
    """

    class Planning(models.TextChoices):
        LOOP = "loop", "Decide on each step in turn"
        PLAN = "plan", "Make a plan, and run it"
        REVIEW = "review", "Make a plan, and wait for a person to look at it"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    role = models.CharField(
        max_length=120, blank=True, default="", db_default="", help_text="In a few words: reviewer."
    )
    capabilities = ArrayField(
        models.SlugField(max_length=60),
        blank=True,
        default=list,
        db_default=Value([], ArrayField(models.SlugField(max_length=60))),
        help_text="What it is good for, as jobs and teams ask for it: code, review, docs.",
    )
    labels = models.JSONField(
        blank=True,
        default=dict,
        db_default=Value({}, models.JSONField()),
        help_text="Labels of all its jobs, for policies; they win over what a submission says.",
    )
    planning = models.CharField(
        max_length=6,
        choices=Planning.choices,
        default=Planning.LOOP,
        db_default=Planning.LOOP,
        help_text="Of its goals.",
    )
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

    def clean(self) -> None:
        """Labels are texts by name: whatever else JSON holds would stop the jobs that bear them."""
        labels = self.labels
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise ValidationError({"labels": 'An object of texts, such as {"team": "web"}.'})


class AgentVersion(models.Model):
    """What a profile said at a time; the jobs that ran by it stay with it. Never changes."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField(help_text="role, instructions, tools, model, route, limits, labels, capabilities")
    sha256 = models.CharField(max_length=64, help_text="of the definition's canonical JSON")
    note = models.CharField(max_length=500, blank=True, help_text="what is new, in words")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["agent", "-number"]
        constraints = [models.UniqueConstraint(fields=["agent", "number"], name="agent_version_number")]

    def __str__(self) -> str:
        return f"{self.agent.name}@{self.number}"


class Team(models.Model):
    """Agents that work together: the lead gets the goal, and hands parts of it to members, to nobody else."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    lead = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="leads")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TeamMember(models.Model):
    """An agent's part in a team, in words that the lead reads."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="members")
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="memberships")
    part = models.CharField(max_length=300, blank=True, help_text="What to hand to it.")

    class Meta:
        ordering = ["team", "pk"]
        constraints = [models.UniqueConstraint(fields=["team", "agent"], name="team_member_once")]

    def __str__(self) -> str:
        return f"{self.agent_id} in {self.team_id}"


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
