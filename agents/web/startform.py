"""A form made from the JSON Schema of a workflow's inputs. It asks; `agents.submit` decides."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import User

from agents.models import Repository
from agents.selectors import visible_repositories

PREFIX = "in_"
_SHORT_MAX = 300


class StartForm(forms.Form):
    """Plain values get a field of their kind; lists of texts a line each; everything else is written as JSON."""

    repository = forms.ModelChoiceField(Repository.objects.none(), to_field_name="name", required=False)
    once = forms.CharField(max_length=64, widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, user: User, schema: Mapping[str, Any], wants: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._schema = schema
        repository: Any = self.fields["repository"]
        repository.queryset = visible_repositories(user)
        repository.required = wants == "required"
        repository.empty_label = None if wants == "required" else "none: an empty workspace"
        if wants == "none":
            del self.fields["repository"]
        self.fields["once"].initial = secrets.token_urlsafe(16)
        required = schema.get("required", [])
        for name, one in schema.get("properties", {}).items():
            self.fields[PREFIX + name] = _field(name, one if isinstance(one, Mapping) else {}, name in required)
        for name, field in self.fields.items():
            if self.is_bound and name in self.errors:
                field.widget.attrs["aria-invalid"] = "true"
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"{self[name].id_for_label}-hint"

    def payload(self, workflow: str, version: int) -> dict[str, Any]:
        """The valid form as `agents.payload.JobInput` describes it. Empty fields are left out, so that defaults apply; one
        that showed its default and was emptied is meant to be empty."""
        inputs: dict[str, Any] = {}
        for name, one in self._schema.get("properties", {}).items():
            value = self.cleaned_data[PREFIX + name]
            if value in (None, "") and one.get("default"):
                value = {"string": "", "array": []}.get(one.get("type"))
            elif value == "":
                value = None
            if value is not None:
                inputs[name] = value
        payload: dict[str, Any] = {"workflow": workflow, "version": version, "inputs": inputs}
        if self.cleaned_data.get("repository") is not None:
            payload["repository"] = self.cleaned_data["repository"].name
        return payload

    def idempotency_key(self, payload: Mapping[str, Any]) -> str:
        """The same form sent twice is one job."""
        once = self.cleaned_data["once"]
        return (
            f"form-{hashlib.sha256(json.dumps([once, payload], sort_keys=True).encode()).hexdigest()}" if once else ""
        )

    def tell(self, problems: Any) -> None:
        """Shows the server's problems at their fields."""
        for path, message in problems:
            top = path.removeprefix("inputs.").partition(".")[0].partition("[")[0]
            field = PREFIX + top if path.startswith("inputs.") else path
            self.add_error(field if field in self.fields else None, message)


class LinesField(forms.CharField):
    """A text a line."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.splitlines() if text else None

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class JsonField(forms.JSONField):
    """JSON, shown with line breaks."""

    def prepare_value(self, value: Any) -> Any:
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _field(name: str, schema: Mapping[str, Any], required: bool) -> forms.Field:
    kind, default = schema.get("type"), schema.get("default")
    common: dict[str, Any] = {
        "label": str(schema.get("title") or name),
        "help_text": str(schema.get("description", "")),
        "initial": default,
        "required": required and default is None,
    }
    if kind == "boolean":
        return forms.BooleanField(**{**common, "required": False})
    choices = schema.get("enum")
    if choices and all(isinstance(one, str) for one in choices):
        empty = [] if required or default is not None else [("", "—")]
        return forms.ChoiceField(choices=[*empty, *((one, one) for one in choices)], **common)
    if kind == "integer":
        return forms.IntegerField(**common)
    if kind == "number":
        return forms.FloatField(**common)
    if kind == "string":
        long = schema.get("maxLength", _SHORT_MAX + 1) > _SHORT_MAX
        return forms.CharField(strip=False, widget=forms.Textarea({"rows": 3}) if long else forms.TextInput(), **common)
    items = schema.get("items")
    if kind == "array" and isinstance(items, Mapping) and items.get("type") == "string":
        common["help_text"] = f"{common['help_text']} One a line.".strip()
        return LinesField(strip=False, widget=forms.Textarea({"rows": 3}), **common)
    common["help_text"] = f"{common['help_text']} As JSON.".strip()
    return JsonField(widget=forms.Textarea({"rows": 3}), **common)
