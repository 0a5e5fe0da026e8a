"""Can what a rule asks for ever come together? Different people for every place, found by matching."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import Group, User

from approvals.models import PolicyRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One vote that must be given, by one of these people (primary keys)."""

    role: str
    people: frozenset[int]


def reachable(seats: Sequence[Seat], *, without: Collection[int] = ()) -> bool:
    """Do different people fit all seats, when `without` may not vote? (Kuhn's matching: seats are few.)"""
    return len(_seated(seats, frozenset(without))) == len(seats)


def missing(seats: Sequence[Seat], *, without: Collection[int] = ()) -> list[str]:
    """The roles of the seats that stay empty in a largest seating."""
    taken = set(_seated(seats, frozenset(without)).values())
    return [seat.role for place, seat in enumerate(seats) if place not in taken]


def seats_of(rule: PolicyRule, roles: Sequence[tuple[Group, int]], members: Mapping[int, frozenset[int]]) -> list[Seat]:
    """The votes that a rule asks for. members: the active members of each group that it names."""
    if rule.approvers is None:
        return []
    own = members.get(rule.approvers.pk, frozenset())
    if rule.escalate_to_id is not None:  # who may decide in the end as well
        own |= members.get(rule.escalate_to_id, frozenset())
    seats = [Seat(role=rule.approvers.name, people=own)] * rule.quorum
    for group, count in roles:
        seats += [Seat(role=group.name, people=members.get(group.pk, frozenset()))] * count
    return seats


def members_of(group_ids: Collection[int]) -> dict[int, frozenset[int]]:
    """The active members of these groups, by one query."""
    found: dict[int, set[int]] = {}
    pairs = User.objects.filter(is_active=True, groups__in=group_ids).values_list("groups", "pk")
    for group_id, user_id in pairs:
        if group_id in group_ids:
            found.setdefault(group_id, set()).add(user_id)
    return {group_id: frozenset(people) for group_id, people in found.items()}


def problem(rule: PolicyRule, roles: Sequence[tuple[Group, int]]) -> str:
    """Why this rule's quorum can never be reached, in a sentence; "" where it can.

    A rule that is about the calls of some owners only is asked as each of them in turn: nobody votes on a call of
    their own.
    """
    groups = {
        pk for pk in (rule.approvers_id, rule.escalate_to_id, *(group.pk for group, _ in roles)) if pk is not None
    }
    seats = seats_of(rule, roles, members_of(groups))
    lacking = missing(seats)
    if lacking:
        return _told(rule, seats, lacking)
    owners = _owners(rule)
    if owners and not any(reachable(seats, without=[owner]) for owner in owners):
        return "Everybody whose calls it is about is needed to approve them, and nobody approves their own."
    return ""


def warnings(rule: PolicyRule, roles: Sequence[tuple[Group, int]]) -> list[str]:
    """Whose calls could never be approved, though others' can."""
    groups = {
        pk for pk in (rule.approvers_id, rule.escalate_to_id, *(group.pk for group, _ in roles)) if pk is not None
    }
    seats = seats_of(rule, roles, members_of(groups))
    if not seats or not reachable(seats):
        return []
    voters = frozenset().union(*(seat.people for seat in seats))
    stuck = [person for person in voters if not reachable(seats, without=[person])]
    names = sorted(User.objects.filter(pk__in=stuck).values_list("username", flat=True))
    return [
        f"Calls of {name} can never be approved: {name} is needed, and nobody approves their own." for name in names
    ]


def _told(rule: PolicyRule, seats: Sequence[Seat], lacking: Sequence[str]) -> str:
    wanted: dict[str, int] = {}
    for seat in seats:
        wanted[seat.role] = wanted.get(seat.role, 0) + 1
    if len(wanted) == 1:
        ((group, count),) = wanted.items()
        have = len(seats[0].people)
        had = "nobody active" if not have else f"{have} active member{'s' if have != 1 else ''}"
        return f"It needs {count} to agree, and the group {group!r} has {had}."
    asked = " and ".join(f"{count} of {group!r}" for group, count in wanted.items())
    return f"It needs {asked}, all different people, and nobody is left for {', '.join(sorted(set(lacking)))}."


def _owners(rule: PolicyRule) -> list[int]:
    """The users whose calls alone the rule matches; empty where it names none, or patterns."""
    match = rule.match if isinstance(rule.match, dict) else {}
    names, groups = match.get("owners"), match.get("groups")
    found = User.objects.filter(is_active=True)
    for field, given in (("username__in", names), ("groups__name__in", groups)):
        if given is None:
            continue
        if not isinstance(given, list) or any(not isinstance(one, str) or "*" in one for one in given):
            return []
        found = found.filter(**{field: given})
    if names is None and groups is None:
        return []
    return list(found.order_by().values_list("pk", flat=True).distinct())


def _seated(seats: Sequence[Seat], without: frozenset[int]) -> dict[int, int]:
    """{person: seat}, as many seats as can be."""
    sits: dict[int, int] = {}
    for place in range(len(seats)):
        _find(place, seats, without, sits, set())
    return sits


def _find(place: int, seats: Sequence[Seat], without: frozenset[int], sits: dict[int, int], tried: set[int]) -> bool:
    for person in sorted(seats[place].people):
        if person in without or person in tried:
            continue
        tried.add(person)
        if person not in sits or _find(sits[person], seats, without, sits, tried):
            sits[person] = place
            return True
    return False
