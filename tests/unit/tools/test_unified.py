"""Unified diffs: what is read, what is refused, and that git agrees about what is applied."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.builtin import unified
from tools.builtin.unified import PatchError


def applied(patch: str, before: str) -> str:
    (one,) = unified.parse(patch)
    return unified.apply(one, before.encode()).content.decode()


def hunk(body: str, *, old: str = "a/x", new: str = "b/x") -> str:
    return f"--- {old}\n+++ {new}\n{body}"


def test_a_plain_hunk_is_applied_where_it_says():
    assert (
        applied(hunk("@@ -1,3 +1,4 @@\n one\n-two\n+2\n+2.5\n three\n"), "one\ntwo\nthree\n") == "one\n2\n2.5\nthree\n"
    )
    assert applied(hunk("@@ -2 +1,0 @@\n-two\n"), "one\ntwo\nthree\n") == "one\nthree\n"
    assert applied(hunk("@@ -1,0 +2 @@\n+between\n"), "one\ntwo\n") == "one\nbetween\ntwo\n"
    two = "@@ -1,2 +1,2 @@\n-a\n+A\n b\n@@ -4,2 +4,3 @@\n d\n+dd\n e\n"
    assert applied(hunk(two), "a\nb\nc\nd\ne\n") == "A\nb\nc\nd\ndd\ne\n"
    assert applied(hunk("@@ -1,3 +1,3 @@\n one\n\n-two\n+2\n"), "one\n\ntwo\n") == "one\n\n2\n"


def test_a_hunk_that_stands_elsewhere_once_is_applied_there_and_said():
    (one,) = unified.parse(hunk("@@ -1,2 +1,2 @@\n x\n-y\n+Y\n"))
    found = unified.apply(one, b"0\n0\nx\ny\n")
    assert found.content == b"0\n0\nx\nY\n"
    assert found.moved == ((1, 1, 3),)


@pytest.mark.parametrize(
    ("body", "before", "why"),
    [
        ("@@ -1,2 +1,2 @@\n x\n-y\n+Y\n", "0\nx\ny\nx\ny\n", "elsewhere at 2, 4"),
        ("@@ -1,2 +1,2 @@\n x\n-y\n+Y\n", "x\nz\n", "Line 2 is 'z', in the patch 'y'"),
        ("@@ -1,2 +1,2 @@\n x\n-y\n+Y\n", "x\r\ny\r\n", "ends with CR LF"),
        ("@@ -1,2 +1,2 @@\n x\n-y\n+Y\n", "x\ny", "no newline"),
        ("@@ -9,0 +9 @@\n+y\n", "x\n", "no such place"),
        ("@@ -3 +3 @@\n-y\n+Y\n", "x\n", "the file has 1"),
        ("@@ -1 +1 @@\n-x\n+X\n@@ -1 +1 @@\n-x\n+Y\n", "x\n", "does not apply"),
        ("@@ -1,0 +2 @@\n+b\n", "a", "no newline at its end"),
    ],
)
def test_what_does_not_stand_there_is_refused_with_the_reason(body: str, before: str, why: str):
    with pytest.raises(PatchError, match=why):
        applied(hunk(body), before)


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("", "no change"),
        ("only words\n", "no change"),
        (hunk(""), "no hunk"),
        (hunk("@@ nonsense @@\n x\n"), "no hunk's header"),
        (hunk("@@ -1,2 +1,2 @@\n x\n"), "fewer or other lines"),
        (hunk("@@ -1 +1 @@\n-x\n+X\n+Y\n"), "belongs to no hunk"),
        (hunk("@@ -1,2 +1 @@\n x\n+y\n"), "fewer or other lines"),
        (hunk("@@ -0 +1 @@\n-x\n+X\n"), "counted from 1"),
        ("@@ -1 +1 @@\n-x\n+X\n", "belongs to no hunk"),
        (hunk("@@ -1 +1 @@\n-x\n+X\n", new="b/y"), "renames"),
        (hunk("@@ -1 +1 @@\n-x\n+X\n") * 2, "twice"),
        (hunk("@@ -0,0 +1 @@\n+X\n", old="/dev/null", new="/dev/null"), "which file"),
        (hunk("@@ -1 +1 @@\n-x\n+X\n", old="/dev/null"), "new file is one hunk"),
        ("diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n", "renames"),
        ("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", "mode"),
        (
            "diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/etc/passwd\n",
            "no regular file",
        ),
        ("diff --git a/x b/x\nindex 1..2 120000\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "a link"),
        ("diff --git a/x b/x\nindex 1..2 160000\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "submodule"),
        ("diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 1\nIcmZ\n", "binary"),
        ("diff --git a/x b/x\nBinary files a/x and b/x differ\n", "binary"),
        (hunk("@@ -1 +1 @@\n-x\n+X\n", old='"a/x\\q"', new='"b/x\\q"'), "not well formed"),
        (hunk("@@ -1 +1 @@\n-x\n+X\n", old='"a/\\377"', new='"b/\\377"'), "not UTF-8"),
        ("".join(hunk("@@ -1 +1 @@\n-x\n+X\n", old=f"a/{n}", new=f"b/{n}") for n in range(201)), "201 files"),
    ],
)
def test_what_is_no_plain_change_of_text_is_refused(patch: str, why: str):
    with pytest.raises(PatchError, match=why):
        unified.parse(patch)


def test_names_are_read_as_git_and_diff_write_them():
    body = "@@ -1 +1 @@\n-x\n+X\n"
    for old, new, path in (
        ("a/d/x.py", "b/d/x.py", "d/x.py"),
        ("d/x.py\t2026-01-01 10:00:00.0 +0000", "d/x.py\t2026-01-02 10:00:00.0 +0000", "d/x.py"),
        ("a/x", "a/x", "a/x"),
        ('"a/\\303\\244 \\"b\\".txt"', '"b/\\303\\244 \\"b\\".txt"', 'ä "b".txt'),
        ("a/with space", "b/with space", "with space"),
    ):
        assert unified.parse(hunk(body, old=old, new=new))[0].path == path
    mail = f"From 0123 Mon Sep 17\nSubject: x\n\n  indented\n---\n x | 2 +-\n\ndiff --git a/x b/x\n{hunk(body)}-- \n2.50.0\n\n"
    (one,) = unified.parse(mail)
    assert (one.path, one.added, one.removed) == ("x", 1, 1)
    made, gone = unified.parse(
        "diff --git a/new b/new\nnew file mode 100755\nindex 0000000..e69de29\n"
        "diff --git a/old b/old\ndeleted file mode 100644\nindex e69de29..0000000\n"
    )
    assert (made.path, made.makes, made.mode, gone.path, gone.removes) == ("new", True, 0o755, "old", True)


def test_a_patch_with_endless_places_ends():
    lines = "same\n" * 20_000
    body = "".join(" same\n" for _ in range(3_000))
    with pytest.raises(PatchError, match=r"too many places|elsewhere"):
        applied(hunk(f"@@ -30000,3001 +30000,3000 @@\n{body}-same\n"), lines)


_TEXT = st.lists(
    st.sampled_from(["a", "b", "", "  c", "-d", "+e", "@@ -1 +1 @@", "--- a/x", "ä", "\\ no", "f\r"]), max_size=14
)


@given(before=_TEXT, after=_TEXT, ends=st.tuples(st.booleans(), st.booleans()), context=st.integers(0, 3))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_git_makes_of_two_texts_leads_from_one_to_the_other(
    tmp_path: Path, before: list[str], after: list[str], ends: tuple[bool, bool], context: int
):
    texts = [
        "\n".join(lines) + ("\n" if lines and end else "") for lines, end in zip((before, after), ends, strict=True)
    ]
    for name, text in zip(("old", "new"), texts, strict=True):
        (tmp_path / name).write_bytes(text.encode())
    made = subprocess.run(
        ["git", "diff", "--no-index", f"-U{context}", "--", "old", "new"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    ).stdout.decode()
    if texts[0] == texts[1]:
        assert made == ""
        return
    patch = made.replace("b/new", "b/old").replace("+++ b/new", "+++ b/old")
    assert applied(patch, texts[0]) == texts[1]


@given(st.text(alphabet='-+@ ,\\\n\r\t"ab/01dif~\0é', max_size=200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_read_or_refused(text: str):
    for patch in (text, hunk(f"@@ -1,2 +1,2 @@\n{text}"), f"diff --git {text}"):
        try:
            for one in unified.parse(patch):
                unified.apply(one, text.encode())
        except PatchError as error:
            assert str(error)
