"""Whatever stands in a command, a script or a path: no crash, and nothing milder than it should be."""

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.commands import cases
from tests.fuzz import targets
from tools import commands
from tools.builtin import script
from tools.commands import languages, programs
from tools.spec import Risk

LINES = [text for _, text, _ in cases()]
WORDS = sorted({word for text in LINES for argv in script.parse(text).commands for word in argv})
SIGNS = [
    *list(" \t\n;|&<>(){}[]$`'\"\\~*?!#=-/.,:%^+@"),
    "ls",
    "rm",
    "-rf",
    "{}",
    "\xa0",
    "\x00",
    "é",
    "$(",
    "<<",
    "\ud800",
]
FEW = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

argv = st.tuples(
    st.sampled_from([*sorted(programs()), "./x", "a/b", "/bin/rm"]),
    st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=6),
)


@FEW
@given(st.lists(st.sampled_from(SIGNS) | st.sampled_from(WORDS), max_size=12).map("".join) | st.sampled_from(LINES))
def test_any_shell_text_is_opaque_or_read_as_it_runs(text: str) -> None:
    targets.shell_text(text)


@FEW
@given(st.lists(argv.map(lambda made: [made[0], *made[1]]), min_size=1, max_size=4))
def test_any_words_have_a_reading_and_the_worst_decides(given_: list[list[str]]) -> None:
    targets.words(given_)


@FEW
@given(st.text(alphabet="aswedpgn/;{}\\[]$,0123 \n#|&@>\"'()^.*", max_size=24))
def test_small_languages_have_an_answer(text: str) -> None:
    targets.languages_text(text)


@settings(FEW, max_examples=60)
@given(st.lists(st.sampled_from(["s/a/b/", "1", "$", ",", "p", "d", "e id", "w f", "r f", ";", "\n", "{", "}", "/x/", "!", "g", "e",
                                 "w", "a", "\\", "s,a,b,", "y/a/b/", "[/]", "#", " ", "I", "q", ":a", "ba", "M", "F", "0~2", "i"]), max_size=7).map("".join))  # fmt: skip
@pytest.mark.skipif(shutil.which("sed") is None, reason="there is no sed here")
def test_what_is_read_of_sed_is_what_sed_reads(text: str) -> None:
    """GNU sed refuses what runs, reads or writes when it is told to: it refuses nothing that was read as harmless."""
    if languages.sed(text).opaque:
        return
    ended = subprocess.run(["sed", "--sandbox", "--", text, "/dev/null"], capture_output=True, text=True, check=False)
    assert "sandbox" not in ended.stderr, ended.stderr


def test_an_option_that_no_specification_lists_asks() -> None:
    for name, program in programs().items():
        if program.style in ("literal",):
            continue
        for unlisted in ("--no-such-option", "--no-such-option=x", "-\u00e9"):
            found = commands.read([[name, unlisted]])
            assert found.risk is Risk.HIGH, (name, unlisted)
            assert found.unlisted or program.risk is Risk.HIGH, (name, unlisted)


@settings(FEW, max_examples=150)
@given(st.lists(st.sampled_from(targets.PIECES), min_size=1, max_size=5).map("/".join), st.sampled_from(targets.PIECES))
def test_no_path_leads_out(name: str, other: str) -> None:
    if "\0" not in name:
        with targets.tree() as root:
            targets.path(root, name, other)


@FEW
@given(st.lists(st.text(alphabet="abAKIA0123 \n\x1b[m\x00=:/@+-_.", max_size=20), max_size=6))
def test_the_filter_of_output_does_not_depend_on_its_cuts(chunks: list[str]) -> None:
    targets.output(chunks)
