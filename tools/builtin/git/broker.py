"""The broker: a bare repository of the server's own for each remote. The only place that speaks to remotes.

Commits leave a workspace as a bundle, whose objects are checked here before they are kept, and come to it as one.
Credentials and the network are known here alone.
"""

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from django.conf import settings

from tools.builtin.git import credentials, trusted
from tools.builtin.git.hardening import DIFF_OPTIONS, TOLERATED_FAULTS
from tools.builtin.git.locks import exclusive
from tools.builtin.git.refs import is_full_id
from tools.builtin.git.remotes import is_local
from tools.builtin.git.text import last_line, numstat, records
from tools.errors import ToolFailed, ToolRefused

ASK_TIMEOUT_S = 45.0
_HEADER_MAX_LINES = 5_000
_LINE_MAX = 4_096
_TRANSIENT = re.compile(
    r"Could not resolve host|Failed to connect|Connection (?:refused|reset|timed out)|Operation timed out|early EOF"
    r"|Empty reply|unexpected disconnect|returned error: (?:408|425|429|5\d\d)|RPC failed|TLS connect|SSL connect"
    r"|cannot lock ref|failed to update ref|unable to (?:lock|create)|\.lock': File exists|Resource temporarily unavailable",
    re.IGNORECASE,
)
_NO_ENTRY = re.compile(
    r"Authentication failed|could not read Username|terminal prompts disabled|returned error: 40[13]", re.IGNORECASE
)
_ABSENT = re.compile(
    r"does not appear to be a git repository|repository .* not found|returned error: 404", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What the remote answered for the ref: flag as of `git push --porcelain` (" ", "*", "=", "!"), and why."""

    ok: bool
    flag: str
    detail: str


class Broker:
    """The server's copy of the remote at `url` (canonical, as `remotes.check_url` gives it).

    `cancelled` ends whatever is under way, except a push: that is let finish, so that its outcome is known. tool,
    credential: who asks, and the secret handle named for this repository ("": what is kept for its host).
    """

    def __init__(
        self, url: str, *, cancelled: Callable[[], bool] = lambda: False, tool: str = "git.fetch", credential: str = ""
    ) -> None:
        self.url = url
        self._tool, self._credential = tool, credential
        self._cancelled = cancelled
        folder = Path(settings.DATA_DIR) / "broker"
        self.git_dir = folder / f"{hashlib.sha256(url.encode()).hexdigest()}.git"
        self._lock_path = self.git_dir.with_suffix(".lock")
        self._lock: int | None = None

    @contextmanager
    def open(self) -> Iterator["Broker"]:
        """Holds the copy's lock for the block; makes the copy where there is none.

        Raises:
            ToolFailed: somebody else holds it for too long (transient).
        """
        with exclusive(
            self._lock_path, what="the server's copy of this remote", wait_s=120.0, cancelled=self._cancelled
        ) as self._lock:
            try:
                if (self.git_dir / "HEAD").exists():
                    self._remove_stale_locks()
                else:
                    self.git_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._must("init", "--quiet", "--template=", "--initial-branch=main")
                yield self
            finally:
                self._lock = None

    def refresh(self) -> str:
        """Fetches all branches and tags; gives the name of the remote's default branch, "" where it has none.

        Raises:
            ToolFailed
        """
        answer = self._remote("ls-remote", "--symref", *self._upload(), self.url, "HEAD", timeout_s=ASK_TIMEOUT_S)
        options = {f"fetch.fsck.{fault}": "warn" for fault in TOLERATED_FAULTS}
        self._remote(
            "fetch", "--quiet", "--prune", "--force", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
            *self._upload(), self.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
            options=options,
        )  # fmt: skip
        match = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", answer.stdout, re.MULTILINE)
        return match[1] if match else ""

    def branches(self) -> dict[str, str]:
        """Name and commit of each branch, as of the last refresh."""
        lines = self._must("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/").splitlines()
        return {ref.removeprefix("refs/heads/"): sha for sha, _, ref in (line.partition(" ") for line in lines)}

    def remote_sha(self, ref: str) -> str:
        """Where the remote's `ref` (`refs/...`) stands now, "" where there is none. Asks the remote.

        Raises:
            ToolFailed: it cannot be asked.
        """
        answer = self._remote("ls-remote", "--refs", *self._upload(), self.url, ref, timeout_s=ASK_TIMEOUT_S)
        for line in answer.stdout.splitlines():
            sha, _, name = line.partition("\t")
            if name == ref and is_full_id(sha):
                return sha
        return ""

    def write_bundle(self, path: Path) -> None:
        """All branches and tags as a bundle at `path`, for a workspace to fetch from.

        Raises:
            ToolFailed
        """
        self._must("bundle", "create", "--quiet", "--version=2", str(path), "--branches", "--tags")

    def holds(self, sha: str) -> bool:
        """Whether the copy has this commit with everything behind it."""
        done = self._run("rev-list", "--objects", "--quiet", sha, "--not", "--all", "--")
        return done.exit_code == 0

    def ancestor(self, old: str, new: str) -> bool:
        """Whether commit `old` is `new` or behind it."""
        return self._run("merge-base", "--is-ancestor", old, new).exit_code == 0

    def base(self, one: str, other: str) -> str:
        """The commit where two histories part, "" where they share none."""
        done = self._run("merge-base", one, other)
        return done.stdout.strip() if done.exit_code == 0 else ""

    def behind(self, sha: str, *held: str, most: int) -> list[list[str]]:
        """Commits of `sha` that none of `held` holds, newest first: id, author, subject.

        Raises:
            ToolFailed
        """
        layout, parse = records(("%H", "%an", "%s"))
        known = [f"^{one}" for one in held if one]
        words = ("log", f"--max-count={most}", "--no-notes", "--no-mailmap", "--no-color", f"--format={layout}")
        return list(parse(self._must(*words, sha, *known, "--")))

    def stat(self, before: str, after: str) -> list[dict[str, Any]]:
        """The files that differ between two commits, with lines added and removed. Raises ToolFailed."""
        return numstat(self._must("diff", "--numstat", *DIFF_OPTIONS, before, after, "--").splitlines())

    def accept(self, bundle: IO[bytes], *, sha: str) -> bool:
        """Takes in a bundle that must offer exactly the commit `sha`; False if it builds on commits not known here.

        Nothing in the bundle is believed: git checks each object (fsck) before the pack is kept, and the commit must
        be complete afterwards.

        Raises:
            ToolRefused: it is no such bundle, or an object in it is malformed.
        """
        for prerequisite in _header(bundle, sha=sha):
            if self._run("cat-file", "-e", f"{prerequisite}^{{commit}}").exit_code != 0:
                return False
        strict = ",".join(f"{fault}=warn" for fault in TOLERATED_FAULTS)
        done = self._run("index-pack", "--stdin", "--fix-thin", f"--strict={strict}", stdin=bundle)
        if done.exit_code != 0:
            raise ToolRefused(f"The commits to push are not well formed: {last_line(done.stderr)}", code_detail="fsck")
        if not self.holds(sha):
            raise ToolRefused("The commits to push are not complete.", code_detail="incomplete")
        return True

    def keep(self, sha: str, ref: str) -> None:
        """Holds on to a commit that is about to leave the remote's `ref`, so that it can be brought back. It must be here.

        Raises:
            ToolFailed
        """
        self._must("update-ref", kept_name(ref, sha), sha)

    def kept(self, sha: str, ref: str) -> bool:
        """Whether `sha` stood at the remote's `ref` and was kept."""
        return self._run("rev-parse", "--verify", "--quiet", kept_name(ref, sha)).exit_code == 0

    def push(self, sha: str, ref: str, *, expected: str, dry_run: bool) -> Pushed:
        """Pushes exactly the commit `sha` ("": nothing, the ref goes) to the remote's `ref`, if that stands at `expected`
        ("": is absent).

        The caller has seen to it that `expected` is behind `sha`: the lease says "unmoved", not "forward".

        Raises:
            ToolFailed: the remote cannot be reached, or does not let us in.
        """
        words = ["push", "--porcelain", "--no-verify", "--no-signed", "--no-recurse-submodules", "--no-follow-tags"]
        if dry_run:
            words.append("--dry-run")
        done = self._run(
            *words,
            f"--force-with-lease={ref}:{expected}",
            *trusted.far_end(self.url, "receive-pack"),
            self.url,
            f"{sha}:{ref}",
            url=self.url,
            cancelled=lambda: False,
        )
        for line in done.stdout.splitlines():
            flag, _, rest = line.partition("\t")
            if len(flag) == 1 and rest.startswith(f"{sha}:{ref}\t"):
                detail = rest.partition("\t")[2]
                if flag == "!" and _TRANSIENT.search(f"{detail}\n{done.stderr}"):
                    raise _failure("push", done.stderr)
                return Pushed(ok=done.exit_code == 0 and flag != "!", flag=flag, detail=_answer(detail, done.stderr))
        raise _failure("push", done.stderr)

    @cached_property
    def _login(self) -> dict[str, str]:
        return credentials.header_options(self.url, tool=self._tool, credential=self._credential)

    def _run(self, *arguments: str, **how: Any) -> trusted.Finished:
        how.setdefault("cancelled", self._cancelled)
        if how.get("url") and not is_local(self.url):
            how["login"] = self._login
        return trusted.run(*arguments, git_dir=self.git_dir, holding=self._lock, **how)

    def _remove_stale_locks(self) -> None:
        """What a git that was killed left: whoever holds our lock is alone here."""
        for path in (*self.git_dir.glob("*.lock"), *(self.git_dir / "refs").rglob("*.lock")):
            path.unlink(missing_ok=True)

    def _upload(self) -> list[str]:
        return trusted.far_end(self.url, "upload-pack")

    def _remote(
        self, *arguments: str, options: dict[str, str] | None = None, timeout_s: float = 600.0
    ) -> trusted.Finished:
        done = self._run(*arguments, url=self.url, options=options, timeout_s=timeout_s)
        if done.exit_code != 0:
            raise _failure(arguments[0], done.stderr)
        return done

    def _must(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.exit_code != 0:
            raise ToolFailed(f"git {arguments[0]} failed on the server's copy: {last_line(done.stderr)}")
        return done.stdout


@contextmanager
def handover(root: Path) -> Iterator[Path]:
    """A file name in a folder under the workspace's root, which commands can read and not change; removed afterwards.

    Whoever runs as root writes here without following anything that a command could have laid there.
    """
    folder = root / f"handover-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    folder.chmod(0o711)
    path = folder / "in.bundle"
    try:
        yield path
    finally:
        shutil.rmtree(folder)  # git that was stopped leaves a lock file beside it


@contextmanager
def from_scratch(scratch: Path, name: str) -> Iterator[IO[bytes]]:
    """Opens a file that a command left in the scratch folder, and removes it afterwards. Follows no link.

    Raises:
        ToolRefused: it is not a regular file.
    """
    folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=folder)
        except OSError as error:
            raise ToolRefused(f"The bundle cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ToolRefused("The bundle is not a regular file.")
        with open(descriptor, "rb", buffering=0) as file:
            try:
                yield file
            finally:
                os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)


def kept_name(ref: str, sha: str) -> str:
    """Where the broker holds a commit that left the remote's `ref` (`refs/heads/...`)."""
    return f"refs/kept/{ref.removeprefix('refs/')}/{sha}"


def _header(bundle: IO[bytes], *, sha: str) -> list[str]:
    """Reads the header of a version 2 bundle up to the pack; gives its prerequisites (gitformat-bundle(5))."""
    if _line(bundle) != "# v2 git bundle":
        raise ToolRefused("What came from the workspace is not a bundle.")
    prerequisites, offered = [], []
    for _ in range(_HEADER_MAX_LINES):
        line = _line(bundle)
        if not line:
            break
        if line.startswith("-"):
            prerequisites.append(line[1:].partition(" ")[0])
        else:
            offered.append(line.partition(" ")[0])
    else:
        raise ToolRefused("The bundle's header is too long.")
    if offered != [sha] or not all(map(is_full_id, prerequisites)):
        raise ToolRefused("The bundle does not hold the commit that is to be pushed.", offered=offered[:5], sha=sha)
    return prerequisites


def _line(bundle: IO[bytes]) -> str:
    """A line, read byte by byte: git reads on from the same descriptor where the header ends."""
    line = bytearray()
    while len(line) <= _LINE_MAX:
        byte = bundle.read(1)
        if byte in (b"", b"\n"):
            return line.decode("utf-8", "backslashreplace")
        line += byte
    raise ToolRefused("The bundle's header is malformed.")


def _answer(detail: str, stderr: str) -> str:
    said = [line.partition("remote:")[2].strip() for line in stderr.splitlines() if line.startswith("remote:")]
    return "\n".join([detail, *(line for line in said if line)])[:4_000]


def _failure(what: str, stderr: str) -> ToolFailed:
    said = last_line(stderr) or "no answer"
    if _NO_ENTRY.search(stderr):
        return ToolFailed(f"The remote does not let the server in: {said}", code_detail="no_access")
    if _ABSENT.search(stderr):
        return ToolFailed(f"There is no such repository: {said}", code_detail="no_such_remote")
    if "dubious ownership" in stderr:
        return ToolFailed("The remote belongs to another user than the server's own.", code_detail="ownership")
    transient = bool(_TRANSIENT.search(stderr))
    return ToolFailed(f"git {what}: {said}", transient=transient, code_detail="remote")
