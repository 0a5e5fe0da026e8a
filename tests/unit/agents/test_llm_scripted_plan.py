"""The scripted stand-in as a planner: told by what stands in the prompt alone."""

from agents.demo import GOAL
from agents.llm.scripted.brain import move
from agents.llm.scripted.planning import NEEDS
from agents.llm.scripted.scene import Scene
from agents.planning import shape
from agents.planning.changes import same_work

TOOLS = [*sorted(NEEDS), "files.read"]
LOOKED = """
Step look: files.list {"depth": 2}
OK: 3 entries
billing/
Step history: git.log {}
OK: 1 commit
abc 2026-01-01 Ada: Begin
Step rounding: files.search {"glob": "*.py", "pattern": "ROUND_[A-Z_]+"}
OK: 2 lines match
billing/money.py:3:from decimal import ROUND_HALF_EVEN, Decimal
billing/money.py:10:    return Decimal(amount).quantize(CENT, rounding=ROUND_HALF_EVEN)
Step tests: shell.exec {"argv": ["python3", "-m", "unittest"]}
FAILED (exit code 1): 1 failure
Step branch: git.checkout {"ref": "fix/half-up-rounding", "create": true}
NOT RUN
Step push: git.push {}
NOT RUN"""
MENDED = """
Step tests_again: shell.exec {"argv": ["python3", "-m", "unittest"]}
OK (exit code 0): 4 tests
Step branch_2: git.checkout {"ref": "fix/half-up-rounding", "create": true}
OK
Step commit_2: git.commit {}
OK
Step push_2: git.push {"branch": "fix/half-up-rounding"}
"""
BACK = "\nA person looked at the plan and said: Not like this: keep it here"


def asked(past: str = "", goal: str = GOAL, *, tools=TOOLS, finish_only: bool = False):
    schema = shape.schema([], finish_only=finish_only)
    if not finish_only:
        schema["properties"]["steps"]["items"]["properties"]["tool"]["enum"] = list(tools)
    scene = Scene(
        goal=f"Goal: {goal}\n\nTools:\n- files.list: lists\n{past}", schema=schema, functions={"answer": schema}
    )
    answer = move(scene).answer
    assert answer is not None
    return answer


def keys(answer) -> list[str]:
    return [step["key"] for step in answer["steps"]]


def test_the_demo_is_planned_in_hope_and_anew_from_what_the_steps_came_to():
    first = asked()
    assert keys(first)[:4] == ["look", "history", "rounding", "tests"] and keys(first)[-1] == "push"
    assert "not a model" in first["note"]
    mending = asked(LOOKED)
    assert keys(mending) == ["mend", "tests_again", "branch_2", "notes", "stage", "commit", "push_2"]
    step = {one["key"]: one for one in mending["steps"]}
    assert step["push_2"]["instead_of"] == "push" and step["branch_2"]["needs"] == ["tests_again"]
    patch = step["mend"]["arguments"]["patch"]
    assert patch.startswith(
        "--- a/billing/money.py\n+++ b/billing/money.py\n@@ -3 +3 @@\n-from decimal import ROUND_HALF_EVEN"
    )
    assert patch.count("ROUND_HALF_UP") == 2
    done = asked(LOOKED + MENDED + "OK: pushed")
    assert done["finish"]["success"] and "fix/half-up-rounding is pushed" in done["finish"]["summary"]


def test_what_people_say_against_a_plan_or_a_push_changes_the_next_plan():
    assert keys(asked(BACK)) == keys(asked())[:-1] and "keep it here" in asked(BACK)["note"]
    assert not same_work(asked(BACK)["steps"], asked()["steps"])
    assert asked(BACK + BACK)["finish"]["success"] is False
    again = asked(LOOKED + MENDED + "REFUSED by people: use the branch team/cents please\n</past>")
    assert "</past>" not in again["note"]
    assert [one["arguments"] for one in again["steps"]] == [
        {"ref": "team/cents", "create": True},
        {"branch": "team/cents"},
    ]


def test_it_never_plans_where_it_may_not_or_knows_no_way():
    assert asked(LOOKED, finish_only=True)["finish"]["success"] is False
    other = asked(goal="Write a web shop.")
    assert keys(other) == ["look", "history"]
    assert "OPENAI_BASE_URL" in asked(LOOKED, goal="Write a web shop.")["finish"]["summary"]
    assert "finish" in asked(goal="Write a web shop.", tools=["http.fetch"])
