"""The pages: sign in and out, dashboard, jobs."""

from collections.abc import AsyncIterator
from functools import partial, wraps
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST, require_safe

from agents import feed
from agents.engine import answers
from agents.engine.cancel import cancel_job
from agents.errors import InvalidInput, NotAllowed, NotNow, NotVisible, QueueFull, StepMoved
from agents.models import FeedEntry, Job, Step
from agents.selectors import changeable_job, of_kinds, visible_job, visible_jobs, visible_step
from agents.states import JobState
from agents.submit import submit
from agents.web import jobpage
from agents.web.forms import JobFilter, JobForm
from agents.web.labels import JOB_LABELS
from agents.web.loglines import line
from agents.web.overview import job_lines, overview, with_progress
from agents.web.stream import reading, step_names
from audit.actor import Actor

PAGE_SIZE = 25
REASON_MAX = 2000


def page(view: Any) -> Any:
    """For signed-in people, never cached; what the user may not see is not there (404), what they may not do is 403."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except NotVisible as error:
            raise Http404(error.message) from None
        except NotAllowed as error:
            raise PermissionDenied(error.message) from None

    return never_cache(login_required(wrapped))


def who(request: HttpRequest) -> User:
    """The signed-in user of a view behind `page`."""
    assert isinstance(request.user, User)
    return request.user


@page
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    return render(request, "dashboard.html", {"overview": overview(who(request), timezone.now())})


@page
@require_safe
def dashboard_part(request: HttpRequest) -> HttpResponse:
    """What of the dashboard renews itself."""
    return render(request, "_dashboard.html", {"overview": overview(who(request), timezone.now())})


@page
@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    form = JobFilter(request.GET)
    given = form.cleaned_data if form.is_valid() else {"kind": "", "state": "", "q": ""}
    everything = visible_jobs(who(request))
    mine = of_kinds(everything, {given["kind"]} if given["kind"] else ())
    if given["q"]:
        one = _uuid(given["q"])
        mine = everything.filter(pk=one) if one else mine.filter(_search(given["q"]))
    shown = mine.filter(state=given["state"]) if given["state"] else mine
    paginator = Paginator(with_progress(shown).order_by("-created_at"), PAGE_SIZE)
    current = paginator.get_page(request.GET.get("page"))
    states = [("", "all"), *((state.value, JOB_LABELS[state]) for state in JobState)]
    return render(
        request,
        "jobs/list.html",
        {
            "lines": job_lines(current.object_list, who(request), timezone.now()),
            "current": current,
            "states": states,
            "kinds": JobFilter.KINDS,
            **given,
        },
    )


def _search(text: str) -> Q:
    return Q(goal__icontains=text) | Q(repository__name__icontains=text) | Q(owner__username__iexact=text)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@page
def new_job(request: HttpRequest) -> HttpResponse:
    user = who(request)
    if request.method != "POST":
        return render(request, "jobs/new.html", {"form": JobForm(user=user, initial=_asked(request))})
    form, status = JobForm(request.POST, user=user), 422
    if form.is_valid():
        try:
            job, _ = submit(form.payload(), user=user, idempotency_key=form.idempotency_key(), now=timezone.now())
            return redirect(job)
        except QueueFull as error:
            form.add_error(None, f"{error.message} Try again in {error.retry_after_s} seconds.")
            status = 429
        except InvalidInput as error:
            for field, message in error.problems:
                form.add_error(field if field in form.fields else None, message)
    return render(request, "jobs/new.html", {"form": form}, status=status)


def _asked(request: HttpRequest) -> dict[str, str]:
    """What a link to the form chooses."""
    return {name: request.GET[name] for name in ("agent", "repository") if request.GET.get(name)}


@page
@require_safe
def job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    user = who(request)
    seen = visible_job(user, job_id)
    log = jobpage.log_tail(seen)  # before the steps: what the stream tells later is then never older than the page
    parts = jobpage.context(seen, user, chosen=request.GET.get("step", ""), now=timezone.now())
    return render(request, "jobs/job.html", {**parts, "log": log, "commands": jobpage.commands(seen)})


@page
@require_GET
def fragment(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The parts of the job's page that change: head, steps, the chosen step's panel."""
    user = who(request)
    seen = visible_job(user, job_id)
    parts = jobpage.context(seen, user, chosen=request.GET.get("step", ""), now=timezone.now())
    return render(request, "jobs/_parts.html", parts)


@page
@require_POST
def cancel(request: HttpRequest, job_id: UUID) -> HttpResponse:
    user = who(request)
    seen = changeable_job(user, job_id)
    if seen.done:
        messages.info(request, f"The job had {JOB_LABELS[JobState(seen.state)]} already.")
    else:
        cancel_job(seen.pk, by=Actor.user(user.pk), now=timezone.now())
        messages.success(request, "The job is being cancelled: nothing new starts, and what runs is asked to stop.")
    return redirect(seen)


@page
@require_POST
def settle(request: HttpRequest, job_id: UUID, key: str) -> HttpResponse:
    """A person says whether a step in doubt happened."""
    user = who(request)
    seen = changeable_job(user, job_id)
    step = visible_step(user, job_id, key)
    happened = request.POST.get("happened")
    if happened not in {"yes", "no"}:
        return HttpResponse("`happened` must be yes or no.", status=400, content_type="text/plain")
    try:
        reason = request.POST.get("reason", "").strip().replace("\x00", "")[:REASON_MAX]
        answers.by_person(
            step.pk, happened=happened == "yes", by=Actor.user(user.pk), now=timezone.now(), reason=reason
        )
        messages.success(request, f"Recorded: {step.tool} {'happened' if happened == 'yes' else 'did not happen'}.")
    except StepMoved:
        messages.info(request, "Somebody else has answered already.")
    except (NotAllowed, NotNow) as error:
        messages.warning(request, error.message)
    return redirect(seen)


@require_GET
async def raw_log(request: HttpRequest, job_id: UUID) -> HttpResponseBase:
    """The whole log as plain text."""
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse("Sign in first.\n", status=401, content_type="text/plain; charset=utf-8")
    seen = await sync_to_async(lambda: visible_jobs(user).filter(pk=job_id).first())()
    await sync_to_async(connections.close_all)()  # a slow reader would hold this request's as long as it reads
    if seen is None:
        return HttpResponse("There is no such job.\n", status=404, content_type="text/plain; charset=utf-8")
    response = StreamingHttpResponse(_raw(seen), content_type="text/plain; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["Content-Disposition"] = f'inline; filename="job-{seen.pk}.log"'
    return response


async def _raw(job: Job) -> AsyncIterator[str]:
    names = await reading(_names, job)
    source, ended = "", True
    async for entry in _entries(job):
        one = line(entry, names)
        if not one.text:
            continue
        head = ""
        if not one.source or one.source != source:
            where = f" {one.step} {one.tool}" if one.kind != "state" and one.step else ""
            head = ("" if ended else "\n") + f"--- {one.at}{where} {one.stream or one.kind}\n"
        source, ended = one.source, one.text.endswith("\n")
        yield head + one.text
    if not ended:
        yield "\n"


async def _entries(job: Job) -> AsyncIterator[FeedEntry]:
    """The job's feed, read in parts between which no connection is held."""
    after = 0
    while found := await reading(partial(feed.entries, job.pk, after=after, limit=500)):
        for entry in found:
            yield entry
        after = found[-1].seq


def _names(job: Job) -> dict[UUID, tuple[str, str]]:
    return step_names(Step.objects.filter(job=job).values("pk"))
