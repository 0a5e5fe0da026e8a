"""Who decides a request, told to whoever looks at it: above all when that is somebody else, or nobody."""

from dataclasses import dataclass

from django.contrib.auth.models import User

from approvals.eligibility import counts_for, eligible_users
from approvals.models import ApprovalRequest, Vote
from approvals.quorum import reachable, standing

NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciders:
    """number: people who may decide now; others: for a reader whose own request it is, who decides it instead;
    stuck: why no approval can come about, "" where one can; advice: what to do about that."""

    number: int
    others: str = ""
    stuck: str = ""
    advice: str = ""


def deciders(request: ApprovalRequest, reader: User) -> Deciders:
    """For a request that is pending; of a question only the number is told."""
    eligible = eligible_users(request)
    if request.kind == ApprovalRequest.Kind.QUESTION:
        return Deciders(number=eligible.count())
    people = list(eligible.order_by("username"))
    names = [one.get_username() for one in people]
    own = reader.pk == request.requester_id or reader.pk in request.excluded_ids
    stuck = _stuck(request, people)
    return Deciders(
        number=len(names),
        others=_others(request, reader, names) if own and not stuck else "",
        stuck=stuck,
        advice=_advice(len(names)) if stuck else "",
    )


def _others(request: ApprovalRequest, reader: User, names: list[str]) -> str:
    yours = "You asked for this" if reader.pk == request.requester_id else "You took part in this"
    shown = names[:NAMES_SHOWN]
    more = len(names) - len(shown)
    who = _listed([*shown, f"{more} more"] if more else shown)
    needed = request.quorum + sum(int(role["count"]) for role in request.roles)
    each = f"{needed} of them must approve." if needed > 1 else "One of them is enough."
    return f"{yours}, so others decide: {who}." + (f" {each}" if len(names) > 1 else "")


def _stuck(request: ApprovalRequest, people: list[User]) -> str:
    number = len(people)
    # deputies add nobody: those in whose place they vote are counted themselves
    counted = {one.pk: counts_for(request, Vote(request=request, user=one)) for one in people}
    if reachable(request, counted):
        return ""
    if request.roles and number:
        seats = " and ".join(f"{role.needed} from {role.name}" for role in standing(request).roles)
        return (
            f"Too few different people may decide this: it needs {seats}, and only {_listed(_names(people))} may vote."
        )
    group = request.approvers.name if request.approvers is not None else ""
    if number:
        return (
            f"Too few people may decide this: it needs {request.quorum} approvals, and the group {group} has "
            f"{number} who may give one."
        )
    members = User.objects.filter(is_active=True, groups=request.approvers_id).order_by("username")
    names = list(members.values_list("username", flat=True)[: NAMES_SHOWN + 1]) if request.approvers_id else []
    if not names:
        return f"Nobody may decide this: the group {group} has no active member."
    if len(names) == 1:
        return f"Nobody may decide this: {names[0]} is the only member of {group} and asked for it or took part in it."
    return f"Nobody may decide this: all members of {group} asked for it or took part in it."


def _names(people: list[User]) -> list[str]:
    shown = [one.get_username() for one in people[:NAMES_SHOWN]]
    more = len(people) - len(shown)
    return [*shown, f"{more} more"] if more else shown


def _advice(number: int) -> str:
    until = "it can only be denied or expire" if number else "it can only expire"
    return f"Until an administrator adds somebody to the group, {until}. Or cancel the job."


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and 3 more`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
