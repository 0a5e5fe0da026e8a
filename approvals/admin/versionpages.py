"""The pages of a version beside its own: tried on a call, on past decisions, in shadow; compared; as YAML."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from approvals.admin.base import acting
from approvals.admin.rules import may_edit, may_see, move
from approvals.admin.trials import CallForm, DaysForm, NoteForm, SourceForm
from approvals.errors import ApprovalsError, InvalidPolicy, InvalidPolicyFile
from approvals.models import PolicyRule, PolicyVersion
from approvals.policy import backtest, comparing, importing, shadow, simulate, yamlform

DRAFT = PolicyVersion.Status.DRAFT
FIRST_SLICE_S = 2.0
View = Callable[..., HttpResponse]
PAGES = [
    ("change", "Rules"),
    ("simulate", "Simulate"),
    ("backtest", "Backtest"),
    ("shadow", "Shadow"),
    ("compare", "Compare"),
    ("source", "YAML"),
]


class Pages:
    """Views by name; `urls` wraps each so that only staff who may see policies come in."""

    def __init__(self, site: AdminSite) -> None:
        self._site = site

    def urls(self) -> list[URLPattern]:
        found = []
        for name in ("simulate", "backtest", "shadow", "compare", "source"):
            view = self._site.admin_view(self._checked(getattr(self, name)))
            found.append(path(f"<uuid:pk>/{name}/", view, name=f"approvals_policyversion_{name}_page"))
        mover = self._site.admin_view(self._checked(self.move))
        found.append(path("<uuid:pk>/move/<uuid:rule>/", mover, name="approvals_policyversion_move"))
        return found

    def _checked(self, view: View) -> View:
        def checked(request: HttpRequest, pk: UUID, **more: Any) -> HttpResponse:
            if not may_see(request):
                raise PermissionDenied
            version = PolicyVersion.objects.select_related("policy", "proposed_by").filter(pk=pk).first()
            if version is None:
                raise Http404
            return view(request, version, **more)

        return checked

    def simulate(self, request: HttpRequest, version: PolicyVersion) -> HttpResponse:
        """GET shows; with a call in the query, also what comes of it: nothing is changed."""
        form = CallForm(request.GET) if "tool" in request.GET or "step" in request.GET else CallForm()
        found = None
        if form.is_bound and form.is_valid() and form.given is not None:
            found = simulate.version(version, form.given)
        approvers = found.decision.approvers_id if found else None
        asked = Group.objects.filter(pk=approvers).first() if approvers else None
        return self._page(request, version, "simulate", form=form, found=found, asked=asked)

    def backtest(self, request: HttpRequest, version: PolicyVersion) -> HttpResponse:
        form, note = DaysForm(), NoteForm()
        if request.method == "POST" and "note" in request.POST:
            note = NoteForm(request.POST)
            if note.is_valid() and self._acknowledged(request, version, note.cleaned_data["note"]):
                return _to(version, "backtest")
        elif request.method == "POST":
            _needs_edit(request)
            form = DaysForm(request.POST)
            if form.is_valid():
                try:
                    backtest.start(version.pk, days=form.cleaned_data["days"], by=acting(request), now=timezone.now())
                    backtest.run(version.pk, seconds=FIRST_SLICE_S)
                except ApprovalsError as error:
                    messages.error(request, error.message)
                return _to(version, "backtest")
        return self._page(
            request,
            version,
            "backtest",
            form=form,
            note=note,
            state=version.backtest,
            stale=bool(version.backtest)
            and (version.backtest or {}).get("state") == "done"
            and not backtest.is_current(version),
            must_acknowledge=backtest.is_current(version) and backtest.must_acknowledge(version),
            may_acknowledge=request.user.has_perm("approvals.publish_policyversion"),
            percent=_percent(version.backtest or {}),
        )

    def _acknowledged(self, request: HttpRequest, version: PolicyVersion, note: str) -> bool:
        if not request.user.has_perm("approvals.publish_policyversion"):
            raise PermissionDenied
        try:
            backtest.acknowledge(version.pk, by=acting(request), note=note, now=timezone.now())
        except (ApprovalsError, ValueError) as error:
            messages.error(request, str(error))
            return False
        messages.success(request, "It stands in the log that you answer for these calls.")
        return True

    def shadow(self, request: HttpRequest, version: PolicyVersion) -> HttpResponse:
        if request.method == "POST":
            _needs_edit(request)
            try:
                if request.POST.get("what") == "stop":
                    shadow.stop(version.pk, by=acting(request))
                else:
                    shadow.start(version.pk, by=acting(request), now=timezone.now())
            except InvalidPolicy as error:
                for rule, message in error.problems:
                    messages.error(request, f"{rule}: {message}" if rule else message)
            except ApprovalsError as error:
                messages.error(request, error.message)
            return _to(version, "shadow")
        rows = Paginator(version.differences.all(), 50).get_page(request.GET.get("page"))
        return self._page(
            request, version, "shadow", rows=rows, state=version.shadow or {}, ends_at=shadow.ends_at(version)
        )

    def compare(self, request: HttpRequest, version: PolicyVersion) -> HttpResponse:
        others = version.policy.versions.exclude(pk=version.pk).select_related("policy").order_by("-number")
        wanted = request.GET.get("with", "")
        against = (
            others.filter(number=int(wanted)).first()
            if wanted.isascii() and wanted.isdigit() and len(wanted) < 9
            else None
        )
        if against is None:
            against = others.filter(status=PolicyVersion.Status.PUBLISHED).first() or others.first()
        changes = comparing.changes(against, version) if against is not None else []
        text = comparing.text(against, version) if against is not None else ""
        return self._page(
            request,
            version,
            "compare",
            others=others[:50],
            against=against,
            changes=changes,
            lines=[(_kind(line), line) for line in text.splitlines()],
        )

    def source(self, request: HttpRequest, version: PolicyVersion) -> HttpResponse:
        text = yamlform.dump(version)
        if "download" in request.GET:
            answer = HttpResponse(text, content_type="application/yaml; charset=utf-8")
            answer["Content-Disposition"] = f'attachment; filename="{version.policy.name}-{version.number}.yaml"'
            return answer
        form, problems = SourceForm(initial={"source": text}), []
        editable = version.status == DRAFT and may_edit(request)
        if request.method == "POST":
            if not editable:
                raise PermissionDenied
            form = SourceForm(request.POST)
            if form.is_valid():
                try:
                    importing.replace_by_yaml(version.pk, form.cleaned_data["source"], by=acting(request))
                except InvalidPolicyFile as error:
                    problems = list(error.problems) or [("", error.message)]
                except ApprovalsError as error:
                    problems = [("", error.message)]
                else:
                    messages.success(request, "The draft has these rules now.")
                    return _to(version, "source")
        return self._page(request, version, "source", form=form, problems=problems, editable=editable, text=text)

    def move(self, request: HttpRequest, version: PolicyVersion, rule: UUID) -> HttpResponse:
        found = PolicyRule.objects.select_related("version").filter(pk=rule, version=version).first()
        if request.method != "POST" or found is None:
            raise Http404
        if version.status != DRAFT or not may_edit(request):
            raise PermissionDenied
        move(found, up=request.POST.get("to") == "up", by=acting(request))
        return HttpResponseRedirect(f"{address(version, 'change')}#rule-{found.pk}")

    def _page(self, request: HttpRequest, version: PolicyVersion, name: str, **context: Any) -> HttpResponse:
        title = next(title for page, title in PAGES if page == name)
        given = {
            **self._site.each_context(request),
            **head(version, name),
            "title": f"{version}: {title}",
            "may_edit": may_edit(request) and version.status == DRAFT,
            **context,
        }
        return TemplateResponse(request, f"admin/approvals/policyversion/{name}.html", given)


def head(version: PolicyVersion, current: str) -> dict[str, Any]:
    """What the head of all of a version's pages shows."""
    pages = PAGES if version.status == DRAFT else [one for one in PAGES if one[0] not in ("backtest", "shadow")]
    return {
        "version": version,
        "pages": [
            {"href": address(version, name), "title": title, "current": name == current} for name, title in pages
        ],
        "policy_href": reverse("admin:approvals_policy_change", args=[version.policy_id]),
    }


def address(version: PolicyVersion, name: str) -> str:
    """The path of one of its pages."""
    suffix = "change" if name == "change" else f"{name}_page"
    return reverse(f"admin:approvals_policyversion_{suffix}", args=[version.pk])


def _to(version: PolicyVersion, name: str) -> HttpResponse:
    return HttpResponseRedirect(address(version, name))


def _needs_edit(request: HttpRequest) -> None:
    if not may_edit(request):
        raise PermissionDenied


def _percent(state: dict[str, Any]) -> int:
    return min(100, 100 * state.get("compared", 0) // max(1, state.get("total", 1)))


def _kind(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return "head"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")
