"""Where a call comes from: was it planned before its job read what others wrote, and are its values from there?

"Planned" is a tool that a person's plan or workflow names, or that a model asked for (by a plan, or by a call of its own)
before the first such text had come in. "Tainted" is a value that stands in such a text, and neither in the prompt nor in
what was asked for before: see `agents.provenance.values`. What tools by others say of themselves is such a text too, and
what models wrote into the memory.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import Q

from agents import profiles
from agents.llm import functions
from agents.memory.prompt import told
from agents.models import Job, MapItem, Plan, Step
from agents.provenance import labels
from agents.provenance.values import Taint, Text, leaves, tainted, written
from agents.states import STEP_DONE
from tools import labels as marks
from tools import registry
from tools.errors import UnknownTool

STEPS_MAX = 3000  # of a family; more of them, or more text, cannot be told any more
TEXT_MAX = 8 * 1024**2  # characters
KEPT_MAX = 256 * 1024  # characters of a text that is kept for the next call
_NAMED = re.compile(r"""\bsteps\s*(?:\.\s*|\[\s*["'])([\w-]+)""")  # in a template: whose result it takes
BROUGHT = ("webhook:", "rule:")  # others, or another job's outcome, may have filled in what such a job is told
OFFER = "offer:"  # an agent wrote its goal, in a conversation
_OWN_WORDS = ("llm.think", "llm.plan", "plan.", "human.", "llm.title")  # what they say is told by the calls they make
_DERIVED = ("llm.", "job.", "memory.")  # what they give back is made of what the job has read


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """None: it cannot be told. since: when the first text that others wrote came in; None: none has."""

    unplanned: bool | None
    tainted: tuple[Taint, ...] | None
    since: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """For the step's row."""
        found = None if self.tainted is None else [one.as_json() for one in self.tainted]
        return {"unplanned": self.unplanned, "tainted": found, "since": self.since.isoformat() if self.since else None}


UNTOLD = Provenance(unplanned=None, tainted=None)


@dataclass(slots=True)
class _Family:
    """The jobs and steps whose texts this call may be made of."""

    jobs: dict[UUID, Job]
    steps: dict[UUID, Step]
    sources: list[Step] = field(default_factory=list)
    since: datetime | None = None

    def before(self, step: Step) -> bool:
        return self.since is None or step.created_at < self.since


def of(job: Job, step: Step) -> Provenance:
    """Of the step's call as its row (or this object) has it now. Three to six queries."""
    family = _read(job, step)
    if family is None:
        return UNTOLD
    described = _described(family, job)
    if family.since is None and not described:
        return Provenance(unplanned=False, tainted=())
    unplanned = family.since is not None and not _planned(family, job, step)
    if step.compensates_id is not None and step.compensates_id in family.steps:
        return Provenance(unplanned=unplanned, tainted=(), since=family.since)  # it undoes what was let through
    untrusted = _untrusted(family)
    if untrusted is None:
        return Provenance(unplanned=unplanned, tainted=None, since=family.since)
    fixed, by_people = _fixed(step.tool), _by_people_written(family, job, step)
    found = tainted(step.arguments, described, Text("", by_people), fixed=fixed)
    if family.since is not None:
        known = [by_people, *_early(family), *([_written(step)] if family.before(step) else [])]
        trusted = Text("", "\n".join(known))
        found += tainted(step.arguments, untrusted, trusted, fixed=fixed)
        found += _flowing(family, step, trusted)
    places = {one.at: one for one in reversed(found)}
    return Provenance(unplanned=unplanned, tainted=tuple(places[at] for at in sorted(places)), since=family.since)


def _flowing(family: _Family, step: Step, trusted: Text) -> Iterator[Taint]:
    """What the call's template makes of what others wrote, whatever it makes of it."""
    sources = {one.key: one for one in family.sources if one.job_id == step.job_id}
    values = list(leaves(step.arguments))
    for at, template in leaves(step.template or {}):
        named = [sources[key] for key in _NAMED.findall(template) if key in sources]
        for place, value in values if named else ():
            if (place == at or place.startswith((f"{at}.", f"{at}["))) and value not in trusted:
                yield Taint.of(place, value, f"{named[0].key} ({named[0].tool})")


def _read(job: Job, step: Step) -> _Family | None:
    ids = labels.family(job.pk)
    steps = (
        Step.objects.filter(job_id__in=ids).exclude(pk=step.pk).defer("result", "error", "decision", "preview_digest")
    )
    rows = list(steps.order_by()[: STEPS_MAX + 1])
    if len(rows) > STEPS_MAX:
        return None
    jobs = Job.objects.filter(pk__in=ids).select_related("agent", "agent_version", "repository", "owner")
    family = _Family(jobs={one.pk: one for one in jobs}, steps={one.pk: one for one in rows})
    untold = [one.pk for one in rows if one.labels is None and one.attempt > 0]
    data = dict(Step.objects.filter(pk__in=untold).values_list("pk", "result__data")) if untold else {}
    for one in rows:
        if one.attempt == 0 or one.tool.startswith(_OWN_WORDS):
            continue
        known = frozenset(one.labels or ())
        if one.labels is None:
            known = labels.of_call(one.tool, one.arguments, many=one.kind == Step.Kind.CHUNK) | marks.of_data(
                data[one.pk]
            )
        if marks.UNTRUSTED in known and (one.state in STEP_DONE or data.get(one.pk) is not None):
            family.sources.append(one)
    moments = [one.finished_at or one.started_at or one.created_at for one in family.sources]
    moments += [one.created_at for one in family.jobs.values() if one.trigger.startswith(BROUGHT)]
    family.since = min(moments, default=None)
    if family.since is not None:
        known_ids = {one.pk for one in family.sources}
        family.sources += [one for one in rows if one.pk not in known_ids and _derived(one, family.since)]
    return family


def _derived(step: Step, since: datetime) -> bool:
    if step.tool.startswith(_OWN_WORDS) or not step.tool.startswith(_DERIVED):
        return False
    return step.finished_at is not None and step.finished_at > since


def _planned(family: _Family, job: Job, step: Step) -> bool:
    """Was the tool of this call named before the job read what others wrote?"""
    if step.compensates_id is not None and step.compensates_id in family.steps:
        step = family.steps[step.compensates_id]
    if family.before(step) or _by_people(family, job, step):
        return True
    line = list(_line(family, job))
    earlier = [one for one in family.steps.values() if one.job_id in line and family.before(one)]
    if any(one.tool == step.tool for one in earlier):
        return True
    plans = Plan.objects.filter(Q(before_untrusted=True) | Q(origin=Plan.Origin.PERSON), job_id__in=line)
    return any(one.get("tool") == step.tool for plan in plans for one in plan.steps)


def _by_people(family: _Family, job: Job, step: Step) -> bool:
    """Is it a step that a person's plan or workflow names, whose running was planned itself?"""
    if job.kind not in (Job.Kind.PLAN, Job.Kind.WORKFLOW) or step.proposed_by_id is not None:
        return False
    above = family.steps.get(job.parent_step_id) if job.parent_step_id else None
    if job.parent_step_id is None:
        return True
    if above is None or job.kind == Job.Kind.PLAN:
        return False
    parent = family.jobs.get(above.job_id)
    return parent is not None and _planned(family, parent, above)


def _line(family: _Family, job: Job) -> Iterable[UUID]:
    """The job, what it was forked from, and the jobs above."""
    waiting, seen = [job], set()
    while waiting:
        one = waiting.pop()
        if one.pk in seen:
            continue
        seen.add(one.pk)
        waiting += [family.jobs[key] for key in (one.parent_id, one.forked_from_id) if key in family.jobs]
    return seen


def _by_people_written(family: _Family, job: Job, step: Step) -> str:
    """Goals, inputs, plans, answers, reasons: what people wrote, also where they wrote this very call."""
    parts = [part for one in family.jobs.values() for part in _said(one)]
    parts += [_written(one) for one in family.steps.values() if _authored(family.jobs.get(one.job_id), one)]
    if _authored(job, step):
        parts.append(_written(step))
    answers = [one.pk for one in family.steps.values() if one.tool.startswith("human.")]
    said = Step.objects.filter(Q(pk__in=answers) | Q(pk__in=list(family.steps), error_code="denied"))
    for text, error, code in said.values_list("result__text", "error", "error_code"):
        parts += [str(text or ""), str(error or "") if code == "denied" else ""]
    plans = Plan.objects.filter(origin=Plan.Origin.PERSON, job_id__in=list(family.jobs))
    parts += [written(plan.steps) for plan in plans]
    return "\n".join(part for part in parts if part)


def _early(family: _Family) -> list[str]:
    """What was asked for before anything that others wrote was read."""
    parts = [_written(one) for one in family.steps.values() if family.before(one)]
    plans = Plan.objects.filter(before_untrusted=True, job_id__in=list(family.jobs))
    return [*parts, *(written(plan.steps) for plan in plans)]


def _written(step: Step) -> str:
    return written(step.arguments if step.template is None else step.template)


def _described(family: _Family, job: Job) -> list[Text]:
    """What the job's agent is told from the start: the words of tools by others, and of models that people admitted to
    the memory. Somebody let them in, nobody vouches for them."""
    texts: dict[str, Text] = {}
    for one in (family.jobs[pk] for pk in _line(family, job) if family.jobs[pk].led):
        profile = profiles.of(one)
        for tool in functions.offered(profile.tools) if profile is not None else ():
            if marks.foreign(tool) and tool.name not in texts:
                said = f"{tool.summary}\n{written(tool.schema)}"
                texts[tool.name] = Text(f"the description of {tool.name}", said)
        for memory in told(one):
            if memory.untrusted:
                texts[str(memory.id)] = Text(f"the memory {memory.id}", memory.line)
    return list(texts.values())


def _said(job: Job) -> list[str]:
    """What stood there when the job was submitted, where a person submitted it."""
    known = [job.owner.get_username()]
    if job.repository is not None:
        known += [job.repository.name, job.repository.default_branch, job.repository.url]
    if job.agent is not None:
        known += [job.agent.name, job.agent_version.definition.get("instructions", "") if job.agent_version else ""]
        known += [job.agent.instructions]
    if job.parent_id is None and not job.trigger.startswith((*BROUGHT, OFFER)):
        known += [job.goal, written(job.inputs)]
    return known


def _authored(job: Job | None, step: Step) -> bool:
    """Is it a step of a plan or workflow that a person wrote, and started?"""
    if job is None or step.proposed_by_id is not None or job.parent_id is not None or job.trigger.startswith(BROUGHT):
        return False
    return job.kind in (Job.Kind.PLAN, Job.Kind.WORKFLOW) and step.compensates_id is None and step.parent_id is None


def _untrusted(family: _Family) -> list[Text] | None:
    """The texts, by their steps; None where they are too much to look through."""
    names = {one.pk: f"{one.key} ({one.tool})" for one in family.sources}
    texts = [
        Text(f"what started the job ({job.trigger})", f"{job.goal}\n{written(job.inputs)}")
        for job in family.jobs.values()
        if job.trigger.startswith(BROUGHT)
    ]
    size = 0
    rows = Step.objects.filter(pk__in=list(names)).values_list("pk", "result", "error").iterator(chunk_size=50)
    items = MapItem.objects.filter(chunk_id__in=list(names)).values_list("chunk_id", "result", "error")
    for found in (rows, items.iterator(chunk_size=200)):
        for pk, result, error in found:
            text = _text(result, error)
            size += len(text)
            if size > TEXT_MAX:
                return None
            texts.append(_looked_through(names[pk], text) if len(text) <= KEPT_MAX else Text(names[pk], text))
    return texts


@lru_cache(maxsize=64)
def _looked_through(source: str, text: str) -> Text:
    """What one step brought in is looked in again by each call after it."""
    return Text(source, text)


def _text(result: Mapping[str, Any] | None, error: str) -> str:
    said = result or {}
    return "\n".join(
        part for part in (str(said.get("text") or ""), written(said.get("data")), said.get("summary"), error) if part
    )


def _fixed(tool: str) -> list[str]:
    """The arguments whose values the schema lists."""
    try:
        properties = registry.get(tool).schema.get("properties", {})
    except UnknownTool:
        return []
    return [name for name, one in properties.items() if isinstance(one, dict) and ("enum" in one or "const" in one)]
