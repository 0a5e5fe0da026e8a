"""The pages of workflows: list, one version with its picture, compare, edit, publish, start."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from agents.errors import ChangedMeanwhile, InvalidInput, InvalidWorkflow, NotADraft, NotAllowed, QueueFull
from agents.models import Workflow, WorkflowVersion
from agents.submit import submit
from agents.web.dag import draw
from agents.web.startform import StartForm
from agents.web.views import page, who
from agents.web.words import digits
from agents.workflows import diff, versions
from agents.workflows.schema import inputs_schema
from tools.yamltext.places import Problem
from tools.yamltext.read import parse

Status = WorkflowVersion.Status
EXAMPLE = """\
name: my-workflow
title: What it does
inputs:
  properties:
    path: {type: string, default: README.md}
steps:
  - key: read
    tool: files.read
    arguments: {path: "${{ inputs.path }}"}
outputs:
  text: steps.read.text
"""


@page
@require_safe
def workflow_list(request: HttpRequest) -> HttpResponse:
    rows = []
    for workflow in versions.workflows(who(request)).prefetch_related("versions"):
        found = list(workflow.versions.all())
        shown = next((one for one in found if one.status == Status.PUBLISHED), found[0] if found else None)
        if shown is not None:
            draft = any(one.status == Status.DRAFT for one in found)
            rows.append({"workflow": workflow, "version": shown, "text": shown.definition or {}, "draft": draft})
    return render(request, "workflows/list.html", {"rows": rows, "may_add": versions.may_edit(who(request))})


@page
@require_safe
def workflow(request: HttpRequest, name: str, number: int | None = None) -> HttpResponse:
    found = versions.workflow_of(who(request), name)
    return render(request, "workflows/workflow.html", _context(who(request), found, _version(found, number)))


@page
@require_POST
def start(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Submits a job from the form."""
    user = who(request)
    found = versions.workflow_of(user, name)
    version = _version(found, number)
    form, status = _form(user, version, request.POST), 422
    if form.is_valid():
        payload = form.payload(found.name, version.number)
        try:
            job, _ = submit(payload, user=user, idempotency_key=form.idempotency_key(payload), now=timezone.now())
            return redirect(job)
        except QueueFull as error:
            form.add_error(None, f"{error.message} Try again in {error.retry_after_s} seconds.")
            status = 429
        except InvalidInput as error:
            form.tell(error.problems)
    return render(request, "workflows/workflow.html", _context(user, found, version, form=form), status=status)


@page
@require_safe
def compare(request: HttpRequest, name: str) -> HttpResponse:
    found = versions.workflow_of(who(request), name)
    old, new = (_version(found, _number(request, one)) for one in ("from", "to"))
    lines = [{"text": text, "kind": diff.kind_of_line(text)} for text in diff.unified(old, new).splitlines()]
    shown = {"workflow": found, "old": old, "new": new, "changes": diff.between(old, new), "lines": lines}
    return render(request, "workflows/diff.html", {**shown, "versions": found.versions.all()[:50]})


@page
def edit(request: HttpRequest, name: str = "") -> HttpResponse:
    """A text with its problems beside its lines; what is right may be saved as a draft."""
    user = who(request)
    found = versions.workflow_of(user, name) if name else None
    if not versions.may_edit(user, found):
        raise NotAllowed("You may not change this workflow." if found else "You may not add workflows.")
    if request.method != "POST":
        newest = found.versions.first() if found else None
        return _editor(request, found, newest.source if newest else EXAMPLE, seen=newest.sha256 if newest else "")
    seen = request.POST.get("seen")
    source, note = request.POST.get("source", "").replace("\r\n", "\n"), request.POST.get("note", "").strip()
    problems = list(versions.checked(source).problems)
    data = parse(source).data if not problems else None
    if found is not None and data is not None and data["name"] != found.name:
        problems = [Problem(1, 1, "name", f"This is the workflow {found.name!r}: its name stays.")]
    if problems or "check" in request.POST:
        return _editor(request, found, source, note=note, seen=seen, problems=problems, checked=True)
    try:
        draft = versions.save_draft(source, note=note, by=user, now=timezone.now(), seen=seen)
    except InvalidWorkflow as error:
        problems = [Problem(1, 1, error.field, error.message)]
        return _editor(request, found, source, note=note, seen=seen, problems=problems)
    except ChangedMeanwhile as error:
        theirs = Workflow.objects.get(name=data["name"]).versions.first() if data else None
        now_seen = theirs.sha256 if theirs else ""
        return _editor(request, found, source, note=note, seen=now_seen, theirs=theirs, moved=error.message)
    messages.success(request, f"Saved {draft}: {draft.status}.")
    return redirect(draft)


@page
@require_POST
def publish(request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _version(versions.workflow_of(who(request), name), number)
    try:
        version = versions.publish(version.pk, by=who(request), now=timezone.now(), seen=request.POST.get("seen"))
        messages.success(request, f"Published {version}: jobs that name no version now run on the newest.")
    except (NotADraft, InvalidWorkflow, ChangedMeanwhile) as error:
        messages.error(request, error.message)
    return redirect(version)


@page
@require_POST
def retire(request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _version(versions.workflow_of(who(request), name), number)
    try:
        version = versions.retire(version.pk, by=who(request))
        messages.success(request, f"Retired {version}: no new job starts on it.")
    except NotADraft as error:
        messages.error(request, error.message)
    return redirect(version)


def _context(user: User, found: Workflow, version: WorkflowVersion, *, form: StartForm | None = None) -> dict[str, Any]:
    document = parse(version.source)
    definition = _written(version)
    places = {
        step["key"]: document.places.problem(("steps", index), "").line
        for index, step in enumerate(definition.get("steps", []))
    }
    rows = list(found.versions.select_related("created_by", "published_by")[:50])
    before = next((one for one in rows if one.number < version.number), None)
    problems = versions.checked(version.source).problems if version.status == Status.DRAFT else ()
    return {
        "workflow": found,
        "version": version,
        "definition": definition,
        "picture": draw(definition, places),
        "lines": _lines(version.source, problems),
        "problems": problems,
        "versions": rows,
        "before": before,
        "may_edit": versions.may_edit(user, found),
        "form": form or (_form(user, version) if version.status == Status.PUBLISHED else None),
        "jobs": version.jobs.filter(owner=user).order_by("-created_at")[:5],
    }


def _form(user: User, version: WorkflowVersion, given: Any = None) -> StartForm:
    definition = _written(version)
    wants = str(definition.get("repository", "optional"))
    return StartForm(given, user=user, schema=inputs_schema(definition), wants=wants)


def _written(version: WorkflowVersion) -> dict[str, Any]:
    """The definition with its names in the order of the text, which the database does not keep."""
    data = parse(version.source).data
    return data if isinstance(data, dict) else version.definition or {}


def _editor(request: HttpRequest, found: Workflow | None, source: str, **more: Any) -> HttpResponse:
    problems = more.get("problems")
    lines = _lines(source, problems) if problems else []
    status = 409 if more.get("moved") else 422 if problems else 200
    return render(
        request, "workflows/edit.html", {"workflow": found, "source": source, "lines": lines, **more}, status=status
    )


def _lines(source: str, problems: Any) -> list[dict[str, Any]]:
    beside: dict[int, list[Problem]] = {}
    for one in problems:
        beside.setdefault(one.line, []).append(one)
    texts = source.splitlines() or [""]
    return [{"number": n, "text": text, "problems": beside.get(n, [])} for n, text in enumerate(texts, start=1)]


def _version(found: Workflow, number: int | None) -> WorkflowVersion:
    """The version of that number; without one what a job would get, else the newest."""
    if number is not None:
        return versions.version_of(found, number)
    version = versions.current(found.name) or found.versions.select_related("workflow").first()
    if version is None:
        raise Http404("This workflow has no version.")
    return versions.version_of(found, version.number)


def _number(request: HttpRequest, name: str) -> int:
    given = digits(request.GET.get(name, ""))
    if given is None:
        raise Http404("Two versions are compared: from and to.")
    return given


@page
def describe(request: HttpRequest) -> HttpResponse:
    """A problem in words: a job has the model write the workflow, and saves it as a draft."""
    user = who(request)
    if not versions.may_edit(user):
        raise NotAllowed("You may not add workflows.")
    name, problem = request.POST.get("name", "").strip(), request.POST.get("problem", "").strip()
    shown: dict[str, Any] = {"name": name, "problem": problem}
    if request.method != "POST":
        return render(request, "workflows/describe.html", shown)
    if Workflow.objects.filter(name=name).exists():
        return render(
            request, "workflows/describe.html", {**shown, "wrong": f"There is a workflow {name!r} already."}, status=422
        )
    step = {"key": "draft", "tool": "llm.draft_workflow", "arguments": {"name": name, "problem": problem}}
    try:
        job, _ = submit({"title": f"Draft the workflow {name}"[:200], "steps": [step]}, user=user, now=timezone.now())
        return redirect(job)
    except QueueFull as error:
        return render(request, "workflows/describe.html", {**shown, "wrong": error.message}, status=429)
    except InvalidInput as error:
        return render(request, "workflows/describe.html", {**shown, "wrong": error.message}, status=422)
