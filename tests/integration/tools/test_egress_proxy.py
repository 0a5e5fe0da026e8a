"""The proxy of a command's network, spoken to as a hostile command would: over real sockets, without the sandbox."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.tools.web_server import WebServer, serve
from tests.unit.tools.egress.test_bodies import client_hello
from tools.egress import proxy as proxies
from tools.egress.connect import Allowlist, Connections, Exceptions, connect, link
from tools.egress.proxy import Proxy, Timeouts
from tools.egress.record import KEPT_MAX
from tools.errors import ToolFailed, ToolRefused

DEADLINE_S = 20.0
PATIENT, HURRIED, SILENT = Timeouts(), Timeouts(head_s=1.5), Timeouts(idle_s=0.5)


@dataclass
class Hosts:
    """A resolver of the test's own: the answers of each name, in turn; asked: every question."""

    answers: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.answers.get(host, [["127.0.0.1"]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass
class Served:
    """A proxy that listens where a test can speak to it."""

    address: tuple[str, int]
    record: Connections
    hosts: Hosts

    def open(self, said: bytes = b"") -> socket.socket:
        made = socket.create_connection(self.address, DEADLINE_S)
        made.sendall(said)
        return made

    def ask(self, said: bytes) -> bytes:
        """All that comes back."""
        with self.open(said) as sock:
            return everything(sock)

    def tunnel(self, host: str, port: int) -> socket.socket:
        sock = self.open(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += sock.recv(1)
        assert said.startswith(b"HTTP/1.1 200 "), said
        return sock


def everything(sock: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            said += part
    return said


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@contextlib.contextmanager
def served(allow: Sequence[str], *, exceptions: Sequence[str] = (), timeouts: Timeouts = PATIENT) -> Iterator[Served]:
    record, hosts = Connections(), Hosts()
    made = Proxy(
        Allowlist.parse(allow), record, exceptions=Exceptions.parse(exceptions), resolver=hosts, timeouts=timeouts
    )
    with made, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        with socket.socket(fileno=socket.dup(made.handover_fd)) as channel:
            socket.send_fds(channel, [b"1"], [listener.fileno()])
        yield Served(listener.getsockname(), record, hosts)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serve() as made:
        made.page("/x", "hello")
        yield made


@pytest.fixture
def proxy(server: WebServer) -> Iterator[Served]:
    allow = [f"good.example:{server.port}"]
    with served(allow, exceptions=[f"127.0.0.1:{server.port}"]) as made:
        yield made


class Upstream:
    """A host that keeps what it is told and says what the test says."""

    def __init__(self, say: bytes = b"", *, echo: bool = False) -> None:
        self.heard: list[bytes] = []
        self._say, self._echo = say, echo
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self._server.accept()[0],), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        place = len(self.heard)
        self.heard.append(b"")
        with sock, contextlib.suppress(OSError):
            sock.sendall(self._say)
            while part := sock.recv(65536):
                self.heard[place] += part
                if self._echo:
                    sock.sendall(part)

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(DEADLINE_S)


def test_tls_passes_through_untouched_and_is_counted(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        server.page("/x", "y" * 300_000)
        place = f"127.0.0.1:{server.port}"
        with served([place], exceptions=[place]) as proxy:
            context = ssl.create_default_context(cafile=str(server.certificate))
            client = http.client.HTTPSConnection(*proxy.address, context=context, timeout=DEADLINE_S)
            client.set_tunnel("127.0.0.1", server.port)
            client.request("GET", "/x", headers={"Connection": "close"})
            assert len(client.getresponse().read()) == 300_000
            client.close()
            until(lambda: proxy.record.as_json()[0]["ended"] != "")
            (entry,) = proxy.record.as_json()
    assert (entry["host"], entry["port"], entry["address"]) == ("127.0.0.1", server.port, "127.0.0.1")
    assert (entry["allowed"], entry["why"]) == (True, "")
    assert entry["received_bytes"] > 300_000 > 2000 > entry["sent_bytes"] > 200


def test_a_plain_request_is_sent_on(proxy: Served, server: WebServer) -> None:
    target = f"http://good.example:{server.port}/x?q"
    said = proxy.ask(
        f"GET {target} HTTP/1.1\r\nHost: good.example:{server.port}\r\nProxy-Authorization: x\r\n\r\n".encode()
    )
    assert said.endswith(b"\r\n\r\nhello")
    method, path, headers, _ = server.seen[0]
    assert (method, path, headers["Host"]) == ("GET", "/x?q", f"good.example:{server.port}")
    assert "Proxy-Authorization" not in headers
    proxy.ask(f"POST {target} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode())
    proxy.ask(f"POST {target} HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef".encode())
    assert server.seen[1][2]["Transfer-Encoding"] == "chunked"
    assert server.seen[2][3] == b"abc"
    assert [entry["allowed"] for entry in proxy.record.as_json()] == [True, True, True]


@pytest.mark.parametrize(
    "target",
    [
        *(
            "evil.example:443",
            "good.example.evil.example:{port}",
            "good.example:22",
            "good.example:443",
            "good.example:80",
        ),
        *("127.0.0.1:{port}", "[::ffff:127.0.0.1]:{port}", "[::1]:{port}", "localhost:{port}", "0.0.0.0:{port}"),
        *("169.254.169.254:80", "metadata.google.internal:80", "xgood.example:{port}"),
    ],
)
def test_a_host_that_is_not_on_the_list_is_refused_and_recorded(proxy: Served, server: WebServer, target: str) -> None:
    target = target.format(port=server.port)
    said = proxy.ask(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"not among the hosts that this call may reach" in said
    if not target.endswith((":443", ":22")):
        assert proxy.ask(f"GET http://{target}/ HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 403 ")
    entries = proxy.record.as_json()
    assert all(not entry["allowed"] and entry["address"] == "" and entry["why"] for entry in entries)
    assert proxy.hosts.asked == []  # a name that may not be reached is not even looked up
    assert server.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        *(
            ["127.0.0.1"],
            ["10.0.0.1", "192.168.1.1"],
            ["169.254.169.254"],
            ["100.64.0.1"],
            ["::1"],
            ["::ffff:127.0.0.1"],
        ),
        *(["64:ff9b::7f00:1"], ["2002:7f00:1::"], ["fd00::1"], ["fe80::1"], ["0.0.0.0"]),
    ],
)
def test_a_name_that_leads_inside_is_refused(answer: Sequence[str], server: WebServer) -> None:
    with served([f"good.example:{server.port}"]) as proxy:
        proxy.hosts.answers["good.example"] = [answer]
        said = proxy.ask(f"CONNECT good.example:{server.port} HTTP/1.1\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"may not be reached" in said
    assert server.seen == []
    assert [entry["allowed"] for entry in proxy.record.as_json()] == [False]


def test_a_name_whose_answer_changes_gains_nothing(server: WebServer) -> None:
    """One look-up for each connection, and what was judged is what is connected to."""
    with served([f"good.example:{server.port}"], exceptions=[f"127.0.0.1:{server.port}"]) as proxy:
        proxy.hosts.answers["good.example"] = [["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1"]]
        ask = f"GET http://good.example:{server.port}/x HTTP/1.1\r\n\r\n".encode()
        assert proxy.ask(ask).endswith(b"hello")
        assert proxy.hosts.asked == ["good.example"]
        assert proxy.ask(ask).startswith(b"HTTP/1.1 403 ")
        assert proxy.ask(ask).endswith(b"hello")
    assert [entry["address"] for entry in proxy.record.as_json()] == ["127.0.0.1", "", "127.0.0.1"]


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
        b"GET http://good.example:{port}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET http://good.example:{port}@evil.example/ HTTP/1.1\r\n\r\n",
        b"GET http://good.example:{port}/ HTTP/1.1\nX: y\n\r\n\r\n",
        b"POST http://good.example:{port}/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT good.example:{port} HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"\x05\x01\x00\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"X" * 40_000,
    ],
)
def test_what_is_not_clear_is_not_sent_on(proxy: Served, server: WebServer, said: bytes) -> None:
    answer = proxy.ask(said.replace(b"{port}", str(server.port).encode()))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert server.seen == []
    (entry,) = proxy.record.as_json()
    assert not entry["allowed"]
    assert entry["why"].startswith("not a request that can be sent on: ")


def test_a_second_request_behind_the_first_stays_here(proxy: Served, server: WebServer) -> None:
    first = f"GET http://good.example:{server.port}/x HTTP/1.1\r\n\r\n"
    for second in (first.replace("/x", "/second"), "GET /second HTTP/1.1\r\nHost: evil.example\r\n\r\n"):
        proxy.ask((first + second).encode())
    with_body = first.replace("GET", "POST").replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n")
    proxy.ask((with_body + "0\r\n\r\nGET /second HTTP/1.1\r\n\r\n").encode())
    assert [path for _, path, _, _ in server.seen] == ["/x", "/x", "/x"]


def test_a_tunnel_whose_tls_is_for_another_host_is_cut_before_a_byte_goes_out() -> None:
    with Upstream() as host, served([f"good.example:{host.port}"], exceptions=["127.0.0.1"]) as proxy:
        with proxy.tunnel("good.example", host.port) as sock:
            sock.sendall(client_hello("evil.example"))
            assert everything(sock) == b""
        until(lambda: proxy.record.as_json()[0]["ended"] != "")
        assert host.heard in ([], [b""])
        (entry,) = proxy.record.as_json()
    assert (entry["allowed"], entry["sent_bytes"]) == (False, 0)
    assert "names 'evil.example', not good.example" in entry["why"]


def test_who_speaks_slowly_is_sent_away_and_others_are_served_meanwhile(server: WebServer) -> None:
    place = [f"127.0.0.1:{server.port}"]
    with served([f"good.example:{server.port}"], exceptions=place, timeouts=HURRIED) as proxy:
        slow = [proxy.open(b"GET http://good") for _ in range(10)]
        assert proxy.ask(f"GET http://good.example:{server.port}/x HTTP/1.1\r\n\r\n".encode()).endswith(b"hello")
        assert all(everything(sock).startswith(b"HTTP/1.1 408 ") for sock in slow)
        for sock in slow:
            sock.close()
        late = [entry["why"] for entry in proxy.record.as_json() if not entry["allowed"]]
    assert late == ["not a request that can be sent on: its head did not come in time"] * 10


def test_a_silent_tunnel_and_a_resolver_without_an_answer_end(server: WebServer) -> None:
    asked, answer = threading.Event(), threading.Event()
    with (
        Upstream() as host,
        served(["*.example.org", f"good.example:{host.port}"], exceptions=["127.0.0.1"], timeouts=SILENT) as proxy,
    ):
        with proxy.tunnel("good.example", host.port) as sock:
            assert everything(sock) == b""

        def hang(host: str, port: int) -> Sequence[str]:
            asked.set()
            answer.wait(DEADLINE_S)
            return ["127.0.0.1"]

        with pytest.raises(ToolFailed) as failed:
            link(
                "a.example.org",
                443,
                allow=Allowlist.parse(["*.example.org"]),
                record=proxy.record,
                timeout_s=0.3,
                resolver=hang,
            )
        answer.set()
        assert (asked.is_set(), failed.value.transient) == (True, True)
        until(lambda: all(entry["ended"] for entry in proxy.record.as_json()))
        assert [entry["why"] for entry in proxy.record.as_json()] == [
            "nothing came for 0.5 s",
            "a.example.org could not be looked up in time.",
        ]


def test_so_many_connections_are_open_and_no_more_and_all_end_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "OPEN_MAX", 5)
    with Upstream() as host:
        socks = []
        with served([f"good.example:{host.port}"], exceptions=["127.0.0.1"]) as proxy:
            socks = [proxy.tunnel("good.example", host.port) for _ in range(5)]
            waiting = proxy.open(f"CONNECT good.example:{host.port} HTTP/1.1\r\n\r\n".encode())
            waiting.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            assert len(proxy.record) == 5
            socks.pop().close()  # one goes, the next comes
            waiting.settimeout(DEADLINE_S)
            assert waiting.recv(12) == b"HTTP/1.1 200"
            socks.append(waiting)
        ended = [everything(sock) for sock in socks]
        for sock in socks:
            sock.close()
    assert len(ended) == 5
    assert all(entry["ended"] for entry in proxy.record.as_json())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("egress-proxy")]


def test_large_bodies_come_whole_both_ways() -> None:
    data = bytes(range(256)) * 12_000
    with Upstream(echo=True) as host, served([f"good.example:{host.port}"], exceptions=["127.0.0.1"]) as proxy:
        with proxy.tunnel("good.example", host.port) as sock:
            sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            sender.start()
            assert everything(sock) == data
            sender.join()
        until(lambda: proxy.record.as_json()[0]["ended"] != "")
        (entry,) = proxy.record.as_json()
    assert (entry["sent_bytes"], entry["received_bytes"], entry["why"]) == (len(data), len(data), "")


def test_the_record_is_bounded_and_says_so() -> None:
    record = Connections()
    for _ in range(KEPT_MAX + 7):
        with pytest.raises(ToolRefused):
            connect("evil.example", 443, allow=Allowlist(), record=record, timeout_s=1)
    found = record.as_json()
    assert (len(record), len(found)) == (KEPT_MAX + 7, KEPT_MAX + 1)
    assert found[-1] == {"left_out": 7}


def test_a_command_that_never_starts_leaves_no_thread() -> None:
    with Proxy(Allowlist.parse(["a.example"]), Connections(), exceptions=Exceptions()):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("egress-proxy")]
