"""Which addresses are the public internet's."""

import ipaddress
import socket

import pytest

from tools.egress import addresses
from tools.egress.addresses import Exceptions, why_not

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001:80e::200e"]
REFUSED = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1"),
    *(
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
    ),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:1.1.1.1", "64:ff9b::a9fe:a9fe"),
    *(
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "2001::1",
        "2001:0:4137:9e76::1",
        "2001:db8::1",
        "2001:10::1",
    ),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "3fff::1", "5f00::1", "100::1", "4000::1"),
    *("2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a9fe:a9fe"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_reached(text: str) -> None:
    assert why_not(ipaddress.ip_address(text)) == ""


@pytest.mark.parametrize("text", REFUSED)
def test_no_other_address_may(text: str) -> None:
    assert why_not(ipaddress.ip_address(text)) != ""


def test_nothing_is_thought_public_that_the_standard_library_thinks_private() -> None:
    for text in PUBLIC:
        assert ipaddress.ip_address(text).is_global
    for network in (*addresses._REFUSED_4, *addresses._REFUSED_6):
        assert why_not(network[0][0])
        assert why_not(network[0][-1])


def test_this_machine_s_own_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    public = ipaddress.ip_address("93.184.216.34")
    bound = []

    class Machine(socket.socket):
        """A machine that has this public address."""

        def bind(self, address: object) -> None:
            bound.append(address)

    monkeypatch.setattr(addresses.socket, "socket", Machine)
    assert why_not(public) == "this machine's own"
    assert bound == [("93.184.216.34", 0)]


@pytest.mark.parametrize(
    ("texts", "address", "port", "allowed"),
    [
        (["10.1.2.3:443"], "10.1.2.3", 443, True),
        (["10.1.2.3:443"], "10.1.2.3", 80, False),
        (["10.1.2.3"], "10.1.2.3", 9000, True),
        (["10.0.0.0/8:443"], "10.200.1.1", 443, True),
        (["10.0.0.0/8"], "11.0.0.1", 443, False),
        (["127.0.0.1:443"], "::ffff:127.0.0.1", 443, False),
        (["[fd00::1]:443"], "fd00::1", 443, True),
        (["fd00::/8"], "fd12::1", 443, True),
        ([], "10.1.2.3", 443, False),
    ],
)
def test_exceptions_are_exact(texts: list[str], address: str, port: int, allowed: bool) -> None:
    assert Exceptions.parse(texts).allows(ipaddress.ip_address(address), port) is allowed


@pytest.mark.parametrize("text", ["mirror.example", "10.1.2.3:0", "10.1.2.3:x", "10.1.2.3/8", "10.1", "[fd00::1", "*"])
def test_a_wrong_exception_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"names no port|is no address"):
        Exceptions.parse([text])
