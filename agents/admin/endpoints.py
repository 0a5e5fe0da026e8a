"""Model endpoints and routes."""

from typing import Any

from django import forms
from django.contrib import admin
from unfold.admin import ModelAdmin, TabularInline

from agents.models import Capability, ModelEndpoint, ModelRoute, RouteEntry
from tools.secrets.models import SecretHandle


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
        if not value.startswith(("https://", "http://")):
            raise forms.ValidationError("An address starts with https:// (or http:// for a server of your own).")
        if value.endswith("/chat/completions"):
            raise forms.ValidationError("Leave /chat/completions off: the address ends in /v1 or the like.")
        return value


@admin.register(ModelEndpoint)
class ModelEndpointAdmin(ModelAdmin):
    form = EndpointForm
    list_display = ["name", "model", "base_url", "prompt_price", "completion_price", "failures", "enabled"]
    list_filter = ["enabled", "scripted"]
    search_fields = ["name", "model", "base_url"]
    actions = ["close"]

    @admin.action(description="Ask it again at once (forget its failures)")
    def close(self, request: Any, queryset: Any) -> None:
        queryset.update(failures=0, open_until=None)


class RouteEntryInline(TabularInline):
    model = RouteEntry
    extra = 1


@admin.register(ModelRoute)
class ModelRouteAdmin(ModelAdmin):
    list_display = ["name", "strategy", "is_default"]
    search_fields = ["name"]
    inlines = [RouteEntryInline]
