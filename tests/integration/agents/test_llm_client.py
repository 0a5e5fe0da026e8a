"""The client against the scripted server over real HTTP: what comes back, and what each fault becomes."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.llm import errors, wire
from agents.llm.client import complete
from agents.llm.values import Endpoint, Request
from tests.factories import scripted_server

LIST = {
    "type": "function",
    "function": {"name": "files__list", "description": "Lists.", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def endpoint():
    with scripted_server.running() as found:
        yield found


def request(fault: str = "", text: str = "look around") -> Request:
    model = f"scripted-demo+{fault}" if fault else "scripted-demo"
    return Request(model=model, messages=[{"role": "user", "content": text}], tools=[LIST], output_tokens=500)


def ask(endpoint, fault="", *, deadline_s=20.0, text="look around"):
    words: list[str] = []
    return complete(endpoint, request(fault, text), deadline_s=deadline_s, on_text=words.append), words


def test_an_answer_comes_in_pieces_and_whole(endpoint):
    answer, words = ask(endpoint)
    assert len(words) > 1
    assert "".join(words) == answer.content
    assert "scripted" in answer.content
    assert [call.name for call in answer.calls] == ["files__list"]
    assert json.loads(answer.calls[0].arguments)["reason"]
    assert answer.finish_reason == "tool_calls"
    assert answer.model == "scripted-demo"
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0 and not answer.usage.estimated


FAULTS = [
    ("status500", errors.EndpointFailed, True),
    ("status503", errors.EndpointFailed, True),
    ("ratelimit", errors.RateLimited, True),
    ("quota", errors.QuotaExhausted, False),
    ("auth", errors.CredentialsRefused, False),
    ("badrequest", errors.RequestRefused, False),
    ("toolong", errors.ContextTooLong, False),
    ("redirect", errors.Redirected, False),
    ("html", errors.NotAnAnswer, True),
    ("error200", errors.EndpointFailed, True),
    ("malformed", errors.MalformedAnswer, True),
    ("types", errors.NotAnAnswer, True),
    ("empty", errors.MalformedAnswer, True),
    ("cut", errors.StreamCut, True),
    ("nofinish", errors.StreamCut, True),
    ("abort", errors.EndpointUnreachable, True),
    ("badchunk", errors.MalformedAnswer, True),
    ("errorchunk", errors.EndpointFailed, True),
    ("length", errors.AnswerTruncated, False),
    ("filter", errors.ContentFiltered, False),
    ("huge", errors.AnswerTooLarge, False),
]


@pytest.mark.parametrize(("fault", "kind", "transient"), FAULTS, ids=[fault for fault, *_ in FAULTS])
def test_each_fault_becomes_its_own_error(endpoint, fault, kind, transient):
    with pytest.raises(errors.LlmError) as caught:
        ask(endpoint, fault)
    assert type(caught.value) is kind
    assert caught.value.transient is transient
    assert caught.value.message


@pytest.mark.parametrize("fault", ["status500", "ratelimit", "cut", "malformed", "html", "nofinish", "abort"])
def test_a_fault_that_happens_once_is_gone_with_the_same_request_again(endpoint, fault):
    with pytest.raises(errors.LlmError):
        ask(endpoint, f"{fault}-once")
    answer, _ = ask(endpoint, f"{fault}-once")
    assert answer.calls


def test_the_endpoint_says_when_to_come_back(endpoint):
    with pytest.raises(errors.RateLimited) as caught:
        ask(endpoint, "ratelimit")
    assert caught.value.retry_after_s == 2.0


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_the_deadline_holds_whether_nothing_comes_or_bytes_without_end(endpoint, fault):
    began = time.monotonic()
    with pytest.raises(errors.EndpointTimeout):
        ask(endpoint, fault, deadline_s=1.0)
    assert time.monotonic() - began < 15


def test_the_deadline_holds_while_headers_drip():
    with _server(lambda connection, stop: _drip_headers(connection, stop)) as base_url:
        began = time.monotonic()
        with pytest.raises(errors.EndpointTimeout):
            ask(Endpoint(base_url=base_url, api_key=""), deadline_s=1.0)
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_cancel_ends_the_call_long_before_its_deadline(endpoint, fault):
    began = time.monotonic()
    with pytest.raises(errors.CallCancelled):
        complete(endpoint, request(fault), deadline_s=60, on_text=lambda text: None, cancelled=lambda: True)
    assert time.monotonic() - began < 15


def test_the_deadline_holds_over_tls(tmp_path, monkeypatch):
    """The watchdog meets an encrypted socket too, in the middle of its handshake and after it."""
    ours, theirs = _tls_contexts(tmp_path)
    monkeypatch.setattr(wire, "_tls", lambda: ours)
    for handle in (lambda raw, stop: stop.wait(60), lambda raw, stop: _drip_headers(_accept(theirs, raw), stop)):
        with _server(handle) as base_url:
            began = time.monotonic()
            with pytest.raises(errors.EndpointTimeout):
                ask(Endpoint(base_url=base_url.replace("http:", "https:"), api_key=""), deadline_s=1.0)
            assert time.monotonic() - began < 15


def test_no_thread_outlives_its_call(endpoint):
    before = threading.active_count()
    ask(endpoint)
    assert threading.active_count() == before


def test_usage_is_estimated_where_the_endpoint_does_not_count(endpoint):
    answer, _ = ask(endpoint, "nousage")
    assert answer.usage.estimated
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0


def test_a_cut_answer_still_says_what_it_cost(endpoint):
    with pytest.raises(errors.AnswerTruncated) as caught:
        ask(endpoint, "length")
    assert caught.value.usage is not None and caught.value.usage.completion_tokens > 0


def test_a_server_that_cannot_stream_is_understood(endpoint):
    answer, words = ask(endpoint, "whole")
    assert "".join(words) == answer.content
    assert answer.calls[0].name == "files__list"


def test_calls_that_all_carry_index_zero_stay_apart(endpoint):
    log = {**LIST, "function": {**LIST["function"], "name": "git__log"}}
    asked = replace(request("index0"), tools=[LIST, log])
    answer = complete(endpoint, asked, deadline_s=20, on_text=lambda text: None)
    assert [call.name for call in answer.calls] == ["files__list", "git__log"]
    assert all(json.loads(call.arguments) for call in answer.calls)


def test_a_closed_port_is_unreachable_and_worth_another_try():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(errors.EndpointUnreachable) as caught:
        ask(Endpoint(base_url=f"http://127.0.0.1:{port}/v1", api_key=""))
    assert caught.value.transient


def test_an_unknown_model_is_named(endpoint):
    asked = replace(request(), model="gpt-nonsense")
    with pytest.raises(errors.ModelNotFound, match="gpt-nonsense"):
        complete(endpoint, asked, deadline_s=20, on_text=lambda text: None)


def test_nothing_of_the_environment_reaches_the_endpoint():
    """Another key, organisation, headers, proxy and base URL in the environment change nothing in what is sent."""
    seen: list[bytes] = []
    with _server(lambda connection, stop: _keep_request(connection, seen)) as base_url:
        code = (
            "from agents.llm.client import complete\n"
            "from agents.llm.errors import LlmError\n"
            "from agents.llm.values import Endpoint, Request\n"
            f"endpoint = Endpoint(base_url={base_url!r}, api_key='the-key')\n"
            "asked = Request(model='m', messages=[{'role': 'user', 'content': 'x'}], tools=[], output_tokens=9)\n"
            "try:\n    complete(endpoint, asked, deadline_s=10, on_text=print)\n"
            "except LlmError as error:\n    print(error.code)\n"
        )
        leaky = {
            "OPENAI_API_KEY": "leak-key",
            "OPENAI_ADMIN_KEY": "leak-admin",
            "OPENAI_ORG_ID": "leak-org",
            "OPENAI_PROJECT_ID": "leak-project",
            "OPENAI_BASE_URL": "http://leak.invalid/v1",
            "OPENAI_CUSTOM_HEADERS": "X-Leak: leak-header\nAuthorization: Bearer leak-auth",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "http_proxy": "http://127.0.0.1:9",
            "ALL_PROXY": "http://127.0.0.1:9",
            "SSL_CERT_FILE": "/leak/none.pem",
        }
        environ = {**os.environ, **leaky}
        run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "endpoint_failed", run.stderr
    head = seen[0].lower()
    assert b"leak" not in head
    assert b"authorization: bearer the-key" in head
    assert b"x-stainless" not in head


def test_the_key_stands_in_no_error_and_no_repr(endpoint):
    secret = Endpoint(base_url=endpoint.base_url, api_key="sk-very-secret")
    assert "secret" not in repr(secret)
    with pytest.raises(errors.CredentialsRefused) as caught:
        ask(secret, "auth")
    assert "secret" not in str(caught.value)


class _server:
    """A bare socket server for what HTTP servers do not do. `handle(connection, stop)` runs in a thread."""

    def __init__(self, handle):
        self._handle, self._stop = handle, threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)
        self._socket.close()

    def _serve(self):
        self._socket.settimeout(20)
        connection, _ = self._socket.accept()
        with connection:
            try:
                self._handle(connection, self._stop)
            except OSError:
                return


def _drip_headers(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    while not stop.wait(0.05):
        connection.sendall(b"a")


def _accept(context: ssl.SSLContext, raw: socket.socket) -> ssl.SSLSocket:
    connection = context.wrap_socket(raw, server_side=True)
    connection.recv(65536)
    return connection


def _tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's context that trusts a fresh certificate for 127.0.0.1, and the server's that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(secret + pem)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(folder / "both.pem")
    return ssl.create_default_context(cadata=pem.decode()), theirs


def _keep_request(connection: socket.socket, seen: list[bytes]) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    seen.append(head)
    body = b'{"error": {"message": "no"}}'
    connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
