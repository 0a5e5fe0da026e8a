"""Forms of the job pages. They ask; `agents.submit` decides."""

import hashlib
import json
import secrets
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import User

from agents.models import Agent, Job, Repository
from agents.payload import MAX_GOAL_CHARS
from agents.selectors import usable_agents, visible_repositories
from agents.states import JobState
from agents.submit import DEFAULT_AGENT

_PRIORITIES = [(number, str(number)) for number in range(10)]
_PRIORITIES[0] = (0, "0 · first")
_PRIORITIES[5] = (5, "5 · normal")
_PRIORITIES[9] = (9, "9 · last")


class JobForm(forms.Form):
    """A goal for an agent."""

    goal = forms.CharField(
        max_length=MAX_GOAL_CHARS,
        widget=forms.Textarea(attrs={"rows": 6, "autofocus": True}),
        help_text="What to reach, in words. Say what “done” means: the agent stops there.",
    )
    agent = forms.ModelChoiceField(Agent.objects.none(), to_field_name="name", empty_label=None)
    repository = forms.ModelChoiceField(
        Repository.objects.none(), to_field_name="name", required=False, empty_label="none: an empty workspace"
    )
    priority = forms.TypedChoiceField(choices=_PRIORITIES, coerce=int, initial=5)
    planning = forms.ChoiceField(
        choices=[("", "as the agent does"), *((one.value, one.label.lower()) for one in Agent.Planning)],
        required=False,
        label="How",
    )
    once = forms.CharField(max_length=64, widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agent"].queryset = usable_agents()  # type: ignore[attr-defined]
        self.fields["agent"].initial = DEFAULT_AGENT
        self.fields["repository"].queryset = visible_repositories(user)  # type: ignore[attr-defined]
        self.fields["once"].initial = secrets.token_urlsafe(16)
        for name, field in self.fields.items():
            if self.is_bound and name in self.errors:
                field.widget.attrs["aria-invalid"] = "true"
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"{self[name].id_for_label}-hint"

    def payload(self) -> dict[str, Any]:
        """The valid form as `agents.payload.JobInput` describes it."""
        data = self.cleaned_data
        payload = {"goal": data["goal"], "agent": data["agent"].name, "priority": data["priority"]}
        if data["repository"] is not None:
            payload["repository"] = data["repository"].name
        if data["planning"]:
            payload["planning"] = data["planning"]
        return payload

    def idempotency_key(self) -> str:
        """The same form sent twice is one job; changed and sent again it is another."""
        text = json.dumps([self.cleaned_data["once"], self.payload()], sort_keys=True)
        return f"form-{hashlib.sha256(text.encode()).hexdigest()}" if self.cleaned_data["once"] else ""


class JobFilter(forms.Form):
    """What the list of jobs is narrowed to."""

    KINDS: ClassVar[list[tuple[str, str]]] = [
        ("", "All jobs"),
        (Job.Kind.GOAL, "Goals"),
        (Job.Kind.PLAN, "Plans"),
        (Job.Kind.WORKFLOW, "Workflows"),
        (Job.Kind.CHAT, "Turns of conversations"),
    ]

    kind = forms.ChoiceField(choices=KINDS, required=False)
    state = forms.ChoiceField(choices=[("", "all"), *JobState.choices], required=False)
    q = forms.CharField(max_length=200, required=False, strip=True)
