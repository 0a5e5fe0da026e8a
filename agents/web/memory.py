"""The pages of memories: what is remembered, by whom and why; proposals to decide on."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agents.errors import InvalidInput, NotNow
from agents.memory import keeping, recall, vectors
from agents.memory.keeping import New, Place
from agents.memory.seen import may_admit_all, may_decide, scope_for, visible_memories, visible_memory
from agents.models import Agent, Memory, Repository
from agents.selectors import visible_jobs, visible_repositories
from agents.web.views import page, who
from agents.web.words import digits

PAGE_SIZE = 25
FOUND_MOST = 50
ALIKE = 5
DONE = {"admit": "Admitted: later jobs recall it.", "reject": "Rejected.", "forget": "Forgotten: its words are gone."}


class MemoryForm(forms.Form):
    """A person's own words."""

    kind = forms.ChoiceField(choices=[(Memory.Kind.FACT, "a fact: what is so"), (Memory.Kind.LESSON, "a lesson")])
    text = forms.CharField(
        max_length=keeping.TEXT_MAX,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One thing, that stands for itself. No secrets: agents are told it.",
    )
    repository = forms.ModelChoiceField(
        Repository.objects.none(), to_field_name="name", required=False, empty_label="none: all of my own jobs"
    )
    agent = forms.ModelChoiceField(Agent.objects.none(), to_field_name="name", required=False, empty_label="any")
    expires_days = forms.IntegerField(
        required=False, min_value=1, max_value=keeping.EXPIRES_MAX_DAYS, label="Forget after (days)"
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["repository"].queryset = visible_repositories(user)  # type: ignore[attr-defined]
        self.fields["agent"].queryset = Agent.objects.filter(enabled=True)  # type: ignore[attr-defined]
        if may_admit_all(user):
            self.fields["everybody"] = forms.BooleanField(required=False, label="For everybody's jobs")
        for name, field in self.fields.items():
            if self.is_bound and name in self.errors:
                field.widget.attrs["aria-invalid"] = "true"


@page
@require_safe
def memories(request: HttpRequest) -> HttpResponse:
    user = who(request)
    asked = (request.GET.get(one, "").replace("\0", "")[:200] for one in ("state", "kind", "repository", "agent", "q"))
    state, kind, name, agent, query = asked
    state = state if state in Memory.State.values else Memory.State.ADMITTED
    kind = kind if kind in Memory.Kind.values else ""
    query = query.strip()
    mine = visible_memories(user)
    if name:
        mine = mine.filter(repository__name=name)
    if agent:
        mine = mine.filter(agent__name=agent)
    counts = dict(mine.order_by().values_list("state").annotate(count=Count("pk")))
    shown = mine.filter(state=state, **({"kind": kind} if kind else {}))
    found: list[Memory] | None = _found(query, shown) if query and state == Memory.State.ADMITTED else None
    if query and found is None:
        shown = shown.filter(text__icontains=query)
    paginator = Paginator(found if found is not None else shown.order_by("-created_at", "-pk"), PAGE_SIZE)
    current = paginator.get_page(request.GET.get("page"))
    kept = request.GET.copy()
    kept.pop("page", None)
    return render(
        request,
        "agents/memory.html",
        {
            "tab": "memory",
            "state": state,
            "kind": kind,
            "name": name,
            "agent": agent,
            "q": query,
            "states": [(value, label, counts.get(value, 0)) for value, label in Memory.State.choices],
            "kinds": Memory.Kind.choices,
            "repositories": visible_repositories(user).order_by("name").values_list("name", flat=True)[:200],
            "agents": Agent.objects.filter(memories__in=visible_memories(user))
            .distinct()
            .values_list("name", flat=True),
            "page": current,
            "lines": [(one, may_decide(user, one)) for one in current],
            "kept": kept.urlencode(),
            "asked": request.GET.urlencode(),
            "vectors": vectors.available(),
        },
    )


@page
@require_safe
def memory(request: HttpRequest, memory_id: UUID) -> HttpResponse:
    user = who(request)
    one = visible_memory(user, memory_id)
    near = recall.alike(one, scope_for(user), now=timezone.now(), limit=ALIKE)
    context = {
        "tab": "memory",
        "one": one,
        "job": visible_jobs(user).filter(pk=one.job_id).first() if one.job_id else None,
        "alike": near,
        "may": may_decide(user, one),
        "vectors": vectors.available(),
    }
    return render(request, "agents/memory_one.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = who(request)
    form = MemoryForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        try:
            made = _write(user, form.cleaned_data)
        except InvalidInput as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            told = "It is remembered." if made.state == Memory.State.ADMITTED else f"It is {made.state}."
            messages.success(request, told)
            return redirect("web:memory", memory_id=made.pk)
    return render(request, "agents/memory_new.html", {"tab": "memory", "form": form})


@page
@require_POST
def decide(request: HttpRequest, memory_id: UUID) -> HttpResponse:
    """`verdict`: admit, reject, forget, or `keep` with `days`; `list`: what the list asked for that it goes back to."""
    user, now = who(request), timezone.now()
    one = visible_memory(user, memory_id)
    verdict = request.POST.get("verdict", "")
    why = request.POST.get("why", "").replace("\0", "")
    try:
        if verdict == "keep":
            given = request.POST.get("days", "").strip()
            days = (digits(given) or -1) if given else None
            keeping.keep_until(one, days, by=user, now=now)
            messages.success(request, "Its time is set.")
        else:
            keeping.decide(one, verdict, by=user, why=why, now=now)
            messages.success(request, DONE[verdict])
    except (NotNow, InvalidInput) as error:
        messages.error(request, error.message)
    if "list" in request.POST:
        return redirect(f"{reverse('web:memories')}?{QueryDict(request.POST['list']).urlencode()}")
    return redirect("web:memory", memory_id=one.pk)


def _found(query: str, shown: QuerySet[Memory]) -> list[Memory]:
    """Of these, by words, and by spelling where that is how vectors were made; a page asks no model."""
    few = shown.order_by().distinct()
    agents = list(few.values_list("agent", flat=True)[:2])
    scope = recall.Scope(
        scopes=tuple(few.values_list("scope", flat=True)),
        agent_id=agents[0] if agents else None,
        any_agent=len(agents) > 1,
    )
    kinds = list(few.values_list("kind", flat=True))
    hits = recall.search(query, scope, vector=recall.lexical(query), now=timezone.now(), kinds=kinds, limit=FOUND_MOST)
    rows = {one.pk: one for one in shown.filter(pk__in=[hit.id for hit in hits])}
    return [rows[hit.id] for hit in hits if hit.id in rows]


def _write(user: User, given: dict[str, Any]) -> Memory:
    """Raises InvalidInput."""
    now = timezone.now()
    everybody = bool(given.get("everybody"))
    if everybody and given["repository"]:
        raise InvalidInput("Choose a repository or everybody, not both.", field="repository")
    place = Place(
        repository=given["repository"],
        owner=None if everybody or given["repository"] else user,
        agent=given["agent"],
    )
    written = New(
        kind=given["kind"],
        text=given["text"],
        place=place,
        origin=Memory.Origin.PERSON,
        key=keeping.key_of(place, given["text"]),
        untrusted=False,
        by=user,
        expires_at=keeping.expiry(given["expires_days"], now=now),
    )
    return keeping.write(written, by=user, now=now)
