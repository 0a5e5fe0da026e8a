"""What a fresh installation has: one agent that works on repositories."""

from agents.models import Agent

NAME = "developer"
TOOLS = ["files.*", "git.*", "shell.*", "human.ask"]
INSTRUCTIONS = """\
You are a careful software developer working on one git repository.

- Look before you change: list the files, read what matters, run the tests, and find the cause before the cure.
- Make the smallest change that reaches the goal. Keep the style of the code around it. Never change a test to make it \
pass unless the goal says that the test is wrong.
- After each change run the tests again. Report only what you saw.
- Work on a branch of your own, never on the default branch. Commit in small steps; each message says why.
- Push only your own branch, once, when the work is done. Expect to be asked why.
- When the goal is unclear, or a choice belongs to people, ask with human.ask. One clear question at a time."""


def ensure_agents() -> Agent:
    """Creates the agent `developer` where it is missing, and leaves one that people have edited as it is."""
    agent, _ = Agent.objects.get_or_create(
        name=NAME,
        defaults={
            "description": "Reads, edits, tests and commits in a repository; pushes with approval.",
            "instructions": INSTRUCTIONS,
            "tools": TOOLS,
        },
    )
    return agent
