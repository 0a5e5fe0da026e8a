"""MCP over streamable HTTP: both eras, tokens by handle, OAuth, and no host but those that its row names."""

import threading
import time

import pytest
from django.db import connections

from tests.factories import mcp_http as web
from tests.factories import mcp_servers as servers
from tests.factories.mcp_calls import Job
from tests.factories.secrets import VALUE, a_handle
from tests.integration.tools import web_server
from tools import labels, registry
from tools.errors import ToolFailed, ToolRefused
from tools.mcp import session, sessions
from tools.mcp import web as reached
from tools.workspaces import remove

pytestmark = pytest.mark.django_db(transaction=True)
ECHO, SLOW = "mcp.web.echo", "mcp.web.slow"


@pytest.fixture(autouse=True)
def closed():
    yield
    sessions.close_all(wait_s=10)


@pytest.fixture
def job():
    made = Job()
    yield made
    remove(made.id)


@pytest.fixture
def serve(settings):
    open_ones = []

    def make(**how):
        serving = web.serve(**how)
        found = serving.__enter__()
        open_ones.append(serving)
        settings.EGRESS_EXCEPTIONS = [*settings.EGRESS_EXCEPTIONS, f"127.0.0.1:{found.port}"]
        return found

    yield make
    sessions.close_all(wait_s=10)
    for one in open_ones:
        one.__exit__(None, None, None)


def a_row(server, **fields):
    made = servers.made("web", transport="http", url=server.url, **fields)
    servers.look(made)
    servers.enable(ECHO, SLOW)
    return made


def handle(tmp_path, settings, server):
    settings.SECRETS_DIR = tmp_path
    return a_handle(tmp_path, tools=["mcp.web.*"], hosts=[f"127.0.0.1:{server.port}"], env_names=[])


@pytest.mark.parametrize("protocol", ["legacy", "2026-07-28", "auto"])
def test_calls_in_both_eras(serve, job, protocol):
    a_row(serve(), protocol=protocol)
    done = job.run(ECHO, text="hello")
    assert (done.text, done.data["untrusted"]) == ("hello", True)
    assert labels.of_call(registry.get(ECHO), {"text": "x"}) == {"untrusted", "egress"}  # although it only reads
    assert (done.data["protocol"] >= "2026") == (protocol != "legacy")
    reached = job.run(ECHO, text="again").sandbox["connections"]
    assert {one["host"] for one in reached} == {"127.0.0.1"} and all(one["received_bytes"] for one in reached)


def test_a_token_by_handle(serve, job, tmp_path, settings):
    server = serve(token=VALUE)
    handle(tmp_path, settings, server)
    a_row(server, auth="bearer", secret="deploy-token")
    done = job.run(ECHO, text="hello")
    assert done.ok and done.sandbox["secrets"] == ["deploy-token"]
    assert ("/mcp", f"Bearer {VALUE}") in server.seen
    (tmp_path / "deploy-token").write_text("another-value-of-it\n")  # rotated: the old session is not used any more
    with pytest.raises(ToolFailed) as caught:
        job.run(ECHO, text="hello")
    assert VALUE not in str(caught.value)


def test_oauth_with_client_credentials(serve, job, tmp_path, settings):
    server = serve(token="given-by-the-issuer", oauth=True)
    handle(tmp_path, settings, server)
    a_row(server, auth="oauth", secret="deploy-token", client_id="countersign", issuer=server.root)
    assert job.run(ECHO, text="hello").text == "hello"
    assert ("/mcp", "Bearer given-by-the-issuer") in server.seen


def test_the_client_secret_goes_to_no_other_host(serve, job, tmp_path, settings):
    other = serve(oauth=True, token="x")
    server = serve(token="given", oauth=True, elsewhere=f"http://127.0.0.1:{other.port}/token")
    handle(tmp_path, settings, server)
    made = servers.made(
        "web", transport="http", url=server.url, auth="oauth", secret="deploy-token", client_id="c", issuer=server.root
    )
    with pytest.raises(ToolFailed, match="not among the hosts"):
        servers.look(made)
    assert other.seen == []


def test_an_address_inside_is_not_reached(job, settings):
    with web.serve() as server:
        settings.EGRESS_EXCEPTIONS = []
        made = servers.made("web", transport="http", url=server.url)
        with pytest.raises(ToolFailed, match="may not be reached"):
            servers.look(made)
        assert server.seen == []


def test_a_rule_that_forbids_the_network_forbids_the_call(serve, job):
    a_row(serve())
    with pytest.raises(ToolRefused, match="allows no host at all"):
        job.run(ECHO, {"network": "none"}, text="x")


def test_a_call_that_is_cancelled_is_cancelled_there(serve, job):
    server = serve()
    a_row(server)
    failed = []

    def slow():
        try:
            job.run(SLOW, seconds=60)
        except ToolFailed as error:
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=slow)
    thread.start()
    deadline = time.monotonic() + 60
    while "1 of 2 half" not in "".join(job.log) and time.monotonic() < deadline:
        time.sleep(0.02)
    job.stop.set()
    thread.join(60)
    assert [error.code for error in failed] == ["cancelled"]
    assert server.cancelled.wait(20), "the server was told"
    job.stop.clear()
    assert job.run(ECHO, text="still here").text == "still here"


def test_a_server_that_is_away_says_so(job, serve):
    made = servers.made("web", transport="http", url="http://127.0.0.1:9/mcp")
    with pytest.raises(ToolFailed):
        servers.look(made)
    made.refresh_from_db()
    assert "127.0.0.1" in made.problem


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "gzip"}])
def test_an_answer_without_bounds_is_not_read(settings, monkeypatch, headers):
    monkeypatch.setattr(reached, "BODY_MAX_BYTES", 1000)
    monkeypatch.setattr(session, "OPEN_S", 5.0)
    with web_server.serve() as server:
        settings.EGRESS_EXCEPTIONS = [f"127.0.0.1:{server.port}"]
        url = server.page(
            "/mcp", '{"jsonrpc": "2.0", "id": 1, "result": "' + "x" * 5000, Content_Type="application/json", **headers
        )
        made = servers.made("web", transport="http", url=url, protocol="legacy")
        with pytest.raises(ToolFailed):
            servers.look(made)
        made.refresh_from_db()
        assert "longer than 1000 bytes" in made.problem or "not asked for" in made.problem, made.problem
