"""When an agent goes round in circles."""

from agents.llm.stuck import Seen, stuck


def seen(call="git.status {}", result="OK\nclean", ok=True):
    return Seen(tool=call.split()[0], call=call, result=result, ok=ok)


def test_nothing_done_is_not_stuck():
    assert stuck([]) == ""


def test_the_same_call_with_the_same_result_four_times_is_stuck():
    assert stuck([seen()] * 3) == ""
    assert "same result" in stuck([seen()] * 4)


def test_a_result_that_changes_is_progress():
    assert stuck([seen(result=f"OK\n{n}") for n in range(8)]) == ""


def test_durations_are_no_progress():
    runs = [seen("shell.exec {}", f"OK\nRan 8 tests in 0.00{n}s") for n in range(4)]
    assert "same result" in stuck(runs)


def test_the_same_error_three_times_is_stuck_even_with_other_arguments():
    errors = [seen(f'files.read {{"path": "{n}"}}', "FAILED: no such file", ok=False) for n in range(3)]
    assert stuck(errors[:2]) == ""
    assert "same error" in stuck(errors)


def test_an_error_that_was_overcome_is_forgotten():
    assert stuck([seen(ok=False, result="FAILED: x")] * 2 + [seen("git.log {}")]) == ""


def test_six_calls_between_two_are_ping_pong():
    ping, pong = seen("files.read {}"), seen("git.log {}")
    assert stuck([ping, pong] * 2) == ""
    assert "alternate" in stuck([ping, pong] * 3)


def test_editing_and_testing_in_turn_is_work():
    rounds = [(seen(f"files.write {n}"), seen("shell.exec {}", f"FAILED: {n} errors", ok=False)) for n in range(5)]
    assert stuck([one for pair in rounds for one in pair]) == ""
