"""What the machine has."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from config.doctor import mending
from config.doctor.finding import Finding, fail, ok, warn
from tools.errors import SandboxUnavailable
from tools.sandbox import landlock, probe

OLDEST_PYTHON = (3, 11)
OLDEST_GIT = (2, 38)


def python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield fail("python", version, "Install Python 3.11 or newer, remove .venv and run bin/up again.")
    else:
        yield ok("python", f"{version} at {sys.executable}")


def git() -> Iterator[Finding]:
    path = shutil.which("git")
    if path is None:
        yield fail("git", "not found on PATH", "Install git: steps that work on repositories need it.")
        return
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST_GIT:
        wanted = ".".join(map(str, OLDEST_GIT))
        yield fail("git", said, f"Install git {wanted} or newer: previews of merges need it.")
    else:
        yield ok("git", f"{said} at {path}")


def sandbox() -> Iterator[Finding]:
    """Each tier really runs a command that tries to get out."""
    probe.use_folder(_trial_folder())
    here = mending.look(landlock.abi())
    for tier in probe.tiers():
        name = f"sandbox {tier.name}"
        command = mending.mend(tier.name, tier.why, here)
        if tier.works:
            yield ok(name, f"holds{f'; {tier.why}' if tier.why else ''}")
        else:
            yield warn(name, f"not usable: {tier.why}", command or "Not needed while another tier holds.")
    try:
        best = probe.best()
    except SandboxUnavailable as error:
        commands = [mending.mend(tier.name, tier.why, here) for tier in probe.tiers()]
        command = next(filter(None, commands), "Install bubblewrap, or allow user namespaces.")
        yield fail("sandbox", str(error), f"{command} — without a sandbox no step runs.")
        return
    yield ok("sandbox", f"steps run in tier {best}")
    yield _network(here)


def _network(here: mending.Machine) -> Finding:
    """Whether commands can be given a network of named hosts, in the best tier that holds one."""
    try:
        return ok("sandbox network", f"by allow-list, in tier {probe.best(network=True)}")
    except SandboxUnavailable as error:
        tried = [tier for tier in probe.tiers(network=True) if tier.name != "ll"]
        commands = [mending.mend(tier.name, tier.why, here) for tier in tried]
        return warn("sandbox network", str(error), next(filter(None, commands), "Commands run without a network."))


def _trial_folder() -> Path:
    """Where the workspaces are, so that the trial also proves that they can be reached."""
    folder = Path(settings.WORKSPACE_DIR)
    return folder if folder.is_dir() and os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


def secret_files() -> Iterator[Finding]:
    """Files that hold secrets must be closed to everybody but their owner."""
    loose, looked = [], 0
    for folder in (Path(settings.DATA_DIR) / "secrets", Path(settings.AUDIT_KEY_DIR)):
        for path in sorted(folder.glob("*")) if os.access(folder, os.R_OK) else ():
            if path.suffix in {".vkey", ".pub", ".json", ".lock"}:  # public, or state without secrets
                continue
            looked += 1
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                loose.append(f"{path} (mode {mode:04o})")
    if loose:
        yield fail(
            "secrets", "others may read " + ", ".join(loose), f"chmod 600 {' '.join(p.split(' ')[0] for p in loose)}"
        )
    elif looked:
        yield ok("secrets", f"{looked} files, closed to others")
    else:
        yield ok("secrets", "none are kept here, or another user keeps them")


def folders() -> Iterator[Finding]:
    """Can this user write where the server writes?"""
    data = Path(settings.DATA_DIR)
    if not data.exists():
        yield warn(
            "folders", f"{data} does not exist yet", "bin/up makes it; in production create it for the server's user."
        )
        return
    closed = [
        str(path) for path in (data, Path(settings.WORKSPACE_DIR)) if path.exists() and not os.access(path, os.W_OK)
    ]
    if closed:
        yield fail(
            "folders", f"not writable: {', '.join(closed)}", "Run this as the server's user, or give it these folders."
        )
    else:
        yield ok("folders", f"data in {data}, workspaces in {settings.WORKSPACE_DIR}")
