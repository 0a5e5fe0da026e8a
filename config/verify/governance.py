"""Policies, quorums, messages, reviews: does what people are to decide reach those who can?"""

from collections.abc import Iterator
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from approvals.models import BreakGlass, Notification, PolicyRule, PolicyVersion
from approvals.policy import match, reach
from config.verify.line import Line, failed, passed
from tools import registry

SKEW_MAX_S = 2.0
LATELY = timedelta(days=1)
SHOWN = 8


def _rules() -> list[PolicyRule]:
    published = PolicyRule.objects.filter(version__status=PolicyVersion.Status.PUBLISHED)
    return list(published.select_related("approvers", "version__policy").prefetch_related("roles__group"))


def tools_covered() -> Iterator[Line]:
    """Each tool is named by a rule: what no rule names is denied, which nobody may have meant."""
    rules = _rules()
    if not rules:
        yield failed("tools", "no policy is published, so every call is denied", "manage.py seed, or publish one.")
        return
    bare = [tool.name for tool in registry.every() if not any(match.matches(rule.tools, tool.name) for rule in rules)]
    if bare:
        named = _listed(sorted(bare))
        yield failed("tools", f"no rule names {named}: denied", "Add rules for them, or one that denies them in words.")
    else:
        yield passed("tools", f"all {len(registry.every())} are named by rules")


def quorums() -> Iterator[Line]:
    """Each rule that asks can come to its approvals with the people of today."""
    asking = [rule for rule in _rules() if rule.effect == PolicyRule.Effect.ASK]
    stuck = False
    for rule in asking:
        why = reach.problem(rule, [(role.group, role.count) for role in rule.roles.all()])
        if why:
            stuck = True
            yield failed(
                "quorum", f"{rule.version}, rule {rule.name}: {why}", "Add people to the group, or ask for fewer."
            )
    if not stuck:
        yield passed("quorum", f"{len(asking)} rules ask, and each can be answered")


def messages() -> Iterator[Line]:
    """What was given up of late."""
    lost = Notification.objects.filter(state=Notification.State.FAILED, request__created_at__gt=timezone.now() - LATELY)
    number = lost.count()
    if not number:
        yield passed("messages", "none was given up in the last day")
        return
    last = lost.order_by("-pk").first()
    said = f"{number} given up in the last day, the last by {last.channel}: {last.error}" if last else ""
    yield failed("messages", said[:300], "Mend the channel; the admin lists them under Notifications.")


def reviews() -> Iterator[Line]:
    """Approvals in an emergency that nobody has looked at in time."""
    late = BreakGlass.objects.filter(verdict=BreakGlass.Verdict.OPEN, review_by__lt=timezone.now()).count()
    if late:
        yield failed("reviews", f"{late} emergency approvals are past their review", "Review them: /approvals/.")
    else:
        yield passed("reviews", "no emergency approval is past its review")


def clocks() -> Iterator[Line]:
    """Links, leases and approvals end by the clock of whoever asks: they must agree."""
    with connection.cursor() as cursor:
        before = timezone.now()
        cursor.execute("SELECT clock_timestamp()")
        (there,) = cursor.fetchone()
        after = timezone.now()
    took_s = (after - before).total_seconds()
    apart_s = abs((there - (before + (after - before) / 2)).total_seconds())
    says = f"{apart_s:.3f} s from the database's (asked in {took_s:.3f} s)"
    if apart_s - took_s / 2 > SKEW_MAX_S:
        yield failed("clock", says, "Run an NTP client on this host and on the database's.")
    else:
        yield passed("clock", says)


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
