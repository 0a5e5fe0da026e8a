"""A record as one sentence for people. What counts is the record; a sentence says no more than it does."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth import get_user_model

# {who} is the actor, {what} the target, the rest from the record's context.
_SENTENCES = {
    "job.submitted": "{who} submitted {what}",
    "job.finished": "{what} ended: {outcome}",
    "job.cancelled": "{who} cancelled {what}",
    "job.paused": "{who} paused {what}",
    "job.resumed": "{who} let {what} go on",
    "job.retried": "{who} retried {what}",
    "job.forked": "{who} forked {what}",
    "step.proposed": "{who} proposed {tool} as step {key}",
    "step.decided": "Policy said {outcome} to {tool} in step {key}{rule_words}",
    "step.dispatched": "{who} began {tool} in step {key}, attempt {attempt}",
    "step.confirmed": "{tool} in step {key} has happened",
    "step.failed": "{tool} in step {key} failed",
    "step.refused": "{tool} in step {key} was refused: {outcome}",
    "step.requeued": "{tool} in step {key} will run again: {outcome}",
    "step.in_doubt": "Nobody knows whether {tool} in step {key} happened",
    "step.answered": "{who} said of {tool} in step {key}: {outcome}",
    "step.cancelled": "{tool} in step {key} was cancelled",
    "step.skipped": "{tool} in step {key} was skipped",
    "step.edited": "{who} changed the arguments of {tool} in step {key}",
    "permit.refused": "A permit for step {key} was refused: {outcome}",
    "approval.requested": "{who} asked people about {tool}",
    "approval.voted": "{who} voted: {outcome}",
    "approval.refused": "{who} tried to vote and may not: {outcome}",
    "approval.closed": "A request was {outcome}",
    "glass.broken": "{who} broke the glass",
    "glass.reviewed": "{who} reviewed a broken glass: {outcome}",
    "grant.given": "{who} gave leave for alike calls",
    "grant.used": "A grant was used",
    "grant.revoked": "{who} revoked a grant",
    "policy.published": "{who} published the policy {policy}, version {version}",
    "policy.drafted": "{who} drafted the policy {policy}, version {version}",
    "policy.retired": "{who} took the policy {policy}, version {version}, out of force",
    "policy.proposed": "{who} proposed the policy {policy}, version {version}",
    "auth.signed_in": "{what} signed in",
    "auth.signed_out": "{what} signed out",
    "auth.failed": "Somebody failed to sign in as {what}",
    "token.created": "{who} made an API token",
    "token.revoked": "{who} revoked an API token",
    "token.used": "{who} used an API token",
    "secret.used": "{who} used the {what} in {tool}",
    "secret.rotated": "The {what} has another value than before",
    "tool.found": "{who} found the {what}, which nobody may use yet",
    "tool.changed": "The {what} is no longer as it was found before",
    "tool.enabled": "{who} let the {what} be used",
    "tool.disabled": "{who} took the {what} out of use",
    "mcp.server_changed": "{who} changed the {what}",
    "memory.proposed": "{who} proposed the {what}",
    "memory.admitted": "{who} admitted the {what}{rule_words}",
    "memory.rejected": "{who} rejected the {what}",
    "memory.forgotten": "{who} forgot the {what}",
    "admin.changed": "{who} {action} {what}",
    "log.opened": "The log was opened",
    "log.heartbeat": "The log is alive",
    "log.exported": "Somebody exported the log",
    "key.add": "A process was given a key",
    "payload.erased": "{who} erased values of a record",
}


def sentence(facts: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """names: of users, by their id, as `names_of` gives them."""
    context = facts.get("context") or {}
    event = str(facts["event"])
    values = _Missing({name: value for name, value in context.items() if isinstance(value, (str, int))})
    rule = f", by rule {context['rule']} of {context.get('policy', '')}" if context.get("rule") else ""
    values.update(
        who=who(facts["actor"], names),
        what=_what(facts["target"], names),
        outcome=str(facts["outcome"]),
        rule_words=rule,
    )
    template = _SENTENCES.get(event)
    if template is None:
        subject, _, verb = event.partition(".")
        template = f"{{who}}: {subject} {verb.replace('_', ' ')} ({{outcome}})"
    return " ".join(template.format_map(values).split())


def who(actor: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`ada`, `agent developer for ada`, `worker shell@host`."""
    identifier = str(actor["id"])
    if actor["type"] == "user":
        return names.get(identifier, f"user {identifier}")
    shown = f"{actor['type']} {identifier}"
    behalf = actor.get("on_behalf_of")
    return f"{shown} for {names.get(str(behalf), f'user {behalf}')}" if behalf else shown


def names_of(bodies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Names of all users that these records speak of, by id; the log itself holds ids alone."""
    wanted: set[str] = set()
    for facts in bodies:
        actor, target = facts["actor"], facts["target"]
        wanted |= {str(actor["id"])} if actor["type"] == "user" else set()
        wanted |= {str(actor["on_behalf_of"])} if actor.get("on_behalf_of") else set()
        wanted |= {str(target["id"])} if target["type"] == "user" else set()
    model = get_user_model()
    keys = [one for one in wanted if one.isascii() and one.isdigit() and len(one) < 10]
    return {str(user.pk): user.get_username() for user in model._default_manager.filter(pk__in=keys)}


def _what(target: Mapping[str, Any], names: Mapping[str, str]) -> str:
    identifier = str(target["id"])
    if target["type"] == "user":
        return names.get(identifier, f"user {identifier}")
    short = identifier if len(identifier) < 20 else f"{identifier[:8]}…"
    return f"{str(target['type']).replace('_', ' ').replace('.', ' ')} {short}"


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"
