"""Jobs, steps, model calls, workers: looked at here, moved by the engine."""

from collections.abc import Callable
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.admin import TabularInline
from unfold.decorators import action

from agents.admin.base import ReadOnly, rows_of
from agents.engine.cancel import cancel_job
from agents.engine.control.pause import pause_job, resume_job
from agents.engine.control.retry import retry_job
from agents.errors import AgentsError
from agents.models import Attempt, Job, LlmCall, Step, WorkerProcess
from agents.states import JOB_DONE
from agents.workers import held_by, living, state_of, tell
from audit.actor import Actor


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class StepInline(ReadOnlyInline):
    model = Step
    fields = ["seq", "key", "tool", "queue", "effect", "risk", "state", "attempt", "started_at", "finished_at"]


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields = ["number", "queue", "worker", "claimed_at", "ended_at", "outcome", "error_code"]


@admin.register(Job)
class JobAdmin(ReadOnly):
    list_display = ["goal_line", "state", "kind", "agent", "repository", "owner", "priority", "created_at"]
    list_filter = ["state", "kind", "agent", "repository"]
    search_fields = ["id", "goal", "owner__username"]
    list_select_related = ["agent", "repository", "owner"]
    date_hierarchy = "created_at"
    inlines = [StepInline]
    actions = ["pause_jobs", "resume_jobs", "retry_jobs", "cancel_jobs"]
    readonly_fields = ["page"]

    @admin.display(description="goal", ordering="goal")
    def goal_line(self, job: Job) -> str:
        return str(job)

    @admin.display(description="page")
    def page(self, job: Job) -> str:
        return format_html('<a href="{}">The job\'s page</a>', job.get_absolute_url())

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("agents.change_job"))

    @action(description="Cancel", permissions=["cancel"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        cancelled = sum(self._cancel(request, job.pk) for job in rows_of(queryset))
        self.message_user(request, f"Cancelling {cancelled} job{'s' if cancelled != 1 else ''}.", messages.SUCCESS)

    @action(description="Pause", permissions=["cancel"])
    def pause_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, pause_job, "Paused")

    @action(description="Resume", permissions=["cancel"])
    def resume_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, resume_job, "Resumed")

    @action(description="Retry", permissions=["cancel"])
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, retry_job, "Retried")

    def _each(self, request: HttpRequest, queryset: QuerySet[Job], act: Callable[..., Job], done: str) -> None:
        """Each by itself; those that cannot are named with the reason."""
        count = 0
        for job in rows_of(queryset):
            try:
                act(job.pk, by=Actor.user(request.user.pk), now=timezone.now())
                count += 1
            except AgentsError as error:
                self.message_user(request, f"{job}: {error.message}", messages.WARNING)
        if count:
            self.message_user(request, f"{done} {count} job{'s' if count != 1 else ''}.", messages.SUCCESS)

    def _cancel(self, request: HttpRequest, job_id: UUID) -> bool:
        """False: it had ended already."""
        job = Job.objects.filter(pk=job_id).exclude(state__in=JOB_DONE).first()
        if job is None:
            return False
        cancel_job(job.pk, by=Actor.user(request.user.pk), now=timezone.now())
        return True


@admin.register(Step)
class StepAdmin(ReadOnly):
    list_display = ["key", "tool", "queue", "effect", "risk", "state", "attempt", "job", "created_at"]
    list_filter = ["state", "tool", "queue", "effect"]
    search_fields = ["id", "key", "tool", "job__id"]
    list_select_related = ["job"]
    inlines = [AttemptInline]


@admin.register(LlmCall)
class LlmCallAdmin(ReadOnly):
    list_display = [
        "at",
        "model",
        "scripted",
        "step",
        "attempt",
        "prompt_tokens",
        "completion_tokens",
        "latency_ms",
        "finish_reason",
        "error_code",
    ]
    list_filter = ["model", "scripted", "error_code"]
    search_fields = ["step__job__id", "model"]
    list_select_related = ["step"]


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnly):
    list_display = ["name", "state", "queues", "doing", "memory", "host", "pid", "version", "seen_at"]
    list_filter = ["group", "draining"]
    search_fields = ["name", "host"]
    actions = ["drain"]
    readonly_fields = ["state", "steps"]

    @admin.display(description="state")
    def state(self, worker: WorkerProcess) -> str:
        return state_of(worker, timezone.now())

    @admin.display(description="busy", ordering="busy")
    def doing(self, worker: WorkerProcess) -> str:
        return f"{worker.busy} of {worker.threads}"

    @admin.display(description="memory", ordering="rss_bytes")
    def memory(self, worker: WorkerProcess) -> str:
        return f"{worker.rss_bytes // 1_048_576} MiB"

    @admin.display(description="steps that it holds")
    def steps(self, worker: WorkerProcess) -> str:
        links = [(step.job_id, step.key, step.tool) for step in held_by([worker.name])[worker.name]]
        return format_html_join("\n", '<p><a href="/jobs/{}/">{} {}</a></p>', links) or "none"

    def has_drain_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("agents.change_workerprocess"))

    @action(description="Drain: end what runs, begin nothing, exit", permissions=["drain"])
    def drain(self, request: HttpRequest, queryset: QuerySet[WorkerProcess]) -> None:
        now = timezone.now()
        alive = set(living(now).values_list("name", flat=True))
        names = [row.name for row in rows_of(queryset) if row.name in alive]
        by = Actor.user(request.user.pk)
        told = tell(names, WorkerProcess.Told.DRAIN, why="in the back office", by=by, now=now)
        self.message_user(request, f"Draining {', '.join(told) or 'nobody'}.", messages.SUCCESS)
