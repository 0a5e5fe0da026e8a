"""The command that doctor names for a sandbox tier that does not work."""

from dataclasses import replace

import pytest

from config.doctor.mending import Machine, look, mend
from tools.sandbox import landlock

PLAIN = Machine(
    settings={"user.max_user_namespaces": "1000"},
    container=False,
    distributions=("debian",),
    kernel=(6, 18),
    landlock=7,
)
UNSHARE = "PermissionError(1, 'unshare: Operation not permitted')"


@pytest.mark.parametrize(
    ("tier", "why", "changes", "command"),
    [
        ("bwrap", "FileNotFoundError('bwrap is not installed')", {}, "apt-get install -y bubblewrap"),
        ("bwrap", "FileNotFoundError('bwrap is not installed')", {"distributions": ("rocky", "rhel", "fedora")}, "dnf install -y bubblewrap"),
        ("bwrap", "FileNotFoundError('bwrap is not installed')", {"distributions": ("of-mine",)}, "Install the package bubblewrap."),
        ("ns", UNSHARE, {"settings": {"user.max_user_namespaces": "0"}}, "sysctl -w user.max_user_namespaces=15000"),
        ("ns", UNSHARE, {"settings": {"kernel.unprivileged_userns_clone": "0"}}, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "bwrap",
            "bwrap: setting up uid map: Permission denied",
            {"settings": {"kernel.apparmor_restrict_unprivileged_userns": "1"}},
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("ns", "Permission denied: /srv/closed", {}, "chmod o+x /srv/closed"),
        ("ll", "OSError('Landlock ABI 6 is needed')", {"kernel": (5, 15), "landlock": 1}, "Start a kernel of 6.12 or newer."),
        ("ns", UNSHARE, {}, ""),
    ],
)  # fmt: skip
def test_one_command_mends_it(tier, why, changes, command):
    assert mend(tier, why, replace(PLAIN, **changes)) == command


def test_in_a_container_the_container_is_started_otherwise():
    assert mend("ns", UNSHARE, replace(PLAIN, container=True)).startswith("docker run --security-opt seccomp=")


def test_this_machine_can_be_asked():
    here = look(landlock.abi())
    assert here.kernel > (2, 6)
    assert here.distributions
