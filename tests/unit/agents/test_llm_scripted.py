"""The script of the demo reacts to what it reads: played here against a real clone, with people's answers given."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.demo import GOAL, repository
from agents.llm.names import from_wire, to_wire
from agents.llm.scripted import demo, scene, stream
from agents.llm.scripted.brain import move
from agents.llm.scripted.naming import named_branch
from agents.llm.scripted.notes import NOTES
from agents.llm.transcript import Ended, Made, Turn, messages

READING = {"files.list", "files.read", "git.log"}


class Stage:
    """Runs the script's calls in a clone of the sample. `people` answers each push: None approves, a text refuses."""

    def __init__(self, folder: Path, *, goal: str = GOAL, people: tuple[str | None, ...] = (None,)) -> None:
        self.remote = repository.create(folder)
        self.tree = folder / "tree"
        subprocess.run(["git", "clone", "--quiet", str(self.remote), str(self.tree)], check=True)
        for name, value in (("user.name", "Test"), ("user.email", "test@example.invalid")):
            subprocess.run(["git", "config", name, value], cwd=self.tree, check=True)
        self.goal, self.people = goal, list(people)
        self.turns: list[Turn] = []
        self.instead: dict[str, Callable[[dict[str, Any]], Ended]] = {}
        self.finish: dict[str, Any] | None = None

    def play(self, *, turns: int = 30) -> "Stage":
        for _ in range(turns):
            if not self.step():
                return self
        raise AssertionError("the script does not come to an end")

    def step(self) -> bool:
        functions = [{"type": "function", "function": {"name": to_wire(name), "parameters": {}}} for name in demo.NEEDS]
        talk = [{"role": "system", "content": "x"}, {"role": "user", "content": self.goal}, *messages(self.turns)]
        body = {"model": "scripted-demo", "messages": talk, "tools": functions}
        answer = stream.reply(move(scene.read(body)), model="scripted-demo", created=0, prompt="")
        if answer.calls[0].name == "finish":
            self.finish = json.loads(answer.calls[0].arguments)
            return False
        made, broken = [], False
        for call in answer.calls:
            name = from_wire(call.name, demo.NEEDS)
            assert name is not None
            arguments = json.loads(call.arguments)
            reason = arguments.pop("reason")
            ended = (
                Ended(state="skipped", error="Skipped: a step before it failed.")
                if broken
                else self.run(name, arguments)
            )
            broken = broken or (ended.state != "succeeded" and name not in READING)
            made.append(Made(id=call.id, name=name, arguments=arguments, reason=reason, ended=ended))
        self.turns.append(Turn(content=answer.words, calls=made))
        return True

    def run(self, name: str, arguments: dict[str, Any]) -> Ended:
        if name in self.instead:
            return self.instead[name](arguments)
        if name == "git.push":
            verdict = self.people.pop(0)
            if verdict is not None:
                return Ended(state="refused", error_code="denied", error=verdict)
            return self.command("git", "push", "origin", f"HEAD:refs/heads/{arguments['branch']}")
        if name == "files.read":
            path = self.tree / arguments["path"]
            return ok(path.read_text()) if path.exists() else Ended(state="failed", error="No such file.")
        if name == "files.write":
            (self.tree / arguments["path"]).write_text(arguments["content"])
            return ok("written")
        return self.command(
            *{
                "files.list": ["git", "ls-files"],
                "git.log": ["git", "log", "--format=%H %ad %an: %s (%D)", "--date=short"],
                "shell.exec": arguments.get("argv", []),
                "git.checkout": ["git", "checkout", "-b", arguments.get("ref", "")],
                "git.add": ["git", "add", "--", *arguments.get("paths", [])],
                "git.commit": ["git", "commit", "-m", arguments.get("message", "")],
            }[name]
        )

    def command(self, *argv: str) -> Ended:
        done = subprocess.run(argv, cwd=self.tree, capture_output=True, text=True, check=False)
        result = {"text": done.stdout + done.stderr, "exit_code": done.returncode}
        if done.returncode:
            return Ended(state="failed", error=f"exit code {done.returncode}", result=result)
        return Ended(state="succeeded", result=result)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.remote, capture_output=True, text=True, check=True)
        return done.stdout

    def branches(self) -> set[str]:
        return set(self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split())

    def names(self) -> list[str]:
        return [call.name for turn in self.turns for call in turn.calls]


def ok(text: str) -> Ended:
    return Ended(state="succeeded", result={"text": text})


def test_it_finds_the_bug_mends_it_and_pushes_a_branch_that_passes(tmp_path):
    stage = Stage(tmp_path).play()
    assert stage.finish is not None and stage.finish["success"]
    assert stage.branches() == {"main", demo.BRANCH}
    diff = stage.git("diff", "main", demo.BRANCH, "--", "billing", "tests")
    assert diff.count("\n+") - 1 == diff.count("\n-") - 1 == 2
    assert "ROUND_HALF_UP" in diff
    assert subprocess.run(demo.TESTS, cwd=stage.tree, capture_output=True, check=False).returncode == 0


def test_it_looks_before_it_changes_and_tests_before_and_after(tmp_path):
    names = Stage(tmp_path).play().names()
    edit = names.index("files.write")
    assert names[:2] == ["files.list", "git.log"]
    assert "shell.exec" in names[:edit] and names.count("files.read") == 2
    assert names[edit + 1] == "shell.exec"


def test_the_notes_name_the_fix_and_every_commit(tmp_path):
    stage = Stage(tmp_path).play()
    notes = stage.git("show", f"{demo.BRANCH}:{NOTES}")
    assert "billing/money.py" in notes
    for subject in stage.git("log", "--format=%s", "main").splitlines():
        assert subject in notes
    assert "scripted" in notes


def test_a_refusal_that_names_a_branch_is_followed(tmp_path):
    stage = Stage(tmp_path, people=("Please use the branch `hotfix/cents`.", None)).play()
    assert stage.finish is not None and stage.finish["success"]
    assert stage.branches() == {"main", "hotfix/cents"}
    assert "1 refusal" in stage.finish["summary"]


def test_a_refusal_without_a_branch_goes_on_record_and_to_review(tmp_path):
    stage = Stage(tmp_path, people=("Not before somebody has read it.", None)).play()
    assert stage.finish is not None and stage.finish["success"]
    branch = f"review/{demo.TOPIC}"
    assert stage.branches() == {"main", branch}
    assert "Not before somebody has read it." in stage.git("show", f"{branch}:{NOTES}")


def test_a_branch_that_people_chose_stays_when_they_refuse_again_for_another_reason(tmp_path):
    stage = Stage(tmp_path, people=("Use fix/BILL-42", "Say who reported it.", None)).play()
    assert (stage.finish or {})["success"]
    assert stage.branches() == {"main", "fix/BILL-42"}
    assert "Say who reported it." in stage.git("show", f"fix/BILL-42:{NOTES}")


def test_a_push_that_policy_refuses_is_offered_once_for_review_and_then_left(tmp_path):
    stage = Stage(tmp_path)
    stage.instead["git.push"] = lambda _: Ended(state="refused", error_code="policy_denied", error="Not from here.")
    assert not (stage.play().finish or {})["success"]
    pushes = [call.arguments["branch"] for turn in stage.turns for call in turn.calls if call.name == "git.push"]
    assert pushes == [demo.BRANCH, f"review/{demo.TOPIC}"]


def test_after_three_refusals_it_stops_and_says_so(tmp_path):
    stage = Stage(tmp_path, people=("No.", "Still no.", "Never.")).play()
    assert stage.finish is not None and not stage.finish["success"]
    assert "Never." in stage.finish["summary"] and "not pushed" in stage.finish["summary"]
    assert stage.branches() == {"main"}
    pushed = [call.arguments for turn in stage.turns for call in turn.calls if call.name == "git.push"]
    assert len({one["branch"] for one in pushed}) == 3


def test_nobody_answering_ends_it(tmp_path):
    stage = Stage(tmp_path)
    stage.instead["git.push"] = lambda _: Ended(state="refused", error_code="approval_expired")
    assert not (stage.play().finish or {})["success"]


def test_a_name_that_the_remote_has_already_is_answered_by_another(tmp_path):
    stage = Stage(tmp_path, people=(None, None))
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", str(stage.remote), str(other)], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "Theirs"], cwd=other, check=True)
    subprocess.run(["git", "push", "--quiet", "origin", f"HEAD:{demo.BRANCH}"], cwd=other, check=True)
    assert (stage.play().finish or {})["success"]
    assert stage.branches() == {"main", demo.BRANCH, f"{demo.BRANCH}-2"}


def test_tests_that_still_fail_after_the_edit_end_without_a_push(tmp_path):
    stage = Stage(tmp_path)
    test = stage.tree / "tests" / "test_money.py"
    test.write_text(test.read_text().replace('Decimal("2.68")', 'Decimal("9.99")'))
    assert not (stage.play().finish or {})["success"]
    assert "git.push" not in stage.names() and "git.commit" not in stage.names()


def test_tests_that_pass_already_need_no_edit(tmp_path):
    stage = Stage(tmp_path)
    money = stage.tree / "billing" / "money.py"
    money.write_text(money.read_text().replace("ROUND_HALF_EVEN", "ROUND_HALF_UP"))
    assert (stage.play().finish or {})["success"]
    assert [call.arguments["path"] for turn in stage.turns for call in turn.calls if call.name == "files.write"] == [
        NOTES
    ]


@pytest.mark.parametrize("name", ["shell.exec", "files.write", "git.checkout", "git.add", "git.commit"])
def test_a_call_that_policy_refuses_ends_the_job_honestly(tmp_path, name):
    stage = Stage(tmp_path)
    stage.instead[name] = lambda _: Ended(state="refused", error_code="policy_denied", error="Not here.")
    assert not (stage.play().finish or {})["success"]
    assert "Not here." in (stage.finish or {})["summary"]
    assert stage.branches() == {"main"}


def test_a_file_shown_only_in_part_is_not_edited(tmp_path):
    stage = Stage(tmp_path)
    money = stage.tree / "billing" / "money.py"
    money.write_text(money.read_text() + "# " + "x" * 60_000 + "\n")
    assert not (stage.play().finish or {})["success"]
    assert "files.write" not in stage.names()


def test_a_file_longer_than_one_reading_is_not_edited(tmp_path):
    stage = Stage(tmp_path)
    stage.instead["files.read"] = lambda asked: Ended(
        state="succeeded",
        result={
            "text": (stage.tree / asked["path"]).read_text(),
            "summary": f"{asked['path']}: lines 1 to 400 of 401",
        },
    )
    assert not (stage.play().finish or {})["success"]
    assert "files.write" not in stage.names()


def test_an_answer_that_was_sent_back_for_repair_is_forgotten(tmp_path):
    body = {
        "messages": [
            {"role": "user", "content": GOAL},
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "files__list", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "INVALID: The arguments are not valid JSON."},
        ]
    }
    seen = scene.read(body)
    assert seen.done == [] and seen.repairing


def test_another_goal_is_only_looked_at_and_says_how_to_get_a_model(tmp_path):
    stage = Stage(tmp_path, goal="Write a web shop.").play()
    assert stage.finish is not None and not stage.finish["success"]
    assert "scripted" in stage.finish["summary"] and "OPENAI_BASE_URL" in stage.finish["summary"]
    assert set(stage.names()) <= READING


def test_the_goal_is_known_however_it_is_typed(tmp_path):
    stage = Stage(tmp_path, goal="  Make the tests pass, write the release notes, push. ")
    assert stage.step() and stage.step()
    assert "shell.exec" in stage.names()


def test_every_text_names_itself_scripted_at_the_start_and_at_the_end(tmp_path):
    stage = Stage(tmp_path).play()
    assert "scripted" in stage.turns[0].content
    assert "scripted" in (stage.finish or {})["summary"]


@pytest.mark.parametrize(
    ("reason", "branch"),
    [
        ("Push it to release/1.2 instead.", "release/1.2"),
        ("Use 'hotfix' please", "hotfix"),
        ("Please put it on a branch called rounding-fix.", "rounding-fix"),
        ("Only branches under team/billing/, please", f"team/billing/{demo.TOPIC}"),
        ("Put it under review/", f"review/{demo.TOPIC}"),
        ("Not fix/half-up-rounding: take hotfix/cents", "hotfix/cents"),
        ("Never push to `main`!", None),
        ("The branch is wrong.", None),
        ("Fix billing/money.py and/or README.md first", None),
        ("See https://example.invalid/rules/push", None),
        ("No.", None),
        ("", None),
    ],
)
def test_the_branch_that_a_reason_names(reason, branch):
    assert named_branch(reason, leaf=demo.TOPIC, used={demo.BRANCH}) == branch
