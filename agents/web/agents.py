"""The pages of agents: who there is, how they do in real jobs, what they cost, and what each version of a profile said."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import TruncDate
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from agents import profiles, teams
from agents.choosing import DAYS, Record, rank, records
from agents.models import Agent, AgentVersion, Job, LlmCall, Step
from agents.prompts import feedback
from agents.selectors import visible_jobs
from agents.states import JOB_DONE, StepState
from agents.web.bars import Bars, stacked
from agents.web.models import by_day
from agents.web.overview import job_lines, with_progress
from agents.web.views import page, who
from agents.web.words import duration, money

CHART_DAYS = 14
VERSIONS, RECENT, TOOLS = 20, 8, 12
OUTCOMES = ("succeeded", "failed", "cancelled")
_WORDS = {
    "instructions": "Instructions",
    "tools": "Tools",
    "capabilities": "Good for",
    "labels": "Labels",
    "planning": "Planning",
    "model": "Model",
    "route": "Route",
    "max_steps": "Steps a job",
    "max_tokens": "Tokens a job",
    "max_cost": "Dollars a job",
    "role": "Role",
    "description": "Description",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An agent, or one of its versions, with its record in words."""

    agent: Agent
    record: Record
    success: str
    sure: str
    median: str
    cost: str
    cost_a_job: str
    version: AgentVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field of a profile that a version changed; lines: of a difference of texts, (kind, text)."""

    name: str
    was: str
    now: str
    lines: tuple[tuple[str, str], ...] = ()


@page
@require_safe
def agents(request: HttpRequest) -> HttpResponse:
    """All agents, the best record first where a capability is asked for, and the teams."""
    user, now = who(request), timezone.now()
    jobs = visible_jobs(user).filter(created_at__gte=now - timedelta(days=DAYS))
    known = records(jobs)
    wanted = [one for one in request.GET.get("for", "").replace("\0", "").replace(",", " ").split() if one][:5]
    shown = Agent.objects.select_related("route", "owner").order_by("-enabled", "name")
    if wanted:
        order = [one.agent.pk for one in rank(wanted, now=now)]
        shown = sorted(shown.filter(pk__in=order), key=lambda one: order.index(one.pk))  # type: ignore[assignment]
    calls = _calls(request, now).filter(job__agent__isnull=False)
    names = sorted({one.name for one in shown})
    every = {name for given in Agent.objects.values_list("capabilities", flat=True) for name in given}
    context = {
        "tab": "agents",
        "lines": [_line(one, known.get(one.pk, Record())) for one in shown],
        "capabilities": sorted(every),
        "wanted": wanted,
        "teams": [(team, team.members.all()) for team in teams.every()],
        "days": DAYS,
        "chart_days": CHART_DAYS,
        "spend": by_day(calls, now, "cost", kind="job__agent__name", colours=names),
        "tokens": by_day(calls, now, "tokens", kind="job__agent__name", colours=names),
        "ended": ended_by_day(jobs.filter(agent__isnull=False), now),
        "may_add": user.is_staff and user.has_perm("agents.add_agent"),
        "all": user.has_perm("agents.view_job"),
    }
    return render(request, "agents/agents.html", context)


@page
@require_safe
def agent(request: HttpRequest, name: str) -> HttpResponse:
    """One agent: its record by version, what changed between two, charts, what it uses and its last jobs."""
    user, now = who(request), timezone.now()
    found = Agent.objects.select_related("route", "owner").filter(name=name).first()
    if found is None:
        raise Http404("There is no such agent.")
    mine = visible_jobs(user).filter(agent=found)
    lately = mine.filter(created_at__gte=now - timedelta(days=DAYS))
    calls = _calls(request, now).filter(job__agent=found)
    versions = list(found.versions.select_related("created_by")[:VERSIONS])
    by_version = records(mine.filter(agent_version__in=versions), by="agent_version")
    models = sorted(calls.order_by().values_list("model", flat=True).distinct())
    said = profiles.definition(found)
    context = {
        "tab": "agents",
        "opinion": feedback.of_jobs(lately),
        "agent": found,
        "line": _line(found, records(lately).get(found.pk, Record())),
        "facts": _facts(found, said),
        "versions": [_line(found, by_version.get(one.pk, Record()), one) for one in versions],
        "unsaved": bool(versions) and profiles.digest(said) != versions[0].sha256,
        **_compared(request, versions),
        "days": DAYS,
        "chart_days": CHART_DAYS,
        "spend": by_day(calls, now, "cost", kind="model", colours=models),
        "tokens": by_day(calls, now, "tokens", kind="model", colours=models),
        "ended": ended_by_day(lately, now),
        "uses": _uses(lately),
        "teams": teams.of(found),
        "recent": job_lines(with_progress(mine).order_by("-created_at")[:RECENT], user, now),
        "may_change": user.is_staff and user.has_perm("agents.change_agent"),
    }
    return render(request, "agents/agent.html", context)


def ended_by_day(jobs: QuerySet[Job], now: datetime) -> Bars:
    """How many jobs ended, by day and outcome."""
    today = timezone.localdate(now)
    days = [today - timedelta(days=back) for back in reversed(range(CHART_DAYS))]
    rows = (
        jobs.filter(state__in=JOB_DONE, finished_at__isnull=False)
        .order_by()
        .annotate(day=TruncDate("finished_at"))
        .values("day", "state")
        .annotate(number=Count("pk"))
    )
    values: dict[tuple[date, str], float] = {}
    for row in rows:
        kind = row["state"] if row["state"] in OUTCOMES else "failed"
        values[(row["day"], kind)] = values.get((row["day"], kind), 0.0) + row["number"]
    return stacked(
        days, values, words=lambda number: f"{number:.0f}", colours=("", "cancelled", "succeeded", "", "failed")
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """What a profile says otherwise; long texts line by line."""
    found = []
    for name, words in _WORDS.items():
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if name in {"instructions", "description"}:
            lines = list(difflib.unified_diff(str(was).splitlines(), str(now).splitlines(), lineterm="", n=2))[2:]
            kinds = {"+": "added", "-": "removed", "@": "head"}
            told = tuple((kinds.get(line[:1], ""), line) for line in lines)
            found.append(Difference(name=words, was="", now="", lines=told))
        else:
            found.append(Difference(name=words, was=_plain(was), now=_plain(now)))
    return found


def _compared(request: HttpRequest, versions: Sequence[AgentVersion]) -> dict[str, Any]:
    """The two versions that are compared: by default the newest with the one before."""
    if len(versions) < 2:
        return {"old": None, "new": None, "differences": []}
    by_number = {str(one.number): one for one in versions}
    new = by_number.get(request.GET.get("to", ""), versions[0])
    old = by_number.get(request.GET.get("from", ""), versions[1])
    return {"old": old, "new": new, "differences": differences(old.definition, new.definition)}


def _calls(request: HttpRequest, now: datetime) -> QuerySet[LlmCall]:
    user = who(request)
    calls = LlmCall.objects.filter(at__gte=now - timedelta(days=CHART_DAYS))
    return calls if user.has_perm("agents.view_llmcall") else calls.filter(job__in=visible_jobs(user))


def _line(agent: Agent, record: Record, version: AgentVersion | None = None) -> Line:
    return Line(
        agent=agent,
        record=record,
        success="" if record.success is None else f"{100 * record.success:.0f}%",
        sure="" if record.success is None else f"{100 * record.sure:.0f}%",
        median="" if record.median is None else duration(record.median),
        cost=money(record.cost),
        cost_a_job=money(record.cost_a_job),
        version=version,
    )


def _facts(agent: Agent, said: Mapping[str, Any]) -> list[tuple[str, str]]:
    cost = "any cost" if said.get("max_cost") is None else f"${float(said['max_cost']):,.2f}"
    labels = ", ".join(f"{name}={value}" for name, value in sorted(dict(said.get("labels") or {}).items()))
    facts = [
        ("Role", str(said.get("role", ""))),
        ("Works", Agent.Planning(said["planning"]).label if said.get("planning") else ""),
        ("Asks", f"route {agent.route.name}" if agent.route else agent.model or "the server's model"),
        ("Tools", ", ".join(said["tools"])),
        ("Labels of its jobs", labels),
        ("Bounds of a job", f"{said['max_steps']:,} steps, {said['max_tokens']:,} tokens, {cost}"),
        ("Owner", agent.owner.get_username() if agent.owner else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _uses(jobs: QuerySet[Job]) -> list[dict[str, Any]]:
    """The tools that its jobs called most, and how often people or policies said no."""
    found = (
        Step.objects.filter(job__in=jobs.order_by().values("pk"))
        .exclude(tool__startswith="llm.")
        .exclude(tool__startswith="plan.")
        .order_by()
        .values("tool")
        .annotate(
            calls=Count("pk"),
            failed=Count("pk", filter=Q(state=StepState.FAILED)),
            refused=Count("pk", filter=Q(state=StepState.REFUSED)),
        )
        .order_by(F("calls").desc(), "tool")[:TOOLS]
    )
    return [dict(one) for one in found]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in sorted(value.items())) or "none"
    return "none" if value in (None, "") else str(value)
