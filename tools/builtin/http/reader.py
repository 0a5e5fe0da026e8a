"""HTML on standard input to {"title", "text"} on standard output. Runs in the sandbox; standard library only.

The argument is the page's address, for relative links.
"""

import json
import re
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin

TEXT_MAX = 100_000
LINK_MAX = 500
SKIPPED = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "canvas", "select", "head"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "dd", "details", "dialog", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main",
    "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
}  # fmt: skip
HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


class Reader(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = base
        self.title = ""
        self.parts: list[str] = []
        self.length = 0
        self.skipping: list[str] = []  # the open elements, from the first that is left out
        self.in_title = False
        self.pre = 0
        self.links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title:
            self.in_title = True
        if self.skipping:
            if tag not in VOID and len(self.skipping) < 10_000:
                self.skipping.append(tag)
            if tag != "body":
                return
            self.skipping.clear()  # a head that was never closed
        given = {name: value or "" for name, value in attrs}
        if tag == "base" and given.get("href"):
            self.base = joined(self.base, given["href"])
        hidden = "hidden" in given or given.get("aria-hidden") == "true" or HIDDEN_STYLE.search(given.get("style", ""))
        if (tag in SKIPPED or hidden) and tag not in VOID and tag not in ("html", "body"):
            self.skipping.append(tag)
            return
        if tag == "br":
            self.add("\n")
        elif tag == "img" and given.get("alt", "").strip():
            self.add(f"[{given['alt'].strip()[:200]}]")
        elif tag == "a":
            self.links.append((given.get("href", "")[:LINK_MAX], len(self.parts)))
        elif tag in BLOCKS:
            self.add({"li": "\n- ", "td": " | ", "th": " | "}.get(tag, "\n" if tag in ("tr", "dt", "dd") else "\n\n"))
            if tag[0] == "h" and tag[1:].isdigit():
                self.add("#" * int(tag[1:]) + " ")
        if tag == "pre":
            self.pre += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self.in_title = False
        if self.skipping:
            if tag in self.skipping:
                while self.skipping.pop() != tag:
                    pass
            return
        if tag == "a" and self.links:
            href, begun = self.links.pop()
            target = joined(self.base, href)
            if target and "".join(self.parts[begun:]).strip():
                self.add(f" ({target})")
        elif tag == "pre":
            self.pre = max(0, self.pre - 1)
            self.add("\n")
        elif tag in BLOCKS and tag not in ("td", "th", "tr", "li"):
            self.add("\n")

    def handle_data(self, data: str) -> None:
        if self.in_title and len(self.title) < 300:
            self.title += data
        if not self.skipping and not self.in_title:
            self.add(data if self.pre else self.flowing(data))

    def flowing(self, data: str) -> str:
        """With white space as it counts outside of <pre>: one space, and none at a line's beginning."""
        text = re.sub(r"\s+", " ", data)
        return text.lstrip(" ") if not self.parts or self.parts[-1].endswith((" ", "\n")) else text

    def add(self, text: str) -> None:
        if self.length < TEXT_MAX:
            self.parts.append(text)
            self.length += len(text)


def joined(base: str, href: str) -> str:
    """An absolute web address; "" of what is none, or leads to the page itself."""
    if not href or href.startswith("#"):
        return ""
    try:
        target = urljoin(base, href.strip())
    except ValueError:
        return ""
    return target[:LINK_MAX] if target.startswith(("http://", "https://")) else ""


def read(html: str, base: str) -> dict[str, str]:
    reader = Reader(base)
    for start in range(0, len(html), 65536):
        reader.feed(html[start : start + 65536])
        if reader.length >= TEXT_MAX:
            break
    else:
        reader.close()
    text = "".join(reader.parts)[:TEXT_MAX]
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    text = re.sub(r"^ \| ", "", text, flags=re.MULTILINE)
    return {"title": " ".join(reader.title.split()), "text": text.strip() + "\n" if text.strip() else ""}


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    print(json.dumps(read(sys.stdin.buffer.read().decode("utf-8", "replace"), sys.argv[1]), ensure_ascii=False))
