"""What the confined child does to itself, last of all before it becomes the command. Stdlib only."""

from __future__ import annotations

import os
import resource

from tools.sandbox import kernel, landlock, seccomp
from tools.sandbox.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

# Where the egress proxy listens, in the command's own network.
PROXY_PORT = 3128

# Read-only for every command, where they exist: programs, libraries, and what libraries look up.
SYSTEM_READ = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
# Facts about the machine that runtimes size themselves by.
MACHINE_READ = (
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/version",
    "/sys/devices/system/cpu",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")

_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT)


def apply_limits(limits: dict[str, int]) -> None:
    """Sets the resource limits named in the spec: cpu_s, file_size_bytes, open_files, data_bytes, processes."""
    cpu = limits["cpu_s"]
    _limit(resource.RLIMIT_CPU, cpu, cpu + 1)
    _limit(resource.RLIMIT_FSIZE, limits["file_size_bytes"])
    _limit(resource.RLIMIT_NOFILE, limits["open_files"])
    _limit(resource.RLIMIT_DATA, limits["data_bytes"])
    _limit(resource.RLIMIT_NPROC, limits["processes"])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 64 * 1024)
    _limit(12, 0)  # RLIMIT_MSGQUEUE, which the resource module does not name


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(which)[1]
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        wanted = min(wanted, ceiling)
    resource.setrlimit(which, (min(soft, wanted), wanted))


def prepare(spec: dict[str, Any]) -> None:
    """A session of its own, default signals, first in line for the out-of-memory killer."""
    os.setsid()
    os.umask(0o022)
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
    except OSError:
        pass
    os.chdir(spec["cwd"])


def become_command(spec: dict[str, Any], *, read: Iterable[str] = (), write: Iterable[str] = ()) -> NoReturn:
    """Confines this process by Landlock and seccomp for good and turns it into the command.

    `read` and `write` are added to the spec's own paths. Exits with 127 where the program is not found, 126 where it
    cannot be started.

    Raises:
        OSError: the confinement could not be set up; nothing ran.
    """
    prepare(spec)
    apply_limits(spec["limits"])
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    landlock.restrict(
        read=[*SYSTEM_READ, *MACHINE_READ, *spec["read"], *read],
        write=[*spec["write"], *write],
        devices=DEVICES,
        connect=(PROXY_PORT,) if spec["network"] else (),
    )
    seccomp.install(seccomp.program(spec["tier"], network=spec["network"]))
    kernel.close_all_but({0, 1, 2})
    execute(spec["argv"], spec["env"])


def execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """exec, with a shell's exit codes for what cannot be started."""
    try:
        _search(argv, env)
    except (FileNotFoundError, NotADirectoryError):
        os._exit(complain(argv[0], "command not found", 127))
    except OSError as error:
        os._exit(complain(argv[0], error.strerror or "cannot be started", 126))
    except ValueError as error:
        os._exit(complain(argv[0], str(error), 126))


def _search(argv: list[str], env: dict[str, str]) -> NoReturn:
    """As `os.execvpe`, which imports, and nothing can be imported any more."""
    name, told = argv[0], None
    folders = [""] if "/" in name else [f"{folder}/" for folder in env.get("PATH", "/usr/bin:/bin").split(":")]
    for folder in folders:
        try:
            os.execve(folder + name, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            told = told or error
    raise told or FileNotFoundError(name)


def complain(name: str, why: str, code: int) -> int:
    """Says on stderr why the command was not started; returns `code`."""
    os.write(2, f"{name}: {why}\n".encode(errors="backslashreplace"))
    return code
