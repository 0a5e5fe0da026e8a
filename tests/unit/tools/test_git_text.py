"""Names, paths, messages and git's output, without git."""

import pytest

from tools.builtin.git.refs import check_message, check_name, check_path, check_ref, is_full_id
from tools.builtin.git.text import bounded, diffstat, last_line, numstat, records, unquote
from tools.builtin.git.tool import typed
from tools.builtin.git.trailers import with_trailer
from tools.errors import InvalidArguments, ToolRefused


@pytest.mark.parametrize("name", ["main", "feature/a-b_c", "v1.0", "Ünïcode", "a.b", "x@y", "#12", "a=b", "1+1"])
def test_well_formed_names_pass(name: str):
    check_name(name, field="branch")
    check_ref(name, field="ref")


@pytest.mark.parametrize(
    "name",
    [
        "-x", "--upload-pack=x", "a/-x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "@", "HEAD", "@{u}",
        "a@{1}", "/a", "a/", "a//b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "refs/heads/x", "a\nb", "a\x00", "a\u202eb",
        "$(id)", "`id`", "a;b", "a|b", "a&b", "a'b", 'a"b', "a\u200bb", "",
    ],
)  # fmt: skip
def test_what_git_or_a_reader_could_misread_is_no_name(name: str):
    with pytest.raises(ToolRefused):
        check_name(name, field="branch")


@pytest.mark.parametrize("ref", ["HEAD", "HEAD~3", "main^2~1", "origin/main", "a" * 40, "v1.0^", "MERGE_HEAD"])
def test_commits_can_be_named_with_steps_behind_them(ref: str):
    check_ref(ref, field="ref")


@pytest.mark.parametrize(
    "ref", ["--all", "HEAD:file", ":/text", "HEAD^{tree}", "a..b", "^main", "HEAD@{1}", "~1", "main~x"]
)
def test_expressions_that_mean_more_than_a_commit_are_refused(ref: str):
    with pytest.raises(ToolRefused):
        check_ref(ref, field="ref")


@pytest.mark.parametrize(
    "path", [".", "a", "a/b.txt", "-rf", ":(top)x", "*", "a b", "..a", "a..b/c", ".gitignore", "git"]
)
def test_paths_inside_pass(path: str):
    check_path(path, field="paths")


@pytest.mark.parametrize(
    "path", ["/a", "..", "../a", "a/../b", ".git", "a/.git/b", ".GIT", ".git.", "GIT~1", "a\x00", "a\nb"]
)
def test_paths_outside_or_into_a_git_directory_are_refused(path: str):
    with pytest.raises(ToolRefused):
        check_path(path, field="paths")


def test_messages_are_text_without_our_trailers():
    check_message("Subject\n\nBody\twith a tab\r\nand a line")
    for blank in (" ", "\n\n"):
        with pytest.raises(InvalidArguments):
            check_message(blank)
    with pytest.raises(InvalidArguments):
        check_message("a\x1b[31mb")
    for forged in ("x\n\nCountersign-Step: 1", "countersign-step: 1", "x\n  COUNTERSIGN-Other: 1"):
        with pytest.raises(ToolRefused):
            check_message(forged)


@pytest.mark.parametrize(
    ("message", "whole"),
    [
        ("Subject", "Subject\n\nCountersign-Step: s1\n"),
        ("Subject\n\nBody: not quite\na trailer\n", "Subject\n\nBody: not quite\na trailer\n\nCountersign-Step: s1\n"),
        ("Subject\n\nSigned-off-by: A", "Subject\n\nSigned-off-by: A\nCountersign-Step: s1\n"),
        ("Fixes: x", "Fixes: x\n\nCountersign-Step: s1\n"),
        ("A\r\n\r\nB\r\n", "A\n\nB\n\nCountersign-Step: s1\n"),
    ],
)
def test_the_trailer_stands_in_the_last_paragraph(message: str, whole: str):
    assert with_trailer(message, "s1") == whole


@pytest.mark.parametrize(
    ("printed", "path"),
    [
        ("plain", "plain"),
        ('"tab\\there"', "tab\there"),
        ('"\\303\\274.txt"', "ü.txt"),
        ('"quo\\"te\\\\"', 'quo"te\\'),
        ('"\\377"', "\\xff"),
        ('"', '"'),
    ],
)
def test_quoted_paths_are_read_as_git_means_them(printed: str, path: str):
    assert unquote(printed) == path


def test_numstat_keeps_binaries_apart_and_skips_the_rest():
    entries = numstat(["1\t2\ta", "-\t-\tb.png", "[... 5 bytes left out ...]", "x\ty\tz", "3\t0\t"])
    assert entries == [{"path": "a", "added": 1, "removed": 2}, {"path": "b.png", "added": None, "removed": None}]
    assert diffstat(entries) == "2 files changed, 1 line added, 2 removed"


def test_bounded_text_says_what_is_missing():
    text = bounded("a" * 1000 + "z" * 1000, 400)
    assert text.startswith("a" * 300) and text.endswith("z" * 100)
    assert "1600 characters not shown" in text
    assert bounded("short", 400) == "short"


def test_a_record_cannot_be_forged_without_the_markers():
    layout, parse = records(("%H", "%s"))
    other, _ = records(("%H", "%s"))
    assert layout != other
    between = layout.removeprefix("%H").partition("%s")[0]
    end = layout.rpartition("%s")[2]
    assert list(parse(f"abc{between}one\n{other}{end}\ndef{between}two{end}\n")) == [
        ["abc", f"one {other}"],
        ["def", "two"],
    ]
    assert list(parse(f"abc{between}cut off")) == []


def test_the_line_that_says_why_is_found():
    assert last_line("remote: x\nfatal: the reason\nhint: try this\n") == "the reason"
    assert last_line(
        "ERROR: no entry\nfatal: Could not read from remote repository.\n\nand the repository exists.\n"
    ) == ("ERROR: no entry")
    assert last_line("") == ""


def test_full_ids_are_sha1_or_sha256():
    assert is_full_id("a" * 40) and is_full_id("0" * 64)
    assert not is_full_id("a" * 39) and not is_full_id("A" * 40) and not is_full_id("a" * 41)


def test_a_typed_command_is_quoted_for_a_shell():
    assert typed("commit", "-m", "it's; done", "") == """git commit -m 'it'"'"'s; done'"""
