"""Model endpoints and routes."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from agents.llm.checking import address_problem, key_problem, route_problem
from agents.models import Capability, ModelEndpoint, ModelRoute, RouteEntry
from tools.secrets.models import SecretHandle

AT_LEAST_ONE = ("context_tokens", "output_tokens", "max_running", "calls_a_minute", "tokens_a_minute", "dimensions")
PRICES = ("prompt_price", "cached_price", "completion_price")


class EndpointForm(forms.ModelForm):
    capabilities = forms.MultipleChoiceField(choices=Capability.choices, widget=forms.CheckboxSelectMultiple)
    key = forms.ChoiceField(required=False, help_text="The secret handle of its key. The value is never kept here.")

    class Meta:
        model = ModelEndpoint
        exclude = ["failures", "open_until"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = list(SecretHandle.objects.order_by("name").values_list("name", flat=True))
        kept = self.instance.key
        names += [kept] if kept and kept not in names else []
        field = self.fields["key"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "none"), *((name, name) for name in names)]

    def clean_base_url(self) -> str:
        value = str(self.cleaned_data["base_url"]).strip().rstrip("/")
        problem = address_problem(value)
        if problem:
            raise forms.ValidationError(problem)
        return value

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in AT_LEAST_ONE:
            if cleaned.get(name) == 0:
                self.add_error(name, "At least 1. Take the mark off “enabled” to have it left alone.")
        for name in PRICES:
            if (cleaned.get(name) or 0) < 0:
                self.add_error(name, "A price is not negative.")
        if cleaned.get("key") and cleaned.get("base_url"):
            problem = key_problem(cleaned["key"], cleaned["base_url"])
            if problem:
                self.add_error("key", problem)
        return cleaned


@admin.register(ModelEndpoint)
class ModelEndpointAdmin(ModelAdmin):
    form = EndpointForm
    list_display = [
        "name",
        "model",
        "base_url",
        "prompt_price",
        "completion_price",
        "failures",
        "open_until",
        "enabled",
    ]
    list_filter = ["enabled", "scripted"]
    search_fields = ["name", "model", "base_url"]
    actions = ["close"]

    def save_model(self, request: HttpRequest, obj: ModelEndpoint, form: forms.ModelForm, change: bool) -> None:
        """Whoever saves it has looked at it: it is asked again at once."""
        obj.failures, obj.open_until = 0, None
        super().save_model(request, obj, form, change)
        if not obj.prompt_price and not obj.completion_price and not obj.scripted:
            text = f"{obj.name} has no prices: what is asked there costs nothing, and limits in dollars do not hold it."
            messages.info(request, text)
        if not RouteEntry.objects.filter(endpoint=obj).exists() and Capability.CHAT in obj.capabilities:
            messages.info(request, f"No route names {obj.name} yet: until one does, no job asks it.")

    @admin.action(description="Ask it again at once (forget its failures)")
    def close(self, request: HttpRequest, queryset: QuerySet[ModelEndpoint]) -> None:
        for one in queryset:
            self.log_change(request, one, "Asked again at once: its failures are forgotten.")
        queryset.update(failures=0, open_until=None)


class RouteForm(forms.ModelForm):
    class Meta:
        model = ModelRoute
        fields = ["name", "strategy", "is_default"]

    def clean_is_default(self) -> bool:
        wanted = bool(self.cleaned_data["is_default"])
        other = ModelRoute.objects.filter(is_default=True).exclude(pk=self.instance.pk).first() if wanted else None
        if other is not None:
            raise forms.ValidationError(f"{other.name} is the default route: take the mark off there first.")
        return wanted


class RouteEntryInline(TabularInline):
    model = RouteEntry
    extra = 1


@admin.register(ModelRoute)
class ModelRouteAdmin(ModelAdmin):
    form = RouteForm
    list_display = ["name", "strategy", "is_default"]
    search_fields = ["name"]
    inlines = [RouteEntryInline]

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        problem = route_problem(form.instance)
        if problem:
            messages.warning(request, problem)
