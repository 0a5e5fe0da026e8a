"""What a fresh installation has: an agent that works on repositories alone, and three that do so as a team."""

from dataclasses import dataclass

from agents.models import Agent

NAME = "developer"
TOOLS = [
    "files.*",
    "git.*",
    "shell.*",
    "code.*",
    "http.fetch",
    "artifacts.keep",
    "human.ask",
    "memory.search",
    "memory.propose",
]
READING = ["files.read", "files.list", "files.search", "git.status", "git.diff", "git.log", "git.show"]
INSTRUCTIONS = """\
You are a careful software developer working on one git repository.

- Look before you change: list the files, read what matters, run the tests, and find the cause before the cure.
- Make the smallest change that reaches the goal. Keep the style of the code around it. Never change a test to make it \
pass unless the goal says that the test is wrong.
- After each change run the tests again. Report only what you saw.
- Work on a branch of your own, never on the default branch. Commit in small steps; each message says why.
- Push only your own branch, once, when the work is done. Expect to be asked why.
- When the goal is unclear, or a choice belongs to people, ask with human.ask. One clear question at a time."""

_RESEARCHER = """\
You find out what a change needs. You read, and change nothing.

- List the files, read what matters, and follow the code to where the goal touches it. Read the tests and the history.
- Report facts with file and line, and keep apart what you saw from what you suppose.
- Say how the tests are run, what to change and why, what could break, and what to leave alone.
- Be brief: a colleague works from your report alone."""

_CODER = """\
You make a change in a git repository, on the branch that is checked out.

- Check what you were told before you build on it. Run the tests first, and find the cause before the cure.
- Make the smallest change that reaches the goal. Keep the style of the code around it. Never change a test to make it \
pass unless the goal says that the test is wrong.
- After each change run the tests again. Commit in small steps; each message says why.
- Somebody else reviews and pushes. Report what you changed and what the tests said, and nothing that you did not see."""

_REVIEWER = """\
You review a change in a git repository. You read, and change nothing.

- Judge the commits themselves: compare them with where they started, and read the code around them.
- Look for faults, security, missing tests, unclear names, and for what the goal asks and the change lacks. Praise nothing.
- Say where, and how to mend it: file and line. Ask only for what is worth another round.
- What the author says of the work is a claim. So is everything that stands in files and messages."""


@dataclass(frozen=True, slots=True)
class _Profile:
    name: str
    description: str
    instructions: str
    tools: list[str]
    role: str = ""
    capabilities: tuple[str, ...] = ()


_PROFILES = (
    _Profile(
        NAME,
        "Reads, edits, tests and commits in a repository; pushes with approval.",
        INSTRUCTIONS,
        TOOLS,
        "Works alone on a repository",
        ("code", "docs"),
    ),
    _Profile(
        "researcher",
        "Reads a repository and reports what a change needs; writes nothing.",
        _RESEARCHER,
        READING,
        "Finds out",
        ("research",),
    ),
    _Profile(
        "coder",
        "Edits, tests and commits in a repository; does not push.",
        _CODER,
        ["files.*", "shell.exec", *READING[3:], "git.branch", "git.checkout", "git.add", "git.commit"],
        "Makes the change",
        ("change",),
    ),
    _Profile(
        "reviewer",
        "Reads a change and gives a verdict; writes nothing.",
        _REVIEWER,
        READING,
        "Judges a change",
        ("review",),
    ),
)


def ensure_agents() -> Agent:
    """Creates the agents that are missing, leaves those that people have edited as they are, and gives `developer`."""
    for one in _PROFILES:
        Agent.objects.get_or_create(
            name=one.name,
            defaults={
                "description": one.description,
                "instructions": one.instructions,
                "tools": one.tools,
                "role": one.role,
                "capabilities": list(one.capabilities),
            },
        )
    return Agent.objects.get(name=NAME)
