"""Commands with a network: what they reach, what they do not, and what stands in the record."""

import contextlib
import json
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.ids import uuid7
from tests.integration.tools.conftest import Runner
from tests.integration.tools.test_constraints_hold import call
from tests.integration.tools.test_constraints_hold import run as run_call
from tests.integration.tools.web_server import WebServer, serve
from tools.box import SandboxBox
from tools.egress.connect import Allowlist, Connections, Exceptions
from tools.egress.proxy import Proxy
from tools.errors import InvalidArguments, SandboxUnavailable, ToolRefused
from tools.registry import get, validate
from tools.sandbox import probe
from tools.spec import Effect, Limits, Result, Risk
from tools.workspaces import remove, workspace_for

NETWORKED = ("bwrap", "ns")


@pytest.fixture(params=NETWORKED)
def networked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found = probe.report(request.param, network=True)
    if not found.works:
        pytest.skip(f"{request.param}: {found.why}")
    monkeypatch.setenv("SANDBOX_TIER", request.param)
    return str(request.param)


@pytest.fixture
def box() -> Iterator[SandboxBox]:
    workspace = workspace_for(str(uuid7()))
    yield SandboxBox(workspace, limits=Limits(), call_id="test")
    remove(workspace.id)


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Iterator[WebServer]:
    """A TLS server of this machine, which the server's settings make an exception of."""
    with serve(tmp_path) as made:
        made.page("/x", "hello from outside")
        settings.EGRESS_EXCEPTIONS = [f"127.0.0.1:{made.port}"]
        yield made


def run(name: str, box: SandboxBox, **arguments: object) -> Result:
    validate(get(name), arguments)
    return get(name).run(arguments, box)


def curl(server: WebServer, box: SandboxBox, *more: str) -> list[str]:
    trusted = box.workspace.tree / "ca.pem"
    trusted.write_bytes(server.certificate.read_bytes())
    trusted.chmod(0o644)
    return ["curl", "-sS", "--max-time", "20", "--cacert", "ca.pem", *more]


def test_a_hostile_program_reaches_its_one_host_and_nothing_else(
    networked: str, runner: Runner, places: Callable[[Runner], Path], tmp_path: Path
) -> None:
    """As every user that tests can be. What listens here is asked afterwards whether anything came."""
    folder = places(runner)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve())
        server.page("/x", "hello")
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        path, abstract = folder / f"s-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        unix, named = (
            stack.enter_context(socket.socket(socket.AF_UNIX)),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
        )
        for sock, name in ((unix, str(path)), (named, f"\0{abstract}")):
            sock.bind(name)
            sock.listen()
        path.chmod(0o777)
        stack.callback(path.unlink)
        record = Connections()
        answers: dict[str, Sequence[str]] = {
            "good.example": ["127.0.0.1"],
            "rebound.example": ["127.0.0.2", "10.0.0.1"],
        }
        proxy = stack.enter_context(
            Proxy(
                Allowlist.parse([f"good.example:{server.port}", f"rebound.example:{server.port}"]),
                record,
                exceptions=Exceptions.parse([f"127.0.0.1:{server.port}"]),
                resolver=lambda host, port: answers[host],
            )
        )
        facts = {
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(path),
            "abstract": abstract,
            "open": server.port,
        }
        trial = Path(__file__).with_name("egress_trial.py")
        started = runner.start(
            networked,
            str(folder),
            str(proxy.handover_fd),
            json.dumps(facts),
            program=trial,
            pass_fds=[proxy.handover_fd],
        )
        out, said = started.communicate(timeout=120)
        assert started.returncode == 0, said
        came_of_it = json.loads(out)
        assert came_of_it["said"].splitlines() == ["tried"], came_of_it
        assert (came_of_it["exit"], came_of_it["clean"]) == (0, True), came_of_it
        for listening in (tcp, udp, unix, named):
            listening.setblocking(False)
            with pytest.raises(BlockingIOError):
                listening.recv(1) if listening is udp else listening.accept()
        assert [path for _, path, _, _ in server.seen] == ["/x"]
    entries = record.as_json()
    assert [entry["host"] for entry in entries if entry["allowed"]] == ["good.example"]
    refused = {entry["host"] for entry in entries if not entry["allowed"]}
    assert {"127.0.0.1", "localhost", "169.254.169.254", "evil.example", "rebound.example", "::1"} <= refused


def test_a_program_reaches_a_named_host_by_tls_and_the_step_says_so(
    networked: str, server: WebServer, box: SandboxBox
) -> None:
    place = f"127.0.0.1:{server.port}"
    argv = curl(server, box, f"https://{place}/x")
    result = run("shell.exec", box, argv=argv, network=[place])
    assert result.ok, result.text
    assert result.data["stdout"] == "hello from outside"
    held = result.sandbox
    assert (held["tier"], held["network"], held["hosts"]) == (networked, "allow-list", [place])
    (entry,) = held["connections"]
    assert (entry["host"], entry["port"], entry["address"], entry["allowed"]) == (
        "127.0.0.1",
        server.port,
        "127.0.0.1",
        True,
    )
    assert entry["received_bytes"] > 500
    assert entry["ended"]
    assert result.data["sandbox"]["network"] == place


def test_what_is_refused_stands_in_the_record_and_before_the_agent(
    networked: str, server: WebServer, box: SandboxBox
) -> None:
    script = f"curl -sS --max-time 20 https://evil.example/ ; curl -sS http://127.0.0.1:{server.port + 1}/"
    result = run("shell.script", box, script=script, network=[f"127.0.0.1:{server.port}"])
    assert "[network refused: evil.example:443 is not among the hosts that this call may reach.]" in result.text
    assert [(entry["host"], entry["allowed"]) for entry in result.sandbox["connections"]] == [
        ("evil.example", False),
        ("127.0.0.1", False),
    ]
    assert server.seen == []


def test_without_the_admin_s_exception_no_address_of_this_machine_is_reached(
    networked: str, server: WebServer, box: SandboxBox, settings: Any
) -> None:
    settings.EGRESS_EXCEPTIONS = []
    result = run(
        "shell.exec",
        box,
        argv=curl(server, box, f"https://localhost:{server.port}/x"),
        network=[f"localhost:{server.port}"],
    )
    assert not result.ok
    (entry,) = result.sandbox["connections"]
    assert not entry["allowed"]
    assert "loopback" in entry["why"]
    assert server.seen == []


def test_no_host_named_no_network(networked: str, server: WebServer, box: SandboxBox) -> None:
    result = run("shell.exec", box, argv=curl(server, box, f"https://127.0.0.1:{server.port}/x"))
    assert not result.ok
    assert result.sandbox["network"] == "none"
    assert "connections" not in result.sandbox
    assert server.seen == []


def test_git_and_python_find_the_proxy(networked: str, server: WebServer, box: SandboxBox) -> None:
    """Each as it is installed here: the proxy is told of by the environment alone."""
    host = f"127.0.0.1:{server.port}"
    program = f"import urllib.request as u, ssl; c = ssl.create_default_context(cafile='ca.pem'); print(u.urlopen('https://{host}/x', context=c).read().decode())"
    curl(server, box)
    result = run("shell.exec", box, argv=["python3", "-c", program], network=[host])
    assert result.data["stdout"] == "hello from outside\n", result.text
    result = run(
        "shell.exec",
        box,
        argv=["git", "-c", "http.sslCAInfo=ca.pem", "ls-remote", f"https://{host}/none.git"],
        network=[host],
    )
    assert not result.ok
    assert server.seen[-1][1] == "/none.git/info/refs?service=git-upload-pack", result.text


def test_the_tier_without_a_network_of_its_own_refuses(monkeypatch: pytest.MonkeyPatch, box: SandboxBox) -> None:
    monkeypatch.setenv("SANDBOX_TIER", "ll")
    with pytest.raises(SandboxUnavailable, match="No sandbox offers a network here"):
        run("shell.exec", box, argv=["true"], network=["pypi.org"])


def test_what_only_looks_has_no_network(box: SandboxBox) -> None:
    looking = SandboxBox(box.workspace, limits=Limits(), call_id="", read_only=True)
    with pytest.raises(ToolRefused):
        looking.run(["true"], network=Allowlist.parse(["pypi.org"]))


@pytest.mark.django_db(transaction=True)
def test_a_call_reaches_no_more_than_its_rule_lets_it(server: WebServer) -> None:
    if not any(probe.report(name, network=True).works for name in NETWORKED):
        pytest.skip("no tier has a network here")
    good, other = f"127.0.0.1:{server.port}", f"127.0.0.1:{server.port + 1}"
    words = {"argv": ["curl", "-sk", "--max-time", "20", f"https://{good}/x"], "network": [good]}
    for constraint in ("none", ["git.example.org"], [other]):
        with pytest.raises(ToolRefused, match="The rule that lets this call run allows"):
            run_call(call("shell.exec", words, network=constraint))
    assert server.seen == []
    narrowed = run_call(call("shell.exec", {**words, "network": [good, other]}, network=[good, "*.example.org"]))
    assert narrowed.data["stdout"] == "hello from outside"
    assert narrowed.sandbox["hosts"] == [good]
    assert run_call(call("shell.exec", words)).sandbox["hosts"] == [good]


def test_a_command_with_a_network_is_of_high_risk_and_not_run_twice() -> None:
    for name, words in (("shell.exec", {"argv": ["ls"]}), ("shell.script", {"script": "ls"})):
        tool = get(name)
        assert (tool.risk(words).level, tool.effect_of(words)) == (Risk.LOW, Effect.REPEATABLE)
        asked = {**words, "network": ["pypi.org", "*.example.org"]}
        validate(tool, asked)
        score = tool.risk(asked)
        assert (score.level, tool.effect_of(asked)) == (Risk.HIGH, Effect.ONCE)
        assert score.reasons[0] == "it may reach *.example.org, pypi.org over the network"
        assert tool.describe(asked) == "[network: pypi.org, *.example.org] ls"
        for wrong in (["http://pypi.org"], ["*"], ["*.org"], ["pypi.org:0"], [], "pypi.org", ["a"] * 51):
            with pytest.raises(InvalidArguments):
                validate(tool, {**words, "network": wrong})


def test_a_command_with_a_network_is_nobody_s_root(networked: str, box: SandboxBox) -> None:
    """Commands with a network are who they are without one."""
    result = run("shell.exec", box, argv=["id", "-u"], network=["pypi.org"])
    uid = int(result.data["stdout"])
    assert uid == box.record_sandbox()["uid"]
    assert uid != 0


@pytest.mark.parametrize("tier", NETWORKED)
def test_a_tier_that_holds_has_a_network_that_holds(tier: str) -> None:
    if not probe.report(tier).works:
        pytest.skip(probe.report(tier).why)
    found = probe.report(tier, network=True)
    assert found.works, found.why
