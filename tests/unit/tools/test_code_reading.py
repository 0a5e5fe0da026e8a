"""What the readers make of programs' real output (recorded), and that hostile output is read in good time."""

import random
from pathlib import Path

import pytest

from tools.builtin.code import linting, testing
from tools.builtin.code.findings import Finding, Report, as_json, line_of, placed, together

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def places(report: Report) -> list[tuple[str, int]]:
    return [(one.file, one.line) for one in placed(report, ["/home/dev/shop"], ".").findings]


@pytest.mark.parametrize(
    ("name", "counts", "where"),
    [
        ("unittest", (1, 1, 1, 1), [("tests/test_money.py", 18), ("tests/test_money.py", 11)]),
        ("cargo_test", (1, 1, 0, 1), [("src/lib.rs", 16)]),
        ("cargo_broken", (0, 0, 1, 0), [("src/lib.rs", 1)]),
        ("go_test", (1, 1, 0, 1), [("money_test.go", 13)]),
        ("node_tap", (1, 1, 0, 1), [("test/a.test.js", 7)]),
        ("node_spec", (1, 1, 0, 1), [("test/a.test.js", 7)]),
        ("jest", (1, 1, 0, 1), [("test/a.test.js", 7)]),
        ("mocha", (1, 1, 0, 1), [("test/a.test.js", 7)]),
    ],
)
def test_what_a_test_program_prints_is_counted_and_placed(
    name: str, counts: tuple[int, int, int, int], where: list[tuple[str, int]]
):
    report = testing.script(recorded(f"{name}.txt"))
    assert (report.passed, report.failed, report.errors, report.skipped) == counts
    assert places(report) == where
    assert all(one.message and one.severity in ("failure", "error") for one in report.findings)
    assert report.counted is (name != "cargo_broken")


def test_go_packages_are_placed_by_their_module():
    report = testing.go(recorded("go_test.txt"), "example.org/shop")
    assert places(report) == [("money/money_test.go", 13)]
    assert report.findings[0].name == "example.org/shop/money.TestRounds/half"
    broken = testing.go(recorded("go_broken.txt"), "example.org/shop")
    assert places(broken) == [("money/b.go", 2)] and broken.errors == 1 and not broken.counted


def test_junit_is_read_without_a_tree_and_without_a_document_type():
    report = testing.junit(
        b'<testsuites><testsuite><testcase classname="tests.test_a" name="test_x" file="tests/test_a.py" line="3">'
        b'<failure message="assert 1 == 2">def test_x():\n&gt;  f()\n\ntests/test_a.py:5: \nsrc/a.py:9: AssertionError</failure>'
        b'</testcase><testcase classname="a" name="ok"/><testcase name="s"><skipped/></testcase></testsuite></testsuites>'
    )
    assert (report.counted, report.passed, report.failed, report.skipped) == (True, 1, 1, 1)
    assert report.findings == (
        Finding(
            file="tests/test_a.py", line=5, name="tests.test_a.test_x", message="assert 1 == 2", severity="failure"
        ),
    )
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><testsuites>&b;</testsuites>'
    for data in (bomb, b"", b"no xml", b"<a><b></a>", b"<testsuites>" * 100_000):
        assert not testing.junit(data).counted


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("flake8.txt", [("pkg/a.py", 1, "F401"), ("pkg/a.py", 2, "E302"), ("pkg/a.py", 3, "E271")]),
        ("mypy.txt", [("pkg/b.py", 2, "return-value")]),
        ("go_vet.txt", [("money/money.go", 6, "")]),
        ("ruff.txt", [("pkg/a.py", 1, "I001"), ("pkg/a.py", 1, "F401")]),
        ("eslint.json", [("src/a.js", 1, "no-unused-vars"), ("src/a.js", 2, "eqeqeq")]),
        ("eslint.txt", [("src/a.js", 1, "no-unused-vars"), ("src/a.js", 2, "eqeqeq")]),
        ("clippy.txt", [("src/lib.rs", 4, "unused_variables"), ("src/lib.rs", 2, "clippy::needless_return")]),
    ],
)
def test_what_a_linter_prints_is_placed(name: str, found: list[tuple[str, int, str]]):
    report = placed(linting.script(recorded(name)), ["/home/dev/shop"], ".")
    assert [(one.file, one.line, one.name) for one in report.findings] == found


def test_the_files_that_a_formatter_lists():
    said = (
        "unformatted: File would be reformatted\n --> pkg/a.py:2:1\n  |\n1 | import os\n2 +\n\n1 file would be reformatted\n"
        "would reformat /home/dev/shop/pkg/b.py\nOh no!\nWould reformat: c.py\nAll done! x\nsrc/a.js\n/x/src/lib.rs\n"
        "Checking formatting...\n[warn] src/b.js\n[warn] Code style issues found in the above file. Run Prettier.\n"
    )
    assert linting.files_of(said) == [
        "pkg/a.py", "/home/dev/shop/pkg/b.py", "c.py", "src/a.js", "/x/src/lib.rs", "src/b.js",
    ]  # fmt: skip


def test_a_finding_is_one_line_and_bounded():
    many = together(
        [Report(findings=(Finding(file="a.py", line=3, column=7, name="F401", message="x\ny" * 9000),))] * 300
    )
    kept = as_json(many.findings)
    assert len(kept) == 200 and all(len(one["message"]) <= 600 for one in kept)
    assert line_of(kept[0]) == "a.py:3:7: F401: x"
    assert placed(many, ["/x"], "sub").findings[0].file == "sub/a.py"


_PIECES = [
    "FAIL: x (y)\n", "=" * 70 + "\n", "-" * 70 + "\n", "test result: ok. 1 passed; 2 failed; 3 ignored;", "---- a stdout ----\n",
    "at (", "at ", "not ok 1 - x\n", "1..2\n", "  ● a\n", "Tests: 1 failed, 1 total\n", " Tests 1 a1 11 11 11 11 11 (9)\n",
    "  1) a:\n", "  3 passing\n", "test at a.js:1:2\n✖ b\n", "✖ failing tests:\n", "error: x\n --> a:1:2\n", '{"Action":"fail"}\n',
    '{"a":', "[{", "a.py:1:1: ", "\n", " ", "x", "(" * 50, "1 passed, " * 20, "[warn] ", ".", "/", "É", "\\", "'", "99999999999",
]  # fmt: skip


def test_hostile_output_is_read_in_good_time():
    chance = random.Random(11)
    readers = [testing.script, *testing.READERS.values(), *linting.READERS.values(), linting.files_of]
    texts = ["".join(chance.choice(_PIECES) for _ in range(chance.randrange(400))) for _ in range(60)]
    texts += [piece * (60_000 // len(piece)) for piece in _PIECES if "\n" in piece]
    texts += [piece * (1000 // len(piece)) for piece in _PIECES]
    for text in texts:
        for reader in readers:
            reader(text)
