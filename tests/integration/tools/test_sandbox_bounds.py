"""What a command may use, how it is ended, and that nothing of it stays."""

import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.ids import uuid7
from tests.integration.tools.test_sandbox_holds import commands_with, until
from tests.integration.tools.trial import STUBBORN
from tools.box import SandboxBox
from tools.errors import SandboxUnavailable, ToolRefused
from tools.sandbox import probe
from tools.spec import Completed, Limits, Workspace
from tools.workspaces import remove, workspace_for

Shell = Callable[..., Completed]


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    made = workspace_for(str(uuid7()))
    yield made
    remove(made.id)
    assert not made.root.exists()


def box(workspace: Workspace, *, limits: Limits | None = None, **more: object) -> SandboxBox:
    return SandboxBox(workspace, limits=limits or Limits(), call_id="test", **more)  # type: ignore[arg-type]


def python(box: SandboxBox, source: str, *arguments: str, **more: object) -> Completed:
    return box.run(["python3", "-c", source, *arguments], **more)  # type: ignore[arg-type]


def test_a_command_works_in_its_tree(forced_tier: str, workspace: Workspace) -> None:
    ended = box(workspace).run(["sh", "-c", 'cat; echo "$HOME" > here; cat here; pwd; exit 3'], stdin=b"given\n")
    assert ended.stdout == f"given\n{workspace.scratch}\n{workspace.tree}\n"
    assert (ended.exit_code, ended.signal, ended.ended_by, ended.tier) == (3, None, "", forced_tier)
    assert (workspace.tree / "here").stat().st_uid == workspace.tree.stat().st_uid
    assert ended.max_rss_bytes > 0


@pytest.mark.parametrize(("profile", "writable"), [("read", set()), ("build", {"tree"}), ("git", {"tree", "git_dir"})])
def test_a_profile_says_what_is_writable(
    profile: str, writable: set[str], forced_tier: str, workspace: Workspace
) -> None:
    for name in ("tree", "git_dir", "scratch"):
        folder = getattr(workspace, name)
        ended = box(workspace).run(["touch", str(folder / "new")], profile=profile)
        assert (folder / "new").exists() == (name in writable | {"scratch"}) == ended.ok
        assert box(workspace).run(["ls", str(folder)], profile=profile).ok
    assert box(workspace, read_only=True).run(["touch", "other"], profile=profile).exit_code == 1


def test_further_paths_are_readable_or_writable_as_asked(forced_tier: str, workspace: Workspace) -> None:
    other = workspace_for(str(uuid7()))
    try:
        for folder in (other.tree, other.scratch):
            folder.chmod(0o777)
            (folder / "file").write_text("there")
        other.root.chmod(0o755)
        command = ["sh", "-c", 'cat "$0/file" "$1/file"; echo x > "$1/new"; echo x > "$0/new"']
        argv = [*command, str(other.tree), str(other.scratch)]
        assert box(workspace).run(argv).stdout == ""
        ended = box(workspace).run(argv, extra_read=[other.tree], extra_write=[other.scratch])
        assert ended.stdout == "therethere"
        assert ended.exit_code != 0
        assert (other.scratch / "new").exists()
        assert not (other.tree / "new").exists()
    finally:
        remove(other.id)


def test_how_a_command_ends_is_told_alike_in_every_tier(forced_tier: str, workspace: Workspace) -> None:
    assert box(workspace).run(["sh", "-c", "kill -9 $$"]).signal == 9
    missing = box(workspace).run(["no-such-program"])
    assert missing.exit_code == 127
    assert "not found" in missing.stderr
    (workspace.tree / "data").write_text("no program")
    (workspace.tree / "data").chmod(0o644)
    assert box(workspace).run(["./data"]).exit_code == 126


def test_a_command_line_that_is_too_long_is_told_and_harms_nothing(forced_tier: str, workspace: Workspace) -> None:
    ended = box(workspace).run(["echo", *["x" * 100_000] * 40])
    assert ended.exit_code == 126
    assert "Argument list too long" in ended.stderr


def test_a_command_that_handles_sigterm_gets_a_grace(forced_tier: str, workspace: Workspace) -> None:
    ended = box(workspace).run(["sh", "-c", "trap 'echo bye; exit 7' TERM; sleep 60 & wait"], timeout_s=0.5)
    assert (ended.stdout, ended.exit_code, ended.ended_by) == ("bye\n", 7, "timeout")


def test_cancel_ends_the_whole_family_within_two_seconds(forced_tier: str, workspace: Workspace) -> None:
    mark = f"mark-{uuid.uuid4()}"
    cancelled_s = [math.inf]
    ready = threading.Event()

    def cancelled() -> bool:
        if ready.is_set():
            cancelled_s[0] = min(cancelled_s[0], time.monotonic())
        return ready.is_set()

    watching = box(workspace, cancelled=cancelled, on_output=lambda _, text: ready.set())
    ended = python(watching, STUBBORN, mark, "stay")
    took_s = time.monotonic() - cancelled_s[0]
    assert ended.ended_by == "cancelled"
    assert not commands_with(mark)
    assert took_s < 30


def test_daemons_go_when_the_command_ends_by_itself(forced_tier: str, workspace: Workspace) -> None:
    mark = f"mark-{uuid.uuid4()}"
    ended = python(box(workspace), STUBBORN, mark, "go")
    assert ended.stdout == "ready\n" or ended.stdout == ""
    assert (ended.exit_code, ended.ended_by) == (0, "")
    assert ended.duration_s < 30
    assert until(lambda: not commands_with(mark), 0.5)


def test_a_fork_bomb_meets_its_bound(forced_tier: str, workspace: Workspace) -> None:
    source = """
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
except BlockingIOError:
    print("bound", made)
"""
    ended = python(box(workspace, limits=Limits(processes=40)), source, timeout_s=60)
    assert ended.stdout.startswith("bound "), ended
    assert 20 <= int(ended.stdout.split()[1]) <= 40
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    started_s = time.monotonic()
    assert python(box(workspace, limits=Limits(processes=40)), bomb, timeout_s=1).ended_by == "timeout"
    assert time.monotonic() - started_s < 15


def test_memory_is_bounded_for_one_process_and_for_all_together(forced_tier: str, workspace: Workspace) -> None:
    limits = Limits(memory_bytes=200 << 20)
    alone = python(box(workspace, limits=limits), "x = bytearray(400 << 20)", timeout_s=60)
    assert not alone.ok
    assert "MemoryError" in alone.stderr or alone.ended_by == "memory"
    family = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        break
x = bytearray(b"x") * (60 << 20)
time.sleep(30)
"""
    together = python(box(workspace, limits=limits), family, timeout_s=60)
    assert together.ended_by == "memory"


def test_a_file_cannot_grow_past_its_bound(forced_tier: str, workspace: Workspace) -> None:
    ended = box(workspace, limits=Limits(file_size_bytes=1 << 20)).run(["sh", "-c", "head -c 5000000 /dev/zero > big"])
    assert not ended.ok
    assert (workspace.tree / "big").stat().st_size <= 1 << 20


def test_processor_time_is_bounded(forced_tier: str, workspace: Workspace) -> None:
    ended = box(workspace).run(["sh", "-c", "while :; do :; done"], timeout_s=1)
    assert ended.ended_by == "timeout"
    assert ended.cpu_s < 4


def test_what_is_left_out_of_the_output_is_counted_exactly(forced_tier: str, workspace: Workspace) -> None:
    limits = Limits(output_head_bytes=1000, output_tail_bytes=500)
    ended = python(box(workspace, limits=limits), "import sys; sys.stdout.write('a' * 5000 + 'b' * 5000)")
    assert ended.truncated_bytes == 8500
    assert ended.stdout == "a" * 1000 + "\n[... 8500 bytes left out ...]\n" + "b" * 500


def test_a_flood_of_output_ends_the_command_and_stays_a_trickle(forced_tier: str, workspace: Workspace) -> None:
    batches: list[str] = []
    flooded = box(workspace, on_output=lambda _, text: batches.append(text))
    started_s = time.monotonic()
    ended = flooded.run(["yes", "flood"], timeout_s=30)
    took_s = time.monotonic() - started_s
    assert ended.ended_by == "output_limit"
    assert len(ended.stdout) < 70_000
    assert ended.truncated_bytes > 8_000_000
    assert took_s < 20
    assert len(batches) <= 2 + took_s * 5
    assert max(map(len, batches)) < 20_000


def test_output_is_streamed_while_the_command_runs(forced_tier: str, workspace: Workspace) -> None:
    first = threading.Event()
    streaming = box(workspace, on_output=lambda _, text: first.set(), cancelled=first.is_set)
    ended = streaming.run(["sh", "-c", "echo now; sleep 60"], timeout_s=30)
    assert (ended.stdout, ended.ended_by) == ("now\n", "cancelled")


def test_an_error_in_the_log_sink_leaves_no_process(forced_tier: str, workspace: Workspace) -> None:
    mark = f"mark-{uuid.uuid4()}"

    def broken(stream: str, text: str) -> None:
        raise RuntimeError("the log is gone")

    with pytest.raises(RuntimeError):
        python(box(workspace, on_output=broken), STUBBORN, mark, "stay")
    assert not commands_with(mark)


def test_terminal_tricks_and_bytes_that_are_no_text_are_made_harmless(forced_tier: str, workspace: Workspace) -> None:
    raw = rb"\033[31mred\033[0m\000 \377 \033]0;title\007end\r\n\342\200\256evil"
    ended = box(workspace).run(["printf", raw.decode()])
    assert ended.stdout == "red \\xff end\n\\u202eevil"


def test_names_that_load_code_are_not_taken_into_the_environment(workspace: Workspace) -> None:
    for name in ("LD_PRELOAD", "PATH", "BASH_ENV", "PYTHONPATH", "NODE_OPTIONS", "A=B", ""):
        with pytest.raises(ToolRefused):
            box(workspace).run(["true"], env={name: "x"})
    assert box(workspace).run(["printenv", "APP"], env={"APP": "x"}).stdout == "x\n"


def test_the_working_directory_stays_inside(workspace: Workspace) -> None:
    (workspace.tree / "link").symlink_to("/etc")
    for folder in (Path("/etc"), Path("../.."), Path("link"), Path("missing")):
        with pytest.raises(ToolRefused):
            box(workspace).run(["pwd"], cwd=folder)


def test_many_commands_run_side_by_side(forced_tier: str, workspace: Workspace) -> None:
    results: list[Completed] = []

    def one(number: int) -> None:
        results.append(box(workspace).run(["sh", "-c", f"echo {number} > {number}; cat {number}"]))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.stdout for result in results) == [f"{number}\n" for number in range(8)]


def test_nothing_runs_where_no_tier_works(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIERS", ("no-such-tier",))
    probe.forget()
    try:
        with pytest.raises(SandboxUnavailable, match="nothing runs"):
            box(workspace).run(["touch", "ran"])
    finally:
        probe.forget()
    assert not (workspace.tree / "ran").exists()


def test_a_forced_tier_that_is_not_there_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_TIER", "chroot")
    with pytest.raises(SandboxUnavailable, match="no sandbox tier"):
        box(workspace).run(["true"])


def test_what_held_a_command_is_on_record(forced_tier: str, workspace: Workspace) -> None:
    limits = Limits(timeout_s=20.0, memory_bytes=64 << 20, processes=8, file_size_bytes=1 << 20, output_kill_bytes=999)
    held = box(workspace, limits=limits)
    held.run(["true"], profile="read", timeout_s=3.0)
    assert held.run(["id", "-u"], timeout_s=5.0).stdout == f"{held.record_sandbox()['uid']}\n"
    assert held.record_sandbox() == {
        "tier": forced_tier,
        "profiles": ["build", "read"],
        "uid": workspace.tree.stat().st_uid,
        "own_user": os.geteuid() == 0,
        "network": "none",
        "runs": 2,
        "limits": {
            "timeout_s": 5.0,
            "memory_bytes": 64 << 20,
            "processes": 8,
            "file_size_bytes": 1 << 20,
            "output_bytes": 999,
        },
    }
