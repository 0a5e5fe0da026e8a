"""No secret leaves by way of output, whatever its spelling and wherever the pieces are cut."""

import base64
import random
import time
import urllib.parse
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tools import redact
from tools.redact import MARK, Redactor

SECRET = "correct/horse+battery staple"
LONG = "".join(random.Random(7).choices("abcdef", k=300))
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\nAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    before = redact._known
    redact.register(SECRET, LONG, "line one\nline two of it", "short")
    yield
    redact._known = before


def streamed(text: str, cuts: list[int]) -> str:
    redactor, made, last = Redactor(), "", 0
    for cut in sorted(cut % (len(text) + 1) for cut in cuts):
        made += redactor.feed(text[last:cut])
        last = cut
    return made + redactor.feed(text[last:]) + redactor.flush()


def wrapped(text: str, width: int, indent: str = "") -> str:
    return "\n".join(indent + text[at : at + width] for at in range(0, len(text), width))


SPELLINGS = {
    "plain": SECRET,
    "hex": SECRET.encode().hex(),
    "upper hex": SECRET.encode().hex().upper(),
    "reversed": SECRET[::-1],
    "quoted": urllib.parse.quote(SECRET, safe=""),
    "quoted plus": urllib.parse.quote_plus(SECRET),
    **{f"base64 at {at}": base64.b64encode(b"x" * at + SECRET.encode() + b"yz").decode() for at in range(3)},
    "urlsafe base64": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "quoted in part": urllib.parse.quote(SECRET),
    "quoted in small letters": urllib.parse.quote(SECRET, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "JSON with slashes": SECRET.replace("/", "\\/"),
    "hex in words": " ".join(SECRET.encode().hex()[at : at + 4] for at in range(0, 56, 4)),
    "hex in lines": wrapped(SECRET.encode().hex(), 30),
    "base64 in lines": wrapped(base64.b64encode(b"login:" + SECRET.encode()).decode(), 11),
    "base64 in indented lines": wrapped(base64.b64encode(SECRET.encode()).decode(), 20, " " * 40),
    "two lines": "line one\nline two of it",
    "private key": KEY,
    "github": "ghp_" + "a1B2" * 9,
    "openai": "sk-proj-" + "a1B2-_" * 6,
    "aws": "AKIA" + "ABCD1234" * 2,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlMTIz",
    "ours": "cs_" + "a" * 43 + "B" * 6,
    "stripe": "sk_live_" + "a1B2" * 6,
    "vault": "hvs." + "a1B2" * 8,
    "slack hook": "https://hooks.slack.com/services/T0000/B0000/abcdefghijklmnop",
    "PGP key": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----",
}
# What stands beside them stays: {text: what it becomes}.
IN_PLACE = {
    "Authorization: Bearer abcDEF123456_-.~ done": f"Authorization: Bearer {MARK} done",
    '{"authorization": "Basic bG9naW46cGFzc3dvcmQ="}': f'{{"authorization": "Basic {MARK}"}}',
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n": f"aws_secret_access_key = {MARK}\n",
    "curl https://bob:hunter2@host/x": f"curl https://bob:{MARK}@host/x",
    f"{SECRET}{SECRET}": MARK + MARK,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_secret_is_taken_out_in_each_spelling(name: str) -> None:
    spelling = SPELLINGS[name]
    text = f"before {spelling} after"
    made = redact.text(text)
    assert made.startswith("before ") and made.endswith(" after")
    assert MARK in made
    assert spelling not in made
    for size in (1, 2, 3, 7):
        assert streamed(text, list(range(0, len(text), size))) == made


@pytest.mark.parametrize("text", IN_PLACE)
def test_only_the_secret_part_of_a_line_is_taken_out(text: str) -> None:
    assert redact.text(text) == IN_PLACE[text]
    for size in (1, 2, 5):
        assert streamed(text, list(range(0, len(text), size))) == IN_PLACE[text]


def test_what_two_secrets_share_is_taken_out_of_both() -> None:
    before = redact._known
    redact.register("first-secret-common", "common-second-secret")
    try:
        assert redact.text("a first-secret-common-second-secret b") == f"a {MARK} b"
    finally:
        redact._known = before


def test_a_line_of_a_secret_of_many_lines_is_taken_out_alone() -> None:
    before = redact._known
    redact.register("-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUJ2example\n")
    try:
        assert redact.text("+ MIIBszCCAVmgAwIBAgIUJ2example") == f"+ {MARK}"
        assert redact.text("-----BEGIN CERTIFICATE-----") == "-----BEGIN CERTIFICATE-----"
    finally:
        redact._known = before


def test_a_key_that_ends_with_its_line_keeps_no_line_back() -> None:
    redact.register("\n-----BEGIN KEY-----\nMIIBszCCAVmgAwIBAgIUJ3example\n-----END KEY-----\n")
    assert Redactor().feed("ready\n") == "ready\n"
    assert "example" not in redact.text("x\n-----BEGIN KEY-----\nMIIBszCCAVmgAwIBAgIUJ3example\n-----END KEY-----\n")


def test_half_a_character_pair_is_no_obstacle() -> None:
    assert redact.text(f"\ud800 {SECRET}") == f"\ud800 {MARK}"


def test_a_password_in_an_address_is_taken_out_and_the_rest_stays() -> None:
    assert redact.text("to postgresql://bob:hunter2@db/x now") == f"to postgresql://bob:{MARK}@db/x now"


def test_innocent_text_is_left_alone() -> None:
    for text in (
        "short",
        "sk-short",
        "a risk-free task-list",
        "x" * 5000,
        "eyJ.eyJ.x",
        "http://host:80/a@b",
        "-----BEGIN ",
    ):
        assert redact.text(text) == text
        assert streamed(text, list(range(0, len(text), 3))) == text


@given(
    st.lists(
        st.sampled_from(
            [
                *SPELLINGS.values(),
                *IN_PLACE,
                *(" ", "\n", "x", "abc def", "correct/horse", "ghp_", "://", "eyJ", "Authorization:", "Bearer"),
                *(LONG, LONG[:150], LONG[150:], LONG[:-1], LONG.encode().hex()[:300], LONG.encode().hex()[300:]),
                *("-----BEGIN", "PRIVATE KEY-----", SECRET.encode().hex()[:21], SECRET.encode().hex()[21:], " " * 70),
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(["", " ", "\n", "\n  "]),
    st.lists(st.integers(0, 10_000), max_size=30),
)
def test_where_the_pieces_are_cut_makes_no_difference(parts: list[str], between: str, cuts: list[int]) -> None:
    text = between.join(parts)
    assert streamed(text, cuts) == redact.text(text)


@given(
    st.text(min_size=8, max_size=60, alphabet=st.characters(codec="utf-8", exclude_characters="\0")),
    st.integers(0, 2),
    st.integers(7, 76),
    st.lists(st.integers(0, 400), max_size=10),
)
@example("0000000\r", 0, 7, [])  # one that is too short without its blank
def test_any_secret_is_found_in_base64_and_hex_however_it_is_broken(
    secret: str, offset: int, width: int, cuts: list[int]
) -> None:
    before = redact._known
    redact.register(secret)
    try:
        raw = secret.encode()
        for code, sure in ((base64.b64encode(b"a" * offset + raw + b"z").decode(), 3), (raw.hex(), 0)):
            made = streamed(wrapped(code, width), cuts)
            assert made == redact.text(wrapped(code, width))
            inner = code[sure + 1 : len(code) - 4] if sure else code
            assert MARK in made
            assert inner not in made.replace("\n", "")
    finally:
        redact._known = before


def test_data_loses_live_secrets_and_nothing_else() -> None:
    given_ = {"a": [SECRET, {"b" + SECRET: 1}], "token": SPELLINGS["github"], "n": None}
    assert redact.data(given_) == {"a": [MARK, {"b" + MARK: 1}], "token": SPELLINGS["github"], "n": None}


def test_a_long_stream_without_a_break_is_not_held_back() -> None:
    redactor = Redactor()
    passed = sum(len(redactor.feed("x" * 1000)) for _ in range(100))
    assert passed >= 100_000 - 2048


def test_a_megabyte_takes_no_time_to_speak_of() -> None:
    text = "".join(random.Random(1).choices("abc def\n/+c", k=1_000_000))
    redactor = Redactor()
    made = "".join(redactor.feed(text[at : at + 65536]) for at in range(0, len(text), 65536)) + redactor.flush()
    assert made == text


def test_text_that_nearly_holds_tokens_takes_no_time_to_speak_of() -> None:
    began = time.process_time()
    redact.text("eyJ-" * 65_536)
    assert time.process_time() - began < 1.0
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
    assert redact.text(f"-{token} a={token}") == f"-{MARK} a={MARK}"
