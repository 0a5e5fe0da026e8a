"""What has been collected of what a request needs: so many of its group, and so many of each further role.

A person counts once: who is in two of the groups takes one seat. Which one is a matching of people to seats, so that no
order of votes keeps a quorum from being complete that the same people could fill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from approvals.eligibility import counts_for
from approvals.models import ApprovalRequest, Vote

APPROVE = Vote.Verdict.APPROVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """name: of the group; needed: different people of it; who: names of those whose approval counts for it now."""

    name: str
    needed: int
    who: tuple[str, ...]

    @property
    def have(self) -> int:
        return len(self.who)

    @property
    def missing(self) -> int:
        return self.needed - self.have


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """roles: the request's own group first; lapsed: names of voters whose approval counts for nothing any more."""

    roles: tuple[Role, ...]
    lapsed: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        return sum(role.needed for role in self.roles)

    @property
    def have(self) -> int:
        return sum(role.have for role in self.roles)

    @property
    def complete(self) -> bool:
        return all(role.have >= role.needed for role in self.roles)

    @property
    def words(self) -> str:
        """`1 of 2 from sre, 0 of 1 from owners`."""
        return ", ".join(f"{role.have} of {role.needed} from {role.name}" for role in self.roles)

    @property
    def missing(self) -> str:
        """`1 more from sre and 1 more from owners`; "" where nothing is."""
        return " and ".join(f"{role.missing} more from {role.name}" for role in self.roles if role.missing > 0)


def standing(request: ApprovalRequest) -> Standing:
    """Whose approvals count for which role, as things stand now."""
    seats = _seats(request)
    votes = list(
        Vote.objects.filter(request=request, verdict=APPROVE, withdrawn_at=None)
        .select_related("user", "on_behalf_of")
        .order_by("at", "pk")
    )
    people: dict[int, frozenset[int]] = {}
    names: dict[int, str] = {}
    lapsed = []
    for vote in votes:
        person = vote.on_behalf_of_id or vote.user_id
        name = vote.user.get_username()
        if vote.on_behalf_of is not None:
            name = f"{name} for {vote.on_behalf_of.get_username()}"
        counted = counts_for(request, vote)
        if counted and person not in people:
            people[person], names[person] = counted, name
        elif not counted:
            lapsed.append(name)
    taken = match([accepted for _, accepted in seats], people)
    roles: dict[str, list[str]] = {}
    needed: dict[str, int] = {}
    for place, (role, _) in enumerate(seats):
        needed[role] = needed.get(role, 0) + 1
        roles.setdefault(role, [])
        if place in taken:
            roles[role].append(names[taken[place]])
    return Standing(
        roles=tuple(Role(name=role, needed=needed[role], who=tuple(who)) for role, who in roles.items()),
        lapsed=tuple(lapsed),
    )


def reachable(request: ApprovalRequest, people: Mapping[int, frozenset[int]]) -> bool:
    """Could these people ({user: groups that they count for}) fill every seat?"""
    seats = _seats(request)
    return len(match([accepted for _, accepted in seats], people)) == len(seats)


def match(seats: Sequence[frozenset[int]], people: Mapping[int, frozenset[int]]) -> dict[int, int]:
    """{place of the seat: person} with as many seats taken as can be, a person on one seat at most.

    seats: the groups whose members each accepts. Augmenting paths (Kuhn, 1955). Earlier people and seats come first.
    """
    taken: dict[int, int] = {}

    def seat(person: int, tried: set[int]) -> bool:
        for place, accepted in enumerate(seats):
            if place in tried or not accepted & people[person]:
                continue
            tried.add(place)
            if place not in taken or seat(taken[place], tried):
                taken[place] = person
                return True
        return False

    for person in people:
        seat(person, set())
    return taken


def _seats(request: ApprovalRequest) -> list[tuple[str, frozenset[int]]]:
    """(name of the role, groups whose members may take it), a row a person needed.

    Who it was escalated to stands in for the request's own group, not for further roles.
    """
    own = {request.approvers_id} if request.approvers_id is not None else set()
    if request.escalated_at is not None and request.escalate_to_id is not None:
        own.add(request.escalate_to_id)
    name = request.approvers.name if request.approvers is not None else ""
    seats = [(name, frozenset(own))] * request.quorum
    for role in request.roles:
        seats += [(str(role["name"]), frozenset({int(role["group"])}))] * int(role["count"])
    return seats
