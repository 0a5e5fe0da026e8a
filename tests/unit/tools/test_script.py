"""Shell text is plain, and then read exactly as a shell reads it, or it is opaque."""

import subprocess

import pytest

from tools.builtin.script import parse

PLAIN = {
    "ls -la 'a b' \"c d\" x\"y\"'z' 3": [["ls", "-la", "a b", "c d", "xyz", "3"]],
    "a && b || c; d | e\nf": [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]],
    "ls # a comment\n\n\npwd": [["ls"], ["pwd"]],
    "echo ''": [["echo", ""]],
    "echo \"a\nb\" 'c$d`e\\'": [["echo", "a\nb", "c$d`e\\"]],
    'echo "say \\"hi\\""': [["echo", 'say "hi"']],
    "grep 'foo\\.bar*' x": [["grep", "foo\\.bar*", "x"]],
    "git log --format=%h,%s": [["git", "log", "--format=%h,%s"]],
    "ls &&\n  pwd": [["ls"], ["pwd"]],
    "'if' x": [["if", "x"]],
    "git diff HEAD~3 a~": [["git", "diff", "HEAD~3", "a~"]],
    "find . -exec ls {} +": [["find", ".", "-exec", "ls", "{}", "+"]],
    'echo "é ß"': [["echo", "é ß"]],
    "python3 -m unittest -v": [["python3", "-m", "unittest", "-v"]],
}
OPAQUE = [
    "echo $x", "echo ${x:-$(id)}", "echo $(id)", "echo `id`", 'echo "$(id)"', 'echo "a $ b"', "echo $'a'", 'echo $"a"',
    "ls > f", "ls >> f", "cat < f", "cat <<E\nx\nE", "cat <<< x", "ls 2>&1", "a &", "a & b", "a |& b", "a ;; b", "! a",
    "A=1 b", "A=1", "'A=1' b", "export A=1", "(ls)", "{ ls; }", "f() { ls; }", "if a; then b; fi", "for i in a; do b; done",
    "while a; do b; done", "case a in a) b;; esac", "[ -f x ]", "[[ -f x ]]", "((1))", "echo *", "echo a?", "echo [ab]",
    "echo {a,b}", "rg {--pre=./x,y}", "echo ~", "echo ~/a", "echo a=~", "echo a:~/b", "echo 'a'~", "echo {}a", "{} a", "{}", "echo a\\ b", "a\\\nb", "\\ls", "echo !x", "a\rb", "a\x00b",
    "echo a\u00a0b", "echo\u2003b", "echo \u202e", "echo \ud800", "ls 'unclosed", "ls \"unclosed", "ls |", "&& ls", "", "   ", "# only",
    "time (ls)", "a <(b)", "a >(b)", "declare -x A", "unset A", "coproc { a; }", "x" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_plain_commands_are_read_word_by_word(text: str) -> None:
    read = parse(text)
    assert read.opaque == ""
    assert [list(words) for words in read.commands] == PLAIN[text]


@pytest.mark.parametrize("text", OPAQUE, ids=lambda text: repr(text)[:30])
def test_everything_else_is_opaque(text: str) -> None:
    read = parse(text)
    assert read.opaque
    assert read.commands == ()
    assert read.text == text


@pytest.mark.parametrize("text", PLAIN)
def test_what_runs_is_what_was_read(text: str) -> None:
    """A real shell sees the very words, from the given text and from the text written anew."""
    show = 'show() { for w in "$@"; do printf "%s\\0" "$w"; done; printf "\\1"; }\n'
    for words in parse(text).commands:
        written = parse(text).text
        assert parse(written).commands == parse(text).commands
        again = subprocess.run(
            ["sh", "-c", show + "show " + " ".join(_quoted(word) for word in words)], capture_output=True, check=True
        )
        assert again.stdout.decode() == "".join(f"{word}\0" for word in words) + "\1"


def test_a_shell_agrees_on_words_and_joins() -> None:
    text = "printf '%s|' a 'b c' \"d\\\"e\" && printf '%s|' f; false || printf g | cat\nprintf h # end"
    read = parse(text)
    assert not read.opaque
    assert _sh(read.text) == _sh(text) == 'a|b c|d"e|f|gh'


def test_a_line_that_the_grammar_joins_to_the_one_before_is_not_taken_for_words() -> None:
    text = "echo a | base64 -d | cd,. m\nrm -,. && cd ,. && bm s\nrm -rf x"
    read = parse(text)
    assert read.opaque or ("rm", "-,.") in read.commands


def test_deep_nesting_does_not_break_the_reader() -> None:
    assert parse("(" * 5000 + "ls" + ")" * 5000).opaque
    assert len(parse(" && ".join(["ls"] * 3000)).commands) == 3000


def _sh(text: str) -> str:
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
