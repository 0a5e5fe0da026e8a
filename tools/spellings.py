"""How programs print a value: the forms in which a secret is looked for. Pure."""

import base64
import html
import json
import urllib.parse

MIN_LENGTH = 8  # shorter ones would blank out innocent text
MAX_LENGTH = 16_384  # longer ones are not looked for
_LINE_MIN = 24  # a line of a secret of many lines, alone


def plain(value: str) -> set[str]:
    """The value as it is, reversed, and quoted as in addresses, JSON, HTML and shells; of many lines, each long one.

    Blanks around a form are left out where enough remains: a key that ends with its line, turned round, begins with a
    line's end, for which every end of a line would be kept back.
    """
    as_json = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    found = {value, value[::-1], *as_json, *(form.replace("/", "\\/") for form in as_json)}
    found |= {json.dumps(form)[1:-1] for form in as_json} | {value.replace("/", "_")}  # JSON in JSON; names of files
    found |= {value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"), value.replace("\n", "\r\n")}
    for form in (urllib.parse.quote(value, safe=""), urllib.parse.quote(value), urllib.parse.quote_plus(value)):
        found |= {form, _lower_escapes(form)}
    found |= {html.escape(value), html.escape(value, quote=False), value.replace("'", "'\\''"), repr(value)[1:-1]}
    if "\n" in value:
        lines = (line.strip() for line in value.split("\n"))
        found |= {line for line in lines if len(line) >= _LINE_MIN and not line.startswith("-----")}
    return _bounded({bare if len(bare := form.strip()) >= MIN_LENGTH else form for form in found})


def encoded(value: str) -> set[str]:
    """The value in hexadecimal and in base64 (standard and for addresses, at each of the three offsets), which programs
    break over lines."""
    raw = value.encode(errors="surrogatepass")
    found = {raw.hex(), raw.hex().upper()}
    for offset in range(3):
        # The characters at the edges mix with what stands around the secret, so only the inner ones are certain.
        code = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        inner = code[(0, 2, 3)[offset] : len(code) - (1 if (offset + len(raw)) % 3 else 0)]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return _bounded(found)


def _lower_escapes(quoted: str) -> str:
    """`%2f` for `%2F`, as some programs write it."""
    parts = quoted.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def _bounded(forms: set[str]) -> set[str]:
    return {form for form in forms if MIN_LENGTH <= len(form) <= MAX_LENGTH}
