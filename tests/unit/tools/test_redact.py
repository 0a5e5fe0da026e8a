"""No secret leaves by way of output, whatever its spelling and wherever the pieces are cut."""

import base64
import random
import time
import urllib.parse
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import redact
from tools.redact import MARK, Redactor

SECRET = "correct/horse+battery staple"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\nAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    before = (redact._forms, redact._pattern)
    redact.register(SECRET, "line one\nline two of it", "short")
    yield
    redact._forms, redact._pattern = before


def streamed(text: str, cuts: list[int]) -> str:
    redactor, made, last = Redactor(), "", 0
    for cut in sorted(cut % (len(text) + 1) for cut in cuts):
        made += redactor.feed(text[last:cut])
        last = cut
    return made + redactor.feed(text[last:]) + redactor.flush()


SPELLINGS = {
    "plain": SECRET,
    "hex": SECRET.encode().hex(),
    "upper hex": SECRET.encode().hex().upper(),
    "reversed": SECRET[::-1],
    "quoted": urllib.parse.quote(SECRET, safe=""),
    "quoted plus": urllib.parse.quote_plus(SECRET),
    **{f"base64 at {at}": base64.b64encode(b"x" * at + SECRET.encode() + b"yz").decode() for at in range(3)},
    "urlsafe base64": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "two lines": "line one\nline two of it",
    "private key": KEY,
    "github": "ghp_" + "a1B2" * 9,
    "openai": "sk-proj-" + "a1B2-_" * 6,
    "aws": "AKIA" + "ABCD1234" * 2,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlMTIz",
    "ours": "cs_" + "a" * 43 + "B" * 6,
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
    st.lists(st.sampled_from([*SPELLINGS.values(), " ", "\n", "x", "abc def", "correct/horse", "ghp_"]), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=30),
)
def test_where_the_pieces_are_cut_makes_no_difference(parts: list[str], cuts: list[int]) -> None:
    text = " ".join(parts)
    assert streamed(text, cuts) == redact.text(text)


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
