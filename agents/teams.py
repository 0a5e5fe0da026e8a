"""Teams: agents that work for one goal. The lead plans and hands on; nobody but members gets a part."""

from django.db.models import Prefetch, Q, QuerySet

from agents.models import Agent, Job, Team, TeamMember

DELEGATE = "job.delegate"


def _able() -> QuerySet[TeamMember]:
    return TeamMember.objects.filter(agent__enabled=True).select_related("agent").order_by("pk")


def members(team: Team) -> list[TeamMember]:
    """Those that may get a part now, in the order in which they were added."""
    return list(_able().filter(team=team))


def every() -> QuerySet[Team]:
    """All teams; `team.members.all()` is what `members` says of each, read for all at once."""
    return Team.objects.select_related("lead").prefetch_related(Prefetch("members", queryset=_able()))


def of(agent: Agent) -> QuerySet[Team]:
    """Those that it leads or is a member of, by name."""
    return Team.objects.filter(Q(lead=agent) | Q(members__agent=agent)).distinct().order_by("name")


def may_have(job: Job, agent: Agent) -> bool:
    """May a job hand a part to this agent? A team's job only to its members; every other one to whom it likes."""
    return job.team_id is None or TeamMember.objects.filter(team_id=job.team_id, agent=agent).exists()


def told(job: Job) -> str:
    """What a lead reads of its team; "" where the job has none, or is a part that was handed on."""
    if job.team is None or job.parent_id is not None:
        return ""
    lines = [
        f"- {one.agent.name}"
        + (f" ({one.agent.role})" if one.agent.role else "")
        + f": {one.part or one.agent.description}"
        for one in members(job.team)
    ]
    return (
        f"\n\nYou lead the team {job.team.name}. Hand parts of the goal to its members with {DELEGATE}, by name, and to "
        "nobody else:\n" + "\n".join(lines)
    )
