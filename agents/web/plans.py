"""The page of a job's plan: its picture, what policy says of each step, how it changed, and its editor."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone

from agents.errors import AgentsError, InvalidInput, NotNow
from agents.models import Job, Plan, Step
from agents.planning import editing, prompt, shape
from agents.planning.changes import changes
from agents.selectors import changeable_job, may_change, visible_job
from agents.states import StepState
from agents.web.dag import Picture, draw
from agents.web.views import page, who
from agents.web.words import readable
from agents.workflows.graph import layers
from approvals.errors import DecisionError
from approvals.selectors import visible as visible_requests

ROWS_MAX = shape.STEPS_MAX
NARROW = 2  # steps side by side where the screen is a phone's
EMPTY = {"key": "", "tool": "", "arguments": {}, "needs": [], "success_check": "", "reason": "", "instead_of": ""}
EFFECTS = {"allow": "runs", "ask": "asks people", "deny": "refused", "later": "decided later"}
_MARKS = {"allow": "fine", "ask": "asks", "deny": "bad", "later": "open"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A step as the page shows it. number: its place, from 1; state: of its row, where it has one; effect: what policy
    would say; arguments: as JSON; problems: what is wrong with it as it was typed."""

    number: int
    step: Mapping[str, Any]
    arguments: str
    needs: str
    effect: str
    said: str
    why: str
    risk: str
    state: str
    problems: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Of the field for the arguments."""
        return min(16, max(3, self.arguments.count("\n") + 1))

    @property
    def given(self) -> list[tuple[str, str]]:
        """The arguments by name, texts as they are: a patch is read line by line."""
        return [(name, _plain(value)) for name, value in self.step["arguments"].items()]


@page
def plan(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Shows a version; takes a changed one, and lets it run or sends it back."""
    user = who(request)
    seen = visible_job(user, job_id)
    versions = list(editing.versions_of(seen))
    if not versions:
        raise Http404("This job has no plan.")
    if request.method == "POST":
        return _post(request, changeable_job(user, job_id), user, versions)
    shown = _chosen(versions, request.GET.get("version", ""))
    return render(request, "jobs/plan.html", context(seen, user, versions, shown))


def context(
    job: Job,
    user: User,
    versions: Sequence[Plan],
    shown: Plan,
    *,
    typed: Sequence[Mapping[str, Any]] | None = None,
    forecast: Mapping[str, Mapping[str, Any]] | None = None,
    problems: Sequence[tuple[str, str]] = (),
    note: str = "",
    number: int | None = None,
) -> dict[str, Any]:
    """typed: steps as a person just wrote them, with what policy says of those (forecast) and what is wrong; number: of
    the plan that they began with, where it is not the newest."""
    newest, steps = versions[-1], list(typed if typed is not None else shown.steps)
    waits = editing.waiting(job) if shown.pk == newest.pk and shown.state == Plan.State.PROPOSED else None
    editable = waits is not None and may_change(user, job)
    before = next((one for one in reversed(versions) if one.number < shown.number), None)
    rows = dict(Step.objects.filter(job=job, parent=None).values_list("key", "state"))
    states = rows if shown.state in {Plan.State.RUNNING, Plan.State.ENDED} or shown.round < newest.round else {}
    lines = _lines(steps, shown.forecast if forecast is None else forecast, states, problems)
    question = waits.approval_id if waits is not None else None
    asked = question is not None and visible_requests(user).filter(pk=question).exists()
    return {
        "job": job,
        "goal": readable(job.goal),
        "versions": versions,
        "plan": shown,
        "newest": newest,
        "lines": lines,
        "editor": [*lines, *_empty(len(steps))] if editable else [],
        "picture": _picture(lines),
        "narrow": _picture(lines, across=NARROW),
        "number": number or newest.number,
        "prompt": editing.asked_by(shown),
        "changes": _changes(before, shown, rows) if typed is None and before is not None else [],
        "before": before,
        "editable": editable,
        "answerable": asked,
        "tools": [tool.name for tool in prompt.tools_of(job)] if editable else [],
        "general": [what for where, what in problems if _place(where) is None],
        "typed": typed is not None,
        "note": note,
        "denied": [line.step["key"] for line in lines if line.effect == "deny"],
    }


def _post(request: HttpRequest, job: Job, user: User, versions: Sequence[Plan]) -> HttpResponse:
    action, now = request.POST.get("action", ""), timezone.now()
    given = request.POST.get("number", "")
    number = int(given) if given.isdecimal() and len(given) < 10 else 0
    there = f"{job.get_absolute_url()}plan/"
    note = request.POST.get("note", "")
    if action in {"check", "save"}:
        steps, problems = typed(request.POST)
        said: dict[str, dict[str, Any]] = {}
        try:
            if not problems and action == "check":
                said = editing.checked(job, versions[-1], steps, now=now)
            elif not problems:
                made = editing.change(job.pk, number, steps, note=note, by=user, now=now)
                messages.success(request, f"Saved as plan {made.number}. It runs when you say so.")
                return redirect(there)
        except InvalidInput as error:
            problems = list(error.problems or [(error.field, error.message)])
        except NotNow as error:  # what was typed stays in the form, on top of what is there now
            versions = list(editing.versions_of(job))
            problems, number = [("", f"{error.message} What you typed stands below and is not saved.")], 0
        shown = versions[-1]
        parts = context(
            job, user, versions, shown, typed=steps, forecast=said, problems=problems, note=note, number=number
        )
        return render(request, "jobs/plan.html", parts, status=422 if problems else 200)
    try:
        if action == "run":
            editing.run(job, number, by=user, now=now)
            messages.success(request, f"Plan {number} runs.")
            return redirect(job)
        if action == "back":
            editing.send_back(job, number, request.POST.get("why", "").strip() or "no reason given", by=user, now=now)
            messages.success(request, "The agent makes another plan.")
    except (AgentsError, DecisionError) as error:
        messages.info(request, error.message)
    return redirect(there)


def typed(given: QueryDict) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The steps of the editor's form, and what cannot be read of them."""
    steps: list[dict[str, Any]] = []
    problems: list[tuple[str, str]] = []
    left_out: dict[str, list[str]] = {}
    for number in range(1, ROWS_MAX + 3):
        field = lambda name: given.get(f"{name}-{number}", "").replace("\r\n", "\n")  # noqa: B023, E731
        if f"key-{number}" not in given or not (field("key") or field("tool")):
            continue
        needs = list(dict.fromkeys(field("needs").replace(",", " ").split()))
        if given.get(f"drop-{number}"):
            left_out[field("key").strip()] = needs
            continue
        here = f"steps[{len(steps)}]"
        text = field("arguments").strip() or "{}"
        step: dict[str, Any] = {
            "key": field("key").strip(),
            "tool": field("tool"),
            "needs": needs,
            "success_check": field("success_check").strip(),
            "reason": field("reason").strip(),
            "instead_of": field("instead_of").strip(),
        }
        try:
            arguments = json.loads(text)
            if not isinstance(arguments, dict):
                raise ValueError("give an object, such as {}")
            step["arguments"] = arguments
        except (ValueError, RecursionError) as error:
            problems.append((f"{here}.arguments", f"This is no JSON object: {str(error)[:200]}"))
            step["arguments"], step["text"] = {}, text
        steps.append(step)
    for step in steps:
        step["needs"] = _bridged(step["needs"], left_out)
    return steps, problems


def _bridged(needs: Sequence[str], left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """What needed a step that is left out waits for what that one waited for."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    open_ = list(needs)
    while open_:
        key = open_.pop(0)
        if key in left_out and key not in seen:
            open_ = [*left_out[key], *open_]
        elif key not in left_out:
            found[key] = None
        seen.add(key)
    return list(found)


def _lines(
    steps: Sequence[Mapping[str, Any]],
    forecast: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, str],
    problems: Sequence[tuple[str, str]],
) -> list[Line]:
    made = []
    for number, step in enumerate(steps, start=1):
        said = forecast.get(str(step["key"]), {})
        rule = f"{said['policy']}: {said['rule']}" if said.get("rule") else ""
        made.append(
            Line(
                number=number,
                step=step,
                arguments=str(step.get("text") or json.dumps(step["arguments"], indent=2, ensure_ascii=False)),
                needs=", ".join(step["needs"]),
                effect=str(said.get("effect", "")),
                said=EFFECTS.get(str(said.get("effect", "")), ""),
                why=readable(" · ".join(one for one in (str(said.get("reason", "")), rule) if one)),
                risk=str(said.get("risk", "")),
                state=_state(states, str(step["key"])),
                problems=tuple(
                    f"{where.partition('.')[2]}: {what}".removeprefix(": ")
                    for where, what in problems
                    if _place(where) == number - 1
                ),
            )
        )
    return made


def _state(states: Mapping[str, str], key: str) -> str:
    """Of a step and its check: the step's own, or that its check failed."""
    own, check = states.get(key, ""), states.get(f"{key}.check", "")
    return check if own == StepState.SUCCEEDED and check == StepState.FAILED else own


def _place(where: str) -> int | None:
    """`steps[2].tool` -> 2."""
    number = where.removeprefix("steps[").partition("]")[0]
    return int(number) if where.startswith("steps[") and number.isdigit() else None


def _empty(taken: int) -> list[Line]:
    """A row for a step more."""
    if taken >= ROWS_MAX:
        return []
    blank = Line(number=taken + 1, step=EMPTY, arguments="{}", needs="", effect="", said="", why="", risk="", state="")
    return [blank]


def _picture(lines: Sequence[Line], *, across: int = shape.STEPS_MAX) -> Picture | None:
    """None: what was typed is no graph that could be drawn."""
    keys = {line.step["key"] for line in lines} - {""}
    steps: list[dict[str, Any]] = []
    for line in lines:
        if line.step["key"] and line.step["key"] not in {one["key"] for one in steps}:
            needs = [one for one in line.step["needs"] if one in keys]
            steps.append({**line.step, "needs": needs, "reason": line.why or line.step["reason"]})
    if layers({one["key"]: one["needs"] for one in steps})[1]:
        return None
    marks = {line.step["key"]: line.state or _MARKS.get(line.effect, "") for line in lines}
    return draw({"steps": steps}, {line.step["key"]: line.number for line in lines}, marks, across=across)


def _changes(before: Plan, shown: Plan, rows: Mapping[str, str]) -> list[dict[str, Any]]:
    done = frozenset(key for key, state in rows.items() if state == StepState.SUCCEEDED)
    found = changes(before.steps, shown.steps, succeeded=done if shown.round > before.round else frozenset())
    return [
        {
            "kind": one.kind,
            "key": one.key,
            "was_key": one.was_key,
            "tool": one.tool,
            "fields": [
                (name, "" if was is None else _plain(was), "" if now is None else _plain(now))
                for name, was, now in one.fields
            ],
        }
        for one in found
    ]


def _plain(value: Any) -> str:
    return readable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _chosen(versions: Sequence[Plan], wanted: str) -> Plan:
    found = next((one for one in versions if str(one.number) == wanted), None)
    return found or versions[-1]
