"""Out of office: who decides in whose place, and until when."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group, User
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from approvals import deputies as service
from approvals.errors import DecisionError
from approvals.models import Delegation
from approvals.web import base

OVER = 20


class DeputyForm(forms.Form):
    """From the first day's beginning to the last day's end, in UTC."""

    deputy = forms.CharField(max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off", "list": "people"}))
    first_day = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    last_day = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    groups = forms.ModelMultipleChoiceField(
        Group.objects.none(), required=False, widget=forms.CheckboxSelectMultiple, label="Only as a member of"
    )
    reason = forms.CharField(max_length=300, required=False)

    def __init__(self, *args: object, user: User, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["groups"].queryset = user.groups.order_by("name")  # type: ignore[attr-defined]

    def clean_deputy(self) -> User:
        found = User.objects.filter(username=self.cleaned_data["deputy"], is_active=True).first()
        if found is None:
            raise forms.ValidationError("There is no active user of this name.")
        return found

    def clean_last_day(self) -> date:
        day: date = self.cleaned_data["last_day"]
        if day == date.max:  # nothing comes after it
            raise forms.ValidationError(f"At most {service.LONGEST.days} days.")
        return day


@base.page(*base.BOTH)
def deputies(http: HttpRequest) -> HttpResponse:
    """Whose place one takes, who takes one's own; POST names a deputy."""
    user, now = base.user_of(http), timezone.now()
    today = now.astimezone(UTC).date()
    form = DeputyForm(
        http.POST if http.method == "POST" else None,
        user=user,
        initial={"first_day": today, "last_day": today + timedelta(days=7)},
    )
    if http.method == "POST" and form.is_valid():
        try:
            service.delegate(
                person=user,
                deputy=form.cleaned_data["deputy"],
                starts_at=max(now, _at(form.cleaned_data["first_day"])),
                ends_at=_at(form.cleaned_data["last_day"]) + timedelta(days=1),
                groups=form.cleaned_data["groups"],
                reason=form.cleaned_data["reason"],
                now=now,
            )
            messages.success(http, f"{form.cleaned_data['deputy'].get_username()} decides in your place.")
            return HttpResponseRedirect(reverse("deputies"), status=303)
        except DecisionError as refused:
            field = {"starts_at": "first_day", "ends_at": "last_day"}.get(
                str(refused.details.get("field", "")), str(refused.details.get("field", ""))
            )
            form.add_error(field if field in form.fields else None, refused.message)
    mine = Delegation.objects.filter(Q(person=user) | Q(deputy=user)).select_related("person", "deputy")
    mine = mine.prefetch_related("groups")
    context = {
        "form": form,
        "running": mine.filter(ends_at__gt=now, revoked_at=None).order_by("starts_at"),
        "over": mine.exclude(ends_at__gt=now, revoked_at=None).order_by("-ends_at")[:OVER],
        "now": now,
        "people": User.objects.filter(is_active=True, groups__in=user.groups.all())
        .exclude(pk=user.pk)
        .order_by("username")
        .distinct()[:200],
        **base.sections(http, "deputies"),
    }
    return render(http, "approvals/deputies.html", context, status=400 if form.errors else 200)


@base.page(*base.POSTED)
def revoke(http: HttpRequest, delegation_id: UUID) -> HttpResponse:
    try:
        service.revoke(delegation_id=delegation_id, by=base.user_of(http), now=timezone.now())
        messages.success(http, "Ended.")
    except DecisionError as refused:
        messages.error(http, refused.message)
    return HttpResponseRedirect(reverse("deputies"), status=303)


def _at(day: object) -> datetime:
    return datetime.combine(day, time.min, UTC)  # type: ignore[arg-type]
