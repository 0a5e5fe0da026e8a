"""Forms of the pages on which versions are tried."""

import json
from typing import Any

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from approvals.admin.matchfields import listed
from approvals.errors import InvalidTrial
from approvals.policy import backtest, calls, recorded
from approvals.policy.inputs import PolicyInput

_CALL_TEXTS = ("agent", "owner", "repository", "branch", "environment", "now")
_LABELS = {"branch": "Default branch", "now": "Moment", "seen": "Labels that the job has seen"}
_HELP = {
    "now": "2026-03-02T10:00:00+01:00. Empty: now.",
    "groups": "Comma between.",
    "seen": "Comma between: private",
    "branch": "Of the repository. Empty: main.",
}


def _text(**more: Any) -> forms.CharField:
    return forms.CharField(required=False, widget=UnfoldAdminTextInputWidget(), **more)


class CallForm(forms.Form):
    """A call to try: an existing step, or tool, arguments and where it comes from."""

    step = _text(label="A step, by its id", help_text="As it was decided on; then nothing else is needed.")
    tool = _text(help_text="git.push")
    arguments = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "class": "font-mono"}),
        help_text='JSON: {"branch": "agent/rounding"}',
    )
    groups = _text(label="Owner's groups", help_text=_HELP["groups"])
    seen = _text(label=_LABELS["seen"], help_text=_HELP["seen"])
    first_use = forms.BooleanField(
        required=False, label="The agent's first use of this tool", widget=UnfoldBooleanWidget()
    )
    unplanned = forms.BooleanField(
        required=False, label="Planned only after it read what others wrote", widget=UnfoldBooleanWidget()
    )
    tainted = _text(label="Arguments with values from there", help_text="Places, comma between: url, network[0]")

    field_order = ["step", "tool", "arguments", *_CALL_TEXTS, "groups", "seen", "first_use", "unplanned", "tainted"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _CALL_TEXTS:
            self.fields[name] = _text(label=_LABELS.get(name), help_text=_HELP.get(name, ""))
        self.order_fields(self.field_order)
        self.given: PolicyInput | None = None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("step"):
            found = recorded.source().of([cleaned["step"].strip()])
            if not found:
                self.add_error("step", "There is no such step that was decided on.")
            else:
                self.given = found[0].inputs[0]
            return cleaned
        try:
            arguments = json.loads(cleaned.get("arguments") or "{}")
        except (ValueError, RecursionError) as error:
            self.add_error("arguments", f"This is no JSON: {error}")
            return cleaned
        if self.errors:
            return cleaned
        call: dict[str, Any] = {name: cleaned[name] for name in ("tool", *_CALL_TEXTS) if cleaned.get(name)}
        call |= {"arguments": arguments, "first_use": cleaned["first_use"]}
        call["unplanned"] = cleaned["unplanned"]
        call |= {name: listed(cleaned[name]) for name in ("groups", "seen", "tainted")}
        try:
            self.given = calls.made(call, now=timezone.now())
        except InvalidTrial as error:
            field = error.field.split(".")[0].split("[")[0]
            rest = error.field.removeprefix(field).lstrip(".")
            self.add_error(
                field if field in self.fields else None, f"{rest}: {error.message}" if rest else error.message
            )
        return cleaned


class DaysForm(forms.Form):
    days = forms.IntegerField(
        min_value=1, max_value=backtest.DAYS_MAX, initial=30, widget=UnfoldAdminIntegerFieldWidget(), label="Days"
    )


class NoteForm(forms.Form):
    note = forms.CharField(
        max_length=backtest.NOTE_MAX_CHARS,
        label="Why may these calls run?",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )


class SourceForm(forms.Form):
    """Rules as YAML. What is wrong with them the service tells, by line."""

    source = forms.CharField(
        label="YAML",
        max_length=256 * 1024,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 24, "spellcheck": "false", "class": "font-mono"}),
    )


class ImportForm(SourceForm):
    create_groups = forms.BooleanField(
        required=False, label="Make groups that are missing, without members", widget=UnfoldBooleanWidget()
    )
