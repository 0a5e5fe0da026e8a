"""The back office's frame: its sidebar, what its first page shows, its icon. The setting `UNFOLD` names these functions."""

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone

from agents.models import Step
from agents.selectors import visible_jobs
from agents.states import JOB_DONE, JobState, StepState
from agents.web.overview import audit_state, worker_lines
from approvals.defaults import uncovered
from approvals.models import ApprovalRequest, PolicyVersion

# (group, [(model, icon, what one finds there)])
GROUPS: list[tuple[str, list[tuple[str, str, str]]]] = [
    (
        "Work",
        [
            ("agents.Job", "work", "What was submitted, and what became of it"),
            ("agents.Step", "linear_scale", "Every call: its arguments, decision and result"),
            ("agents.Workflow", "account_tree", "Who may change which"),
            ("agents.WorkflowVersion", "history", "What was published, and when"),
            ("agents.Agent", "smart_toy", "Instructions, tools and limits"),
            ("agents.ModelEndpoint", "hub", "Where models are asked, what they can do and cost"),
            ("agents.ModelRoute", "alt_route", "Which endpoint is asked first, and which next"),
            ("agents.Repository", "source", "Remotes that jobs may work on"),
            ("agents.LlmCall", "forum", "What models were asked, how long it took"),
            ("agents.WorkerProcess", "memory", "Who serves which queue"),
            ("agents.Tenant", "balance", "Whose share of the workers it is, and its bounds"),
            ("agents.RateLimit", "speed", "How often tools and models are called"),
            ("tools.ToolDefinition", "extension", "What plugins and MCP servers bring, and whether it may be used"),
            ("tools.McpServer", "hub", "Servers by others that lend their tools"),
        ],
    ),
    (
        "Triggers",
        [
            ("agents.Schedule", "schedule", "Jobs at times"),
            ("agents.Webhook", "webhook", "Jobs and events by what others post"),
            ("agents.EventRule", "merge", "Jobs when several things have happened"),
            ("agents.TriggerRun", "play_circle", "What schedules and rules started, or left out"),
            ("agents.TriggerEvent", "bolt", "What happened"),
            ("agents.WebhookDelivery", "call_received", "What was posted to webhooks, and what became of it"),
            ("agents.WebhookEndpoint", "call_made", "Where we post to"),
            ("agents.WebhookMessage", "outbox", "What was posted, with every try"),
        ],
    ),
    (
        "Policies & approvals",
        [
            ("approvals.Policy", "policy", "Start a draft here"),
            ("approvals.PolicyVersion", "history", "Edit a draft, publish it, retire it"),
            ("approvals.FreezeWindow", "ac_unit", "Times in which little or nothing is allowed"),
            ("approvals.ApprovalRequest", "approval", "What people are, and were, asked"),
            ("approvals.Vote", "how_to_vote", "Who decided what, and why"),
            ("approvals.Grant", "key_vertical", "Leave for like calls, for a while"),
            ("approvals.Delegation", "swap_horiz", "Who decides in whose place"),
            ("approvals.BreakGlass", "emergency_home", "Approvals in an emergency, and their reviews"),
            ("approvals.Notification", "outgoing_mail", "Messages to approvers, sent or not"),
        ],
    ),
    (
        "People & access",
        [
            ("auth.User", "person", "Accounts and their groups"),
            ("auth.Group", "group", "Who approves is a group"),
            ("agents.ApiToken", "key", "Access for programs, with scopes and an end"),
            ("tools.SecretHandle", "lock", "Which agents may use which secrets, for what"),
        ],
    ),
    (
        "Audit log",
        [
            ("audit.Record", "fact_check", "Every event, signed and in order"),
            ("audit.Checkpoint", "verified", "Signed states of the whole log"),
        ],
    ),
    (
        "Schedules",
        [
            ("django_celery_beat.PeriodicTask", "event_repeat", "Tasks that run again and again"),
            ("django_celery_beat.IntervalSchedule", "timer", "Every so often"),
            ("django_celery_beat.CrontabSchedule", "calendar_clock", "At these times"),
            ("django_celery_beat.SolarSchedule", "wb_twilight", "At sunrise and the like"),
            ("django_celery_beat.ClockedSchedule", "alarm", "Once, at a time"),
        ],
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A fact on the first page. tone: "" or `attention`."""

    title: str
    figure: str
    text: str
    href: str
    tone: str = ""


def icon(request: HttpRequest) -> str:
    return static("countersign/logo.svg")


def styles(request: HttpRequest) -> str:
    return static("countersign/admin.css")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: what this user may see, in groups, and the way back to the site."""
    site = {"title": "Back to the site", "icon": "arrow_back", "link": "/", "active": False}
    start = {"title": "Overview", "icon": "home", "link": reverse("admin:index")}
    groups = [{"title": title, "items": _items(request, models)} for title, models in GROUPS]
    return [{"items": [site, start]}, *(group for group in groups if group["items"])]


def _items(request: HttpRequest, models: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    items = []
    for label, symbol, about in models:
        model = apps.get_model(label)
        site = admin.site._registry.get(model)
        if site is None or not site.has_view_or_change_permission(request):
            continue
        name = str(model._meta.verbose_name_plural)
        items.append(
            {
                "title": name[0].upper() + name[1:],
                "icon": symbol,
                "link": reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"),
                "about": about,
            }
        )
    return items


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The first page's context: `cards` of what a person in charge looks at first, and `groups` of links."""
    cards = [
        *_work_cards(request),
        *_approval_cards(request),
        *_log_cards(request),
    ]
    return {
        **context,
        "title": "Overview",
        "cards": cards,
        "groups": [group for group in navigation(request) if "title" in group],
    }


def _work_cards(request: HttpRequest) -> list[Card]:
    if not request.user.has_perm("agents.view_job"):
        return []
    jobs = visible_jobs(request.user).order_by()
    open_jobs = jobs.exclude(state__in=JOB_DONE)
    waiting = open_jobs.filter(state=JobState.WAITING).count()
    doubt = Step.objects.filter(state=StepState.IN_DOUBT, job__in=jobs.values("pk")).count()
    workers = worker_lines(timezone.now())
    healthy = sum(one.state == "healthy" for one in workers)
    return [
        Card(title="Jobs under way", figure=str(open_jobs.count()), text=f"{waiting} wait for people", href="/jobs/"),
        Card(
            title="Steps in doubt",
            figure=str(doubt),
            text="a person must say whether they happened" if doubt else "nothing was lost in mid-act",
            href=reverse("web:doubts"),
            tone="attention" if doubt else "",
        ),
        Card(
            title="Workers",
            figure=f"{healthy} of {len(workers)}",
            text="healthy",
            href=reverse("admin:agents_workerprocess_changelist"),
            tone="" if workers and healthy == len(workers) else "attention",
        ),
    ]


def _approval_cards(request: HttpRequest) -> list[Card]:
    cards = []
    if request.user.has_perm("approvals.view_approvalrequest"):
        pending = ApprovalRequest.objects.filter(state=ApprovalRequest.State.PENDING, expires_at__gt=timezone.now())
        link = reverse("admin:approvals_approvalrequest_changelist")
        cards.append(
            Card(
                title="Requests to people",
                figure=str(pending.count()),
                text="wait for an answer",
                href=f"{link}?state__exact={ApprovalRequest.State.PENDING}",
            )
        )
    if request.user.has_perm("approvals.view_policyversion"):
        versions = PolicyVersion.objects.select_related("policy")
        published = [str(one) for one in versions.filter(status=PolicyVersion.Status.PUBLISHED)]
        drafts = versions.filter(status=PolicyVersion.Status.DRAFT).count()
        denied = uncovered()
        cards.append(
            Card(
                title="Policies in force",
                figure=", ".join(published[:3]) + (f" +{len(published) - 3}" if len(published) > 3 else "") or "none",
                text=_policies_text(published, drafts, denied),
                href=reverse("admin:approvals_policyversion_changelist"),
                tone="" if published and not denied else "attention",
            )
        )
    return cards


def _policies_text(published: list[str], drafts: int, denied: list[str]) -> str:
    if not published:
        return "every call is denied"
    if denied:
        return (
            f"no rule names {', '.join(denied[:3])}{' …' if len(denied) > 3 else ''}: denied (manage.py policy cover)"
        )
    return f"{drafts} draft{'' if drafts == 1 else 's'}"


def _log_cards(request: HttpRequest) -> list[Card]:
    if not request.user.has_perm("audit.view_record"):
        return []
    log = audit_state()
    return [
        Card(
            title="Audit log",
            figure="healthy" if log.get("healthy") else "needs a look",
            text=str(log.get("message") or ""),
            href=reverse("admin:audit_record_changelist"),
            tone="" if log.get("healthy") else "attention",
        )
    ]
