"""The one command that makes a sandbox tier work here, as far as this machine tells what is in its way."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# By the names in /etc/os-release (ID, ID_LIKE).
_INSTALL: Mapping[str, str] = {
    "debian": "apt-get install -y bubblewrap",
    "ubuntu": "apt-get install -y bubblewrap",
    "fedora": "dnf install -y bubblewrap",
    "rhel": "dnf install -y bubblewrap",
    "centos": "dnf install -y bubblewrap",
    "alpine": "apk add bubblewrap",
    "arch": "pacman -S --noconfirm bubblewrap",
    "suse": "zypper install -y bubblewrap",
    "opensuse": "zypper install -y bubblewrap",
    "nixos": "nix-env -iA nixos.bubblewrap",
}
_CLOSED = re.compile(r"(/\S+)\Z")
_SCOPED_SINCE = (6, 12)  # the kernel that brought Landlock ABI 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is asked of the machine. settings: of /proc/sys, by name, where they exist; container: is this one;
    distributions: ID and ID_LIKE; kernel: (major, minor); landlock: its ABI, 0 where there is none."""

    settings: Mapping[str, str]
    container: bool
    distributions: tuple[str, ...]
    kernel: tuple[int, int]
    landlock: int


def look(landlock: int) -> Machine:
    """This machine."""
    names = (
        "kernel.apparmor_restrict_unprivileged_userns",
        "kernel.unprivileged_userns_clone",
        "user.max_user_namespaces",
        "user.max_net_namespaces",
    )
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    return Machine(
        settings={name: value for name in names if (value := _read(f"/proc/sys/{name.replace('.', '/')}"))},
        container=os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"),
        distributions=_distributions(),
        kernel=(int(release[1]), int(release[2])) if release else (0, 0),
        landlock=landlock,
    )


def mend(tier: str, why: str, machine: Machine) -> str:
    """The command for a tier that does not work, with a word where it needs one; "" where nothing is known to help."""
    if tier == "bwrap" and "not installed" in why:
        return next(
            (_INSTALL[name] for name in machine.distributions if name in _INSTALL), "Install the package bubblewrap."
        )
    if tier in ("bwrap", "ns"):
        return _namespaces(tier, why, machine)
    if tier == "ll":
        return _landlock(machine)
    return ""


def _namespaces(tier: str, why: str, machine: Machine) -> str:
    closed = _CLOSED.search(why) if why.startswith("Permission denied: /") else None
    if closed:
        return f"chmod o+x {closed[1]}"
    for name in ("user.max_user_namespaces", "user.max_net_namespaces"):
        if machine.settings.get(name) == "0":
            return f"sysctl -w {name}=15000"
    if machine.settings.get("kernel.unprivileged_userns_clone") == "0":
        return "sysctl -w kernel.unprivileged_userns_clone=1"
    if machine.container:
        return (
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined … (start the container so: it forbids user namespaces)"
        )
    if machine.settings.get("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    return ""


def _landlock(machine: Machine) -> str:
    if machine.kernel < _SCOPED_SINCE:
        return f"Start a kernel of {'.'.join(map(str, _SCOPED_SINCE))} or newer."
    if machine.landlock == 0:
        return "Start the kernel with landlock in its lsm= list (/sys/kernel/security/lsm shows the list of today)."
    return ""


def _distributions() -> tuple[str, ...]:
    found = dict(re.findall(r'^(ID|ID_LIKE)="?([^"\n]*)"?$', _read("/etc/os-release"), re.MULTILINE))
    return tuple(
        f"{found.get('ID', '')} {found.get('ID_LIKE', '')}".replace("-leap", "").replace("-tumbleweed", "").split()
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
