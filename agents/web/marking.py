"""An agent's answer as HTML: paragraphs, headings, lists and code, nothing else. Links and pictures stay text, since an
answer is nobody's word; every character is escaped before anything is marked. Pure."""

import re
from collections.abc import Iterator

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from agents.web.words import readable

_FENCE = re.compile(r"^[ ]{0,3}(```+|~~~+)[ \t]*([\w+#.-]{0,30})[^\n]*\n(.*?)(?:^[ ]{0,3}\1[ \t]*$|\Z)", re.M | re.S)
_BULLET = re.compile(r"^\s{0,6}[-*•]\s+")
_NUMBER = re.compile(r"^\s{0,6}\d{1,3}[.)]\s+")
_HEAD = re.compile(r"^#{1,6}\s+")
_ROW = re.compile(r"^\s{0,3}\|")  # of a table, which is left as it was written
_KINDS = {"head": _HEAD, "ul": _BULLET, "ol": _NUMBER, "table": _ROW}
_CODE = re.compile(r"`([^`\n]{1,2000})`")
_BOLD = re.compile(r"\*\*([^*\n]{1,500})\*\*")


def as_html(text: str) -> SafeString:
    """The answer, safe to stand in a page."""
    text = readable(text)
    parts: list[str] = []
    at = 0
    for found in _FENCE.finditer(text):
        parts += _prose(text[at : found.start()])
        parts.append(f'<pre class="code tall">{escape(found[3].rstrip())}</pre>')
        at = found.end()
    parts += _prose(text[at:])
    return mark_safe("".join(parts))


def _prose(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        yield from _block([line for line in block.split("\n") if line.strip()])


def _block(lines: list[str]) -> Iterator[str]:
    """Runs of lines of one kind."""
    while lines:
        kind = _kind(lines[0])
        run = [lines.pop(0)]
        while lines and _kind(lines[0]) == kind and kind != "head":
            run.append(lines.pop(0))
        if kind == "head":
            yield f'<p class="strong">{_inline(_HEAD.sub("", run[0]))}</p>'
        elif kind == "table":
            rows = "\n".join(escape(line.strip()) for line in run)
            yield f'<pre class="code tall">{rows}</pre>'
        elif kind == "text":
            yield f"<p>{'<br>'.join(_inline(line) for line in run)}</p>"
        else:
            mark = _BULLET if kind == "ul" else _NUMBER
            items = "".join(f"<li>{_inline(mark.sub('', line))}</li>" for line in run)
            yield f"<{kind}>{items}</{kind}>"


def _kind(line: str) -> str:
    return next((kind for kind, mark in _KINDS.items() if mark.match(line)), "text")


def _inline(text: str) -> str:
    """Code is left alone; around it, what is bold."""
    parts = _CODE.split(text.strip())
    return "".join(
        f"<code>{escape(part)}</code>" if place % 2 else _BOLD.sub(r"<strong>\1</strong>", str(escape(part)))
        for place, part in enumerate(parts)
    )
