"""From the bytes of an answer to text: the charset found out, HTML read by Python's own parser in the sandbox."""

import codecs
import json
import re
from pathlib import Path

from tools.errors import ToolFailed
from tools.spec import Box

HTML_MAX_BYTES = 2 * 1024**2
_HTML_TIMEOUT_S = 20.0
_TEXT = re.compile(
    r"text/[a-z0-9.+-]+|application/(?:[a-z0-9.+-]+\+)?(?:json|xml|yaml|toml|javascript|ecmascript|x-ndjson|sql|graphql"
    r"|x-yaml|x-sh|x-javascript|x-www-form-urlencoded|jsonlines|ld\+json)|image/svg\+xml"
)
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_META = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"<\?xml[^>]{0,100}encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Charsets of the web (WHATWG Encoding), by Python's names. Python has codecs that are none (rot13, punycode, utf-7).
_CHARSETS = frozenset(
    [
        "utf-8",
        "utf-16-le",
        "utf-16-be",
        "ascii",
        "iso8859-1",
        "iso8859-2",
        "iso8859-3",
        "iso8859-4",
        "iso8859-5",
        "iso8859-6",
        "iso8859-7",
        "iso8859-8",
        "iso8859-9",
        "iso8859-10",
        "iso8859-13",
        "iso8859-14",
        "iso8859-15",
        "iso8859-16",
        "koi8-r",
        "koi8-u",
        "mac-roman",
        "mac-cyrillic",
        "cp866",
        "cp874",
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
        "cp1257",
        "cp1258",
        "gbk",
        "gb2312",
        "gb18030",
        "big5",
        "euc_jp",
        "euc_kr",
        "shift_jis",
        "cp932",
        "cp949",
        "iso2022_jp",
        "utf-16",
    ]
)
_LATIN = frozenset({"iso8859-1", "ascii"})  # servers say these and send Windows' superset
_READER = (Path(__file__).parent / "reader.py").read_text(encoding="utf-8")


def media_type(content_type: str) -> str:
    """`text/html` of `text/HTML; charset=x`; "" where there is none."""
    return content_type.split(";")[0].strip().lower()


def is_text(content_type: str) -> bool:
    """Is a body of this type text that a model can read? One without a type is not."""
    return _TEXT.fullmatch(media_type(content_type)) is not None


def is_html(content_type: str) -> bool:
    return media_type(content_type) in _HTML


def decoded(body: bytes, content_type: str) -> tuple[str, str]:
    """(text, charset): by its byte order mark, the header, the document's own words, else UTF-8; what does not fit the
    charset is written as escapes."""
    charset = _charset(body, content_type)
    for mark, _ in _BOMS:
        body = body.removeprefix(mark)
    return body.decode(charset, errors="backslashreplace"), charset


def _charset(body: bytes, content_type: str) -> str:
    for mark, name in _BOMS:
        if body.startswith(mark):
            return name
    said = re.search(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", content_type, re.IGNORECASE)
    names = [said[1]] if said else []
    head = body[:2048]
    names += [match[1].decode() for match in (_XML.search(head), _META.search(head)) if match]
    for name in names:
        known = _known(name)
        if known:
            return known
    return "utf-8"


def _known(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    if found not in _CHARSETS:
        return ""
    return "cp1252" if found in _LATIN else "utf-16-le" if found == "utf-16" else found


def of_html(text: str, base: str, box: Box) -> tuple[str, str]:
    """(title, text) of a page: headings, paragraphs, lists, links with where they lead; no scripts, styles or what is
    hidden. The parser runs in the sandbox.

    Raises:
        ToolFailed: it did not end in time, or failed.
        SandboxUnavailable
    """
    ended = box.run(
        ["python3", "-I", "-c", _READER, base],
        stdin=text.encode(errors="replace")[:HTML_MAX_BYTES],
        timeout_s=_HTML_TIMEOUT_S,
        profile="read",
        stream=False,
    )
    if not ended.ok:
        raise ToolFailed(f"The page could not be read: {ended.ended_by or ended.stderr.strip()[-300:] or ended.signal}")
    try:
        found = json.loads(ended.stdout.split("\n", 1)[0])
    except ValueError:
        raise ToolFailed("The page could not be read: its text is not what the reader writes.") from None
    return str(found.get("title", ""))[:300], str(found.get("text", ""))
