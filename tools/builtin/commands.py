"""How dangerous a command looks: a table of what is known to be harmless, and a table of what is known not to be.

This only decides whether a person is asked. What a command can do is decided by the sandbox, whatever it is called.
A program of the first table is harmless only with the options listed there; an option that is not listed asks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tools.spec import Risk, RiskScore


@dataclass(frozen=True, slots=True)
class Harmless:
    """flags: one-letter options; valued: one-letter options that take a value; long: exact long options, a trailing
    `=` where a value follows; operands: how many words that are not options, at most."""

    flags: str = ""
    valued: str = ""
    long: tuple[str, ...] = ()
    operands: int = 10_000


_COLOR = ("--color", "--color=", "--no-color")
_READS: dict[str, Harmless] = {
    "basename": Harmless("az", "s"),
    "cat": Harmless("AbeEnstTuv", long=("--number", "--show-all")),
    "cd": Harmless(operands=1),
    "cksum": Harmless(),
    "cmp": Harmless("bls", "in"),
    "column": Harmless("t", "csN"),
    "comm": Harmless("123"),
    "cut": Harmless("sz", "bcdf", ("--complement", "--output-delimiter=")),
    "date": Harmless("uRI", long=("--utc", "--iso-8601", "--iso-8601=", "--rfc-3339=")),
    "df": Harmless("ahiklTP"),
    "diff": Harmless("abBdeEiNqrsuwyZ", "CUx", ("--brief", "--recursive", "--stat", "--unified", "--unified=", *_COLOR)),
    "dirname": Harmless("z"),
    "du": Harmless("abchkmsx", "d", ("--max-depth=",)),
    "echo": Harmless("eEn"),
    "expr": Harmless(),
    "false": Harmless(),
    "file": Harmless("bhikLrsz", long=("--brief", "--mime", "--mime-type")),
    "grep": Harmless(
        "abcEFGHhILilnoPqRrsTvwxyZ",
        "ABCDdem",
        (
            "--count", "--exclude-dir=", "--exclude=", "--extended-regexp", "--files-with-matches", "--fixed-strings",
            "--ignore-case", "--include=", "--invert-match", "--line-number", "--max-count=", "--recursive",
            "--word-regexp", *_COLOR,
        ),
    ),
    "head": Harmless("qvz0123456789", "cn", ("--bytes=", "--lines=", "--quiet")),
    "hostname": Harmless(operands=0),
    "id": Harmless("Ggnru"),
    "jq": Harmless("acCeHMnrsS", "", ("--arg", "--argjson", "--compact-output", "--raw-output", "--slurp", "--tab")),
    "ls": Harmless(
        "1aAbBcCdFgGhHiklLmnNopqQrRsStuUvxXZ", "IwT", ("--all", "--almost-all", "--recursive", "--reverse", *_COLOR)
    ),
    "md5sum": Harmless("bct", long=("--check", "--quiet", "--status")),
    "nl": Harmless("p", "bdfhilnsvw"),
    "nproc": Harmless(long=("--all",)),
    "od": Harmless("abcdfhilosvx", "AjNStw"),
    "paste": Harmless("sz", "d"),
    "printenv": Harmless("0"),
    "printf": Harmless(),
    "pwd": Harmless("LP"),
    "readlink": Harmless("efmnqsvz"),
    "realpath": Harmless("eLmPqsz", long=("--relative-to=",)),
    "rev": Harmless(),
    "seq": Harmless("w", "fs"),
    "sha1sum": Harmless("bct", long=("--check", "--quiet", "--status")),
    "sha256sum": Harmless("bct", long=("--check", "--quiet", "--status")),
    "sleep": Harmless(operands=1),
    "sort": Harmless("bcCdfghiMmnRrsuVz", "kt", ("--reverse", "--unique", "--numeric-sort", "--version-sort")),
    "stat": Harmless("fLt", "c", ("--format=", "--printf=")),
    "tac": Harmless("br", "s"),
    "tail": Harmless("qvz0123456789", "cn", ("--bytes=", "--lines=", "--quiet")),
    "test": Harmless("bcdefghknprstuwxzGLNOS"),
    "tr": Harmless("cCdst"),
    "tree": Harmless("adfhinps", "ILP", ("--dirsfirst", "--gitignore", "--noreport")),
    "true": Harmless(),
    "uname": Harmless("aimnoprsv"),
    "uniq": Harmless("cdDiuz", "fsw", operands=1),  # a second operand is a file that it writes
    "wc": Harmless("clLmw", long=("--bytes", "--chars", "--lines", "--words")),
    "which": Harmless("a"),
    "whoami": Harmless(operands=0),
}  # fmt: skip
# The beginnings of commands that run the project's own tests and checks.
_TESTS: tuple[tuple[str, ...], ...] = (
    ("python3", "-m", "unittest"),
    ("python", "-m", "unittest"),
    ("python3", "-m", "pytest"),
    ("python", "-m", "pytest"),
    ("python3", "-m", "compileall"),
    ("python3", "-m", "doctest"),
    ("python3", "-m", "mypy"),
    ("python3", "-m", "ruff", "check"),
    ("pytest",),
    ("mypy",),
    ("ruff", "check"),
    ("flake8",),
    ("tox",),
    ("npm", "test"),
    ("npm", "run", "test"),
    ("npm", "run", "lint"),
    ("yarn", "test"),
    ("pnpm", "test"),
    ("cargo", "test"),
    ("cargo", "check"),
    ("cargo", "clippy"),
    ("go", "test"),
    ("go", "vet"),
    ("make", "test"),
    ("make", "check"),
    ("make", "lint"),
    ("mvn", "test"),
    ("gradle", "test"),
    ("bundle", "exec", "rspec"),
    ("rspec",),
    ("ctest",),
    ("shellcheck",),
)
_VERSION_OF = frozenset(
    {"python", "python3", "node", "npm", "go", "cargo", "rustc", "gcc", "make", "git", "java", "ruby"}
)
_GIT_READS = frozenset({"status", "diff", "log", "show", "rev-parse", "ls-files", "blame", "shortlog", "describe"})
_GIT_REMOTE = frozenset({"clone", "fetch", "ls-remote", "pull", "push", "remote", "submodule"})
_GIT_LOSES = frozenset({"clean", "filter-branch", "gc", "prune", "rebase", "reflog", "reset", "restore", "update-ref"})

_NETWORK = "wants the network, which the sandbox does not have"
_PRIVILEGE = "wants another user's rights"
_HIDES = "runs text or commands that stand in its arguments"
_DANGEROUS: dict[str, str] = {
    **dict.fromkeys(
        ("curl", "wget", "nc", "ncat", "netcat", "ssh", "scp", "sftp", "rsync", "ftp", "telnet", "socat", "nmap", "dig",
         "nslookup", "ping", "gh", "glab", "aws", "gcloud", "az", "twine"),
        _NETWORK,
    ),
    **dict.fromkeys(("sudo", "su", "doas", "pkexec", "runuser", "setpriv", "unshare", "nsenter", "chroot"), _PRIVILEGE),
    **dict.fromkeys(
        ("eval", "source", ".", "exec", "trap", "command", "builtin", "alias", "xargs", "parallel", "env", "nohup",
         "setsid", "timeout", "nice", "watch", "time", "script", "busybox", "expect"),
        _HIDES,
    ),
    **dict.fromkeys(("dd", "mkfs", "shred", "wipefs", "fdisk", "truncate"), "overwrites data"),
    **dict.fromkeys(("docker", "podman", "kubectl", "helm", "terraform", "ansible", "ansible-playbook", "systemctl",
                     "crontab", "at"), "acts on other systems or later"),
    **dict.fromkeys(("kill", "killall", "pkill"), "ends processes"),
}  # fmt: skip
# Interpreters, and the options that take program text.
_INTERPRETERS: dict[str, tuple[str, ...]] = {
    "sh": ("c",),
    "bash": ("c",),
    "dash": ("c",),
    "zsh": ("c",),
    "ksh": ("c",),
    "python": ("c",),
    "python3": ("c",),
    "perl": ("e", "E"),
    "ruby": ("e",),
    "node": ("e", "p", "-eval", "-print"),
    "php": ("r",),
    "lua": ("e",),
}
# Programs that run others, which stand among their words.
WRAPPERS = frozenset(name for name, why in _DANGEROUS.items() if why in (_HIDES, _PRIVILEGE))
INTERPRETERS = frozenset(_INTERPRETERS)
TEXT_OPTIONS = _INTERPRETERS  # by interpreter
_FIND_ACTS = frozenset({"-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fprintf", "-fls"})
_SED_ACTS = ("-i", "--in-place", "-e", "-f", "--expression", "--file")


def score(commands: Sequence[Sequence[str]]) -> RiskScore:
    """The worst of the commands, with every reason. What is certain to be dangerous is looked for in all of them."""
    found = [judge(argv) for argv in commands]
    level = max((risk for risk, _ in found), key=_ORDER.index, default=Risk.LOW)
    reasons = dict.fromkeys(reason for risk, reason in found if risk is level)
    return RiskScore(level=level, reasons=tuple(reasons))


_ORDER = [Risk.LOW, Risk.MEDIUM, Risk.HIGH]


def judge(argv: Sequence[str]) -> tuple[Risk, str]:
    """The risk of one command, and why in words."""
    name = argv[0]
    if name in _DANGEROUS:
        return Risk.HIGH, f"{name} {_DANGEROUS[name]}"
    special = _SPECIAL.get(name)
    verdict = special(argv) if special else None
    if verdict is not None:
        return verdict
    if "/" in name:
        return Risk.MEDIUM, f"runs the file {name}"
    if name in _VERSION_OF and list(argv[1:]) in (["--version"], ["-V"], ["version"]):
        return Risk.LOW, f"asks {name} for its version"
    if any(tuple(argv[: len(test)]) == test for test in _TESTS):
        return Risk.LOW, f"runs the project's own checks ({' '.join(argv[:3])})"
    if name in _INTERPRETERS:
        return _judge_interpreter(argv)
    if name in _READS:
        return _judge_reading(argv, _READS[name])
    return Risk.MEDIUM, f"{name} is not on the list of harmless programs"


def runs_files(argv: Sequence[str]) -> bool:
    """Does this command run a file that it names (an interpreter's script, a program by its path)?"""
    return "/" in argv[0] or argv[0] in _INTERPRETERS or argv[0] in (".", "source")


def _judge_reading(argv: Sequence[str], known: Harmless) -> tuple[Risk, str]:
    name, operands, words = argv[0], 0, iter(argv[1:])
    literal = name in ("echo", "printf", "test", "expr")
    for word in words:
        if word == "--":
            operands += len(rest := list(words))
            if not literal and (out := _outside(rest)):
                return Risk.MEDIUM, f"{name} names {out}, outside the workspace"
            break
        if word.startswith("--"):
            option = word.split("=", 1)[0] + ("=" if "=" in word else "")
            if option not in known.long and not literal:
                return Risk.MEDIUM, f"{name} with {option.rstrip('=')} is not on the list of harmless options"
        elif word.startswith("-") and len(word) > 1 and not literal:
            unknown = _unlisted(word[1:], known, words)
            if unknown:
                return Risk.MEDIUM, f"{name} with -{unknown} is not on the list of harmless options"
        else:
            operands += 1
            if not literal and (out := _outside([word])):
                return Risk.MEDIUM, f"{name} names {out}, outside the workspace"
    if operands > known.operands:
        return Risk.MEDIUM, f"{name} with {operands} operands is not on the list"
    return Risk.LOW, f"{name} only reads"


def _unlisted(cluster: str, known: Harmless, following: Iterator[str]) -> str:
    """The first letter of the cluster that is not listed; consumes the value of one that takes it."""
    for at, letter in enumerate(cluster):
        if letter in known.flags:
            continue
        if letter in known.valued:
            if at == len(cluster) - 1:
                next(following, None)
            return ""
        return letter
    return ""


def _outside(words: Sequence[str]) -> str:
    for word in words:
        if word.startswith(("/", "~")) or ".." in PurePosixPath(word).parts:
            return word
    return ""


def _judge_interpreter(argv: Sequence[str]) -> tuple[Risk, str]:
    name = argv[0]
    for word in argv[1:]:
        if not word.startswith("-") or word == "-":
            break
        if word in ("-m", "--"):
            break
        if not word.startswith("--") and any(letter in word[1:] for letter in _INTERPRETERS[name] if len(letter) == 1):
            return Risk.HIGH, f"{name} {_HIDES}"
        if any(word.startswith(f"-{long}") for long in _INTERPRETERS[name] if len(long) > 1):
            return Risk.HIGH, f"{name} {_HIDES}"
    if len(argv) == 1 or argv[1:] == ["-"]:
        return Risk.HIGH, f"{name} {_HIDES}"
    return Risk.MEDIUM, f"runs {' '.join(argv[:3])}"


def _judge_rm(argv: Sequence[str]) -> tuple[Risk, str]:
    options = [word for word in argv[1:] if word.startswith("-")]
    if any(word in ("--recursive", "--force", "--no-preserve-root") for word in options) or any(
        set(word[1:]) & set("rRf") for word in options if not word.startswith("--")
    ):
        return Risk.HIGH, "rm removes folders or asks nothing"
    return Risk.MEDIUM, "rm removes files"


def _judge_find(argv: Sequence[str]) -> tuple[Risk, str] | None:
    acts = [word for word in argv[1:] if word in _FIND_ACTS]
    if acts:
        return Risk.HIGH, f"find with {acts[0]} acts on what it finds"
    if out := _outside([word for word in argv[1:] if not word.startswith("-")]):
        return Risk.MEDIUM, f"find names {out}, outside the workspace"
    return Risk.LOW, "find only reads"


def _judge_sed(argv: Sequence[str]) -> tuple[Risk, str] | None:
    words = [word for word in argv[1:] if word != "-n"]
    if len(words) >= 1 and not any(word.startswith(_SED_ACTS) for word in words):
        script = words[0]
        if script.rstrip("p").replace(",", "").replace("$", "").isdigit() and not _outside(words[1:]):
            return Risk.LOW, "sed prints lines"
    return Risk.MEDIUM, "sed may change files"


def _judge_git(argv: Sequence[str]) -> tuple[Risk, str] | None:
    subcommand = argv[1] if len(argv) > 1 else ""
    if subcommand in _GIT_REMOTE:
        return Risk.HIGH, f"git {subcommand} {_NETWORK}; there are git tools for it"
    if subcommand in _GIT_LOSES:
        return Risk.HIGH, f"git {subcommand} can lose work"
    if subcommand.startswith("-"):
        return (Risk.LOW, "asks git for its version") if subcommand == "--version" else (Risk.HIGH, f"git {_HIDES}")
    plain = all(not word.startswith("-") or word in ("-p", "--stat", "--oneline", "--short") for word in argv[2:])
    if subcommand in _GIT_READS and plain:
        return Risk.LOW, f"git {subcommand} only reads"
    return Risk.MEDIUM, f"git {subcommand} may change the repository"


_SPECIAL: dict[str, Callable[[Sequence[str]], tuple[Risk, str] | None]] = {
    "find": _judge_find,
    "git": _judge_git,
    "rm": _judge_rm,
    "sed": _judge_sed,
}
