"""Filters that show text that others wrote: escaped, with every hidden character as a mark."""

from django import template
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString

from approvals import visible

register = template.Library()

_DIFF_HEADS = ("diff --git ", "--- ", "+++ ", "@@ ")


@register.filter
def marked(text: object) -> SafeString:
    """The text, escaped; hidden, bidirectional and control characters become ⟦U+…⟧ with their names as titles."""
    return format_html_join(
        "",
        "{}",
        (
            (
                format_html('<span class="hidden-mark" title="{}">{}</span>', piece.name, piece.mark)
                if piece.mark
                else conditional_escape(piece.text),
            )
            for piece in visible.pieces(str(text))
        ),
    )


@register.filter
def diff(text: object) -> SafeString:
    """As `marked`, with the lines of a unified diff coloured; other text stays plain."""
    lines = str(text).split("\n")
    if not any(line.startswith(_DIFF_HEADS) for line in lines):
        return marked(text)
    return format_html_join("\n", "{}", ((_line(line),) for line in lines))


def _line(line: str) -> SafeString:
    for start, kind in (("+++ ", "head"), ("--- ", "head"), ("diff --git ", "head"), ("@@ ", "hunk")):
        if line.startswith(start):
            return _coloured(kind, line)
    if line[:1] in {"+", "-"}:
        return _coloured("add" if line[0] == "+" else "del", line)
    return marked(line)


def _coloured(kind: str, line: str) -> SafeString:
    return format_html('<span class="diff-{}">{}</span>', kind, marked(line))
