"""The pages of prompts: list, one version with its tests, compare, edit, publish, share out, try."""

from difflib import unified_diff
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from agents.errors import AgentsError, ChangedMeanwhile, InvalidPrompt, NotAllowed
from agents.evaluation import running, suite
from agents.models import Prompt, PromptVersion
from agents.prompts import feedback, testing, versions
from agents.prompts.definition import check
from agents.web.views import page, who
from agents.web.words import digits
from agents.workflows.diff import kind_of_line
from tools.yamltext.places import Problem

Status = PromptVersion.Status
SOURCE_MAX = 262_144
SHARES = (5, 10, 25, 50, 0)
EXAMPLE = """\
name: my-prompt
title: What it is for
variables:
  text: {type: string, maxLength: 20000}
untrusted: [text]
system: |
  Who the model is here.
user: |
  What it is to do.

  {{ text }}
answer:
  type: object
  properties:
    summary: {type: string}
  required: [summary]
  additionalProperties: false
cases:
  - name: plain
    inputs: {text: Two sentences. Like these.}
    recorded: {summary: Two sentences.}
    by: written by hand
    expect: ["answer.summary.size() > 0"]
"""


@page
@require_safe
def prompt_list(request: HttpRequest) -> HttpResponse:
    rows = []
    for prompt in versions.prompts(who(request)).prefetch_related("versions"):
        found = list(prompt.versions.all())
        shown = next((one for one in found if one.status == Status.PUBLISHED), found[0] if found else None)
        if shown is not None:
            rows.append({"prompt": prompt, "version": shown, "draft": any(one.status == Status.DRAFT for one in found)})
    context = {"tab": "prompts", "rows": rows, "may_add": versions.may_edit(who(request))}
    return render(request, "prompts/list.html", context)


@page
@require_safe
def prompt(request: HttpRequest, name: str, number: int | None = None) -> HttpResponse:
    found = versions.prompt_of(who(request), name)
    return render(request, "prompts/prompt.html", _context(who(request), found, _version(found, number)))


@page
@require_safe
def compare(request: HttpRequest, name: str) -> HttpResponse:
    found = versions.prompt_of(who(request), name)
    old, new = (_version(found, _number(request.GET.get(one, ""))) for one in ("from", "to"))
    texts = unified_diff(old.source.splitlines(), new.source.splitlines(), str(old), str(new), lineterm="")
    lines = [{"text": text, "kind": kind_of_line(text)} for text in texts]
    context = {"tab": "prompts", "prompt": found, "old": old, "new": new, "lines": lines}
    return render(request, "prompts/diff.html", {**context, "versions": found.versions.all()[:50]})


@page
def edit(request: HttpRequest, name: str = "") -> HttpResponse:
    """A text with its problems; what is right may be saved as a draft."""
    user = who(request)
    found = versions.prompt_of(user, name) if name else None
    if not versions.may_edit(user, found):
        raise NotAllowed("You may not change this prompt." if found else "You may not add prompts.")
    if request.method != "POST":
        newest = found.versions.first() if found else None
        begun = _version(found, _number(request.GET["from"])) if found and "from" in request.GET else newest
        return _editor(request, found, begun.source if begun else EXAMPLE, seen=newest.sha256 if newest else "")
    source, note = request.POST.get("source", "").replace("\r\n", "\n"), request.POST.get("note", "").strip()
    seen = request.POST.get("seen")
    checked = check(source)
    problems = list(checked.problems)
    if found is not None and checked.data is not None and not problems and checked.data["name"] != found.name:
        problems = [Problem(1, 1, "name", f"This is the prompt {found.name!r}: its name stays.")]
    tests = testing.run(checked.data) if checked.data is not None and not problems else []
    if problems or "check" in request.POST:
        return _editor(request, found, source, note=note, seen=seen, problems=problems, tests=tests, checked=True)
    try:
        draft = versions.save_draft(source, note=note, by=user, now=timezone.now(), seen=seen)
    except InvalidPrompt as error:
        problems = [Problem(1, 1, error.field, error.message)]
        return _editor(request, found, source, note=note, seen=seen, problems=problems)
    except ChangedMeanwhile as error:
        theirs = Prompt.objects.get(name=checked.data["name"]).versions.first() if checked.data else None
        now_seen = theirs.sha256 if theirs else ""
        return _editor(request, found, source, note=note, seen=now_seen, theirs=theirs, moved=error.message)
    messages.success(request, f"Saved {draft}: {draft.status}.")
    return redirect("web:prompt-version", draft.prompt.name, draft.number)


@page
@require_POST
def act(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Publishes, retires, or shares a version out, as the form's `do` says."""
    user = who(request)
    found = versions.prompt_of(user, name)
    version = _version(found, number)
    try:
        match request.POST.get("do"):
            case "publish":
                versions.publish(version.pk, by=user, now=timezone.now(), seen=request.POST.get("seen"))
                messages.success(request, f"Published {version}.")
            case "retire":
                versions.retire(version.pk, by=user)
                force = versions.in_force(found)
                after = f"{force} is in force now" if force else "none is in force now, and steps that ask by it fail"
                messages.success(request, f"Retired {version}: {after}.")
            case "share":
                share = _number(request.POST.get("share", ""))
                versions.share_out(found, version if share else None, share, by=user)
                messages.success(request, f"{share}% of the jobs get {version}." if share else "All get the newest.")
            case _:
                raise Http404("There is no such act.")
    except AgentsError as error:
        if isinstance(error, NotAllowed):
            raise
        messages.error(request, error.message)
    return redirect("web:prompt-version", found.name, version.number)


@page
@require_POST
def try_out(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Starts an evaluation of this version on its own cases, against another one where one is named."""
    user = who(request)
    found = versions.prompt_of(user, name)
    version = _version(found, number)
    other = _number(request.POST.get("other", ""))
    arms = [f"prompt:{name}@{one}" for one in dict.fromkeys((other, version.number)) if one]
    try:
        made = running.start(
            suite.of_prompt(version),
            arms,
            repeats=_number(request.POST.get("repeats", "1")),
            by=user,
            now=timezone.now(),
        )
    except AgentsError as error:
        messages.error(request, error.message)
        return redirect("web:prompt-version", found.name, version.number)
    running.go_on(made, now=timezone.now())
    return redirect(made)


def _context(user: User, found: Prompt, version: PromptVersion) -> dict[str, Any]:
    rows = list(found.versions.select_related("created_by")[:50])
    return {
        "tab": "prompts",
        "prompt": found,
        "version": version,
        "definition": version.definition,
        "tests": testing.run(version.definition),
        "records": feedback.records([one for one in rows if one.status != Status.DRAFT]),
        "versions": rows,
        "in_force": versions.in_force(found),
        "before": next((one for one in rows if one.number < version.number), None),
        "others": [one for one in rows if one.number != version.number and one.status != Status.RETIRED],
        "may_edit": versions.may_edit(user, found),
        "evaluations": running.visible(user).filter(suite=found.name)[:5],
        "shares": SHARES,
    }


def _editor(request: HttpRequest, found: Prompt | None, source: str, **more: Any) -> HttpResponse:
    context = {"tab": "prompts", "prompt": found, "source": source[:SOURCE_MAX], **more}
    status = 409 if more.get("moved") else 422 if more.get("problems") else 200
    return render(request, "prompts/edit.html", context, status=status)


def _version(found: Prompt, number: int | None) -> PromptVersion:
    if number is None:
        rows = found.versions.select_related("prompt", "created_by", "published_by")
        version = rows.filter(status=Status.PUBLISHED).first() or rows.first()
        if version is None:
            raise Http404("It has no version.")
        return version
    return versions.version_of(found, min(number, 2**31 - 1))


def _number(given: str) -> int:
    return digits(given) or 0
