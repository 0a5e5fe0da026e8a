"""Which hosts a list allows, and what is no host at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.egress.allowlist import PATTERNS_MAX, Allowlist, host_of, pattern_of
from tools.errors import ToolRefused


@pytest.mark.parametrize(
    ("patterns", "host", "port", "allowed"),
    [
        (["pypi.org"], "pypi.org", 443, True),
        (["pypi.org"], "PyPI.org.", 80, True),
        (["pypi.org"], "pypi.org", 22, False),
        (["pypi.org"], "files.pypi.org", 443, False),
        (["pypi.org"], "evilpypi.org", 443, False),
        (["pypi.org"], "pypi.org.evil.example", 443, False),
        (["pypi.org:8443"], "pypi.org", 8443, True),
        (["pypi.org:8443"], "pypi.org", 443, False),
        (["*.example.org"], "a.example.org", 443, True),
        (["*.example.org"], "a.b.example.org", 443, True),
        (["*.example.org"], "example.org", 443, False),
        (["*.example.org"], "aexample.org", 443, False),
        (["*.example.org:8080"], "a.example.org", 8080, True),
        (["*.example.org:8080"], "a.example.org", 80, False),
        (["bücher.example"], "xn--bcher-kva.example", 443, True),
        (["xn--bcher-kva.example"], "BÜCHER.example", 443, True),
        (["faß.example"], "fass.example", 443, False),  # two names since IDNA 2008
        (["93.184.216.34"], "93.184.216.34", 443, True),
        (["93.184.216.34"], "0x5db8d822", 443, False),
        (["[2606:4700::1111]"], "2606:4700:0::1111", 443, True),
        (["[2606:4700::1111]:8443"], "[2606:4700::1111]", 8443, True),
        ([], "pypi.org", 443, False),
    ],
)
def test_a_list_allows_its_hosts_and_no_others(patterns: list[str], host: str, port: int, allowed: bool) -> None:
    assert Allowlist.parse(patterns).allows(host, port) is allowed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "a..b",
            "-a.example",
            "a b",
            "a/b",
            "a.example/",
            "http://a.example",
            "user@a.example",
            "a.example:",
        ),
        *(
            "a.example:0",
            "a.example:65536",
            "a.example:443:443",
            "a.example:-1",
            "a.example:٤٤٣",
            "::1",
            "[::1",
            "[::1]x",
        ),
        *(
            "*",
            "*.",
            "*.org",
            "**.a.example",
            "a.*.example",
            "*.1.2.3.4",
            "*.[::1]",
            "a*.example",
            "a.example\n",
            "a\0b",
        ),
        *("0x7f.1", "127.1", "2130706433", "0177.0.0.1", "1.2.3.4.5", "a.example.0x1", "[fe80::1%eth0]", "[1.2.3.4]x"),
        *("a。example:80:", "a" * 64 + ".example", ".".join(["a" * 60] * 5), "a.example%2eorg", "a\u200b.example:x"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ToolRefused):
        pattern_of(text)


def test_a_list_is_bounded() -> None:
    with pytest.raises(ToolRefused):
        Allowlist.parse([f"h{number}.example" for number in range(PATTERNS_MAX + 1)])


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (["a.example"], ["a.example", "b.example"], ["a.example"]),
        (["*.example.org"], ["a.example.org"], ["a.example.org"]),
        (["a.example.org"], ["*.example.org"], ["a.example.org"]),
        (["*.b.example.org"], ["*.example.org"], ["*.b.example.org"]),
        (["*.example.org"], ["example.org"], []),
        (["example.org"], ["*.example.org"], []),
        (["a.example"], ["a.example:443"], ["a.example:443"]),
        (["a.example:8443"], ["a.example"], []),
        (["*.example.org:443"], ["a.example.org"], ["a.example.org:443"]),
        (["a.example"], [], []),
    ],
)
def test_what_two_lists_allow_together(one: list[str], other: list[str], common: list[str]) -> None:
    assert Allowlist.parse(one).within(Allowlist.parse(other)).words() == common


NAMES = st.sampled_from(["a.example", "b.a.example", "c.b.a.example", "a.org", "xa.example", "127.0.0.1"])
PATTERNS = st.lists(
    st.builds(
        lambda name, below, port: ("*." if below and name != "127.0.0.1" else "") + name + port,
        NAMES,
        st.booleans(),
        st.sampled_from(["", ":80", ":443", ":8080"]),
    ),
    max_size=5,
)


@given(PATTERNS, PATTERNS, NAMES, st.sampled_from([80, 443, 8080]))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_the_common_part_allows_what_both_allow(one: list[str], other: list[str], host: str, port: int) -> None:
    left, right = Allowlist.parse(one), Allowlist.parse(other)
    assert left.within(right).allows(host, port) is (left.allows(host, port) and right.allows(host, port))
    assert left.within(right).words() == right.within(left).words()


@given(st.text(max_size=40))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_text_is_a_pattern_that_reads_as_itself_or_is_refused(text: str) -> None:
    try:
        found = pattern_of(text)
    except ToolRefused:
        return
    assert pattern_of(str(found)) == found
    assert found.host.isascii()
    assert host_of(found.host) == found.host
