"""What well-known tokens, keys and passwords look like, by the few characters that each begins with. Pure.

A shape is tried where its beginning stands, and nowhere else, so that text without any costs next to nothing.
"""

import re

Span = tuple[int, int]

_TOKENS = {
    ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"): r"gh[pousr]_[A-Za-z0-9]{30,255}",
    ("github_pat_",): r"github_pat_[A-Za-z0-9_]{40,255}",
    (
        *("glpat-", "glcbt-", "gldt-", "glrt-", "glptt-", "glsoat-"),
        *("glagent-", "glft-", "glimt-"),
    ): r"gl(?:pat|cbt|dt|rt|ptt|soat|agent|ft|imt)-[A-Za-z0-9_.-]{20,255}",
    ("sk-",): r"sk-[A-Za-z0-9_-]{20,512}",  # OpenAI, Anthropic and their like
    ("sk_live_", "sk_test_", "rk_live_", "rk_test_"): r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}",  # Stripe
    ("whsec_",): r"whsec_[A-Za-z0-9+/=]{24,255}",
    ("AKIA", "ASIA"): r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS
    ("AIza",): r"AIza[A-Za-z0-9_-]{35}",  # Google
    ("ya29.",): r"ya29\.[A-Za-z0-9_-]{20,2048}",
    ("GOCSPX-",): r"GOCSPX-[A-Za-z0-9_-]{20,64}",
    ("xoxa-", "xoxb-", "xoxe", "xoxo-", "xoxp-", "xoxr-", "xoxs-"): r"xox[abeoprs][.-][A-Za-z0-9.-]{10,255}",  # Slack
    ("xapp-",): r"xapp-[A-Za-z0-9-]{20,255}",
    ("npm_",): r"npm_[A-Za-z0-9]{36}",
    ("pypi-",): r"pypi-[A-Za-z0-9_-]{50,512}",
    ("hf_",): r"hf_[A-Za-z0-9]{30,255}",
    ("hvs.", "hvb."): r"hv[sb]\.[A-Za-z0-9_-]{24,512}",  # Vault
    ("dop_v1_",): r"dop_v1_[a-f0-9]{64}",
    ("dckr_pat_",): r"dckr_pat_[A-Za-z0-9_-]{20,255}",
    ("ATATT3",): r"ATATT3[A-Za-z0-9_=-]{60,512}",
    ("SG.",): r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}",
    ("AGE-SECRET-KEY-1",): r"AGE-SECRET-KEY-1[0-9A-Z]{50,80}",
    ("cs_",): r"cs_[A-Za-z0-9_-]{49}",  # our own
    ("eyJ",): r"eyJ[A-Za-z0-9_-]{10,1024}\.eyJ[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{10,2048}",  # JSON web token
}
_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,60}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,60}PRIVATE KEY(?: BLOCK)?-----")
_KEY_MAX = 16_384  # of a block's characters; a longer one is no key
_SLACK_HOOK = re.compile(r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/]{20,255})")
_URL_PASSWORD = re.compile(r"://[^\s/:@]{0,128}:([^\s/@]{1,256})@")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,20}\Z")
_HEADER = re.compile(
    r"uthorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?(?:Bearer|bearer|Basic|basic|Token|token)[ \t]{1,4}"
    r"([A-Za-z0-9+/_.~-]{8,4096}={0,2})"
)
_AWS_SECRET = re.compile(
    r"(?:ecret_access_key|ecretAccessKey|ECRET_ACCESS_KEY)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?([A-Za-z0-9+/]{40})"
)

_by_hint: dict[str, re.Pattern[str]] = {
    hint: re.compile(r"\b" + shape) for hints, shape in _TOKENS.items() for hint in hints
}
_by_hint |= {
    "-----BEGIN": _KEY,
    "hooks.slack.com/": _SLACK_HOOK,
    "://": _URL_PASSWORD,
    "uthorization": _HEADER,
    **dict.fromkeys(("ecret_access_key", "ecretAccessKey", "ECRET_ACCESS_KEY"), _AWS_SECRET),
}
HINTS: tuple[str, ...] = tuple(sorted(_by_hint))

_KEY_BEGINNING = re.compile(r"-(?:-{0,4}|----B[EGIN]{0,4}|----BEGIN [A-Z0-9 ]{0,60}-{0,5})\Z")
_TOLD_BEGINNING = re.compile(
    r"(?:uthorization|ecret_access_key|ecretAccessKey|ECRET_ACCESS_KEY)"
    r"[\"']?[ \t]{0,4}(?:[:=][ \t]{0,4}[\"']?(?:[A-Za-z]{1,6}[ \t]{0,4}[^\s\"']{0,4098})?)?\Z"
)
_TOLD_MAX = 4200


def span(hint: str, text: str, at: int) -> Span | None:
    """What is secret of the shape whose beginning `hint` stands at `at`; None where it is not that shape after all."""
    shape = _by_hint[hint]
    if hint == "eyJ" and text.find(".eyJ", at + 13, at + 1040) < 0:
        return None
    found = shape.match(text, at)
    if found is None or (shape is _URL_PASSWORD and not _SCHEME.search(text, max(0, at - 24), at)):
        return None
    if shape is _KEY:
        return _key(text, at, found.end())
    return found.span(1) if shape.groups else found.span()


def _key(text: str, start: int, at: int) -> Span | None:
    """A private key's block, to its end or that of the text."""
    until = at + _KEY_MAX
    while (at := text.find("-----END ", at, until + 9)) >= 0:
        found = _KEY_END.match(text, at)
        if found is not None:
            return start, found.end()
        at += 1
    return (start, len(text)) if len(text) <= until + 100 else None


def beginning(text: str) -> int:
    """Where the end of `text` begins something that has blanks in it and may become secret when more comes; its length
    where nothing does. What has no blanks in it is a matter of whole words."""
    starts = [len(text)]
    key = _KEY_BEGINNING.search(text, max(0, len(text) - 100))
    if key:
        starts.append(key.start())
    told = _TOLD_BEGINNING.search(text, max(0, len(text) - _TOLD_MAX))
    if told:
        starts.append(told.start())
    return min(starts)
