"""The environment and the options that every git command runs with.

git starts programs at many places: hooks, pagers, editors, credential helpers, file-system monitors, diff and merge
drivers, remote helpers. Command-line `-c` and the environment win over a repository's own configuration, so what can
be switched off there is switched off here. What cannot (`filter.*`, `merge.*.driver`, aliases) is refused by
`tools.builtin.git.config_scan`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from django.conf import settings

DEFAULT_IDENTITY = "Countersign agent <agent@countersign.invalid>"

# Old histories hold these harmless faults (badly padded modes, odd time zones); they are let through with a warning.
TOLERATED_FAULTS = (
    "zeroPaddedFilemode",
    "badTimezone",
    "missingSpaceBeforeDate",
    "zeroPaddedDate",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeEmail",
)

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.alternateRefsCommand=/bin/false",
    "core.editor=/bin/false",
    "core.pager=cat",
    "core.sshCommand=/bin/false",
    "core.askPass=/bin/false",
    "core.symlinks=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "diff.external=",
    "diff.ignoreSubmodules=all",
    "diff.submodule=short",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "tag.forceSignAnnotated=false",
    "push.gpgSign=false",
    "log.showSignature=false",
    "gpg.program=/bin/false",
    "gpg.ssh.program=/bin/false",
    "gpg.x509.program=/bin/false",
    "merge.verifySignatures=false",
    "rerere.enabled=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "gc.auto=0",
    "maintenance.auto=false",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "http.followRedirects=false",
    "color.ui=false",
    "advice.detachedHead=false",
)

_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_EDITOR": "/bin/false",
    "GIT_SEQUENCE_EDITOR": "/bin/false",
    "GIT_SSH_COMMAND": "/bin/false",
    "GIT_PROTOCOL_FROM_USER": "0",
    # Replaced objects and grafts would show an approver another history than the one that a push sends.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_MERGE_AUTOEDIT": "no",
}

DIFF_OPTIONS = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all", "--submodule=short")


def environment(*, protocols: str = "none") -> dict[str, str]:
    """The variables of a git process.

    protocols: `GIT_ALLOW_PROTOCOL`; "none" lets git reach nothing, "file" is for handing a bundle over, "https" for
    a remote.
    """
    name, email = identity()
    return {
        **_ENVIRONMENT,
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


def command(
    arguments: tuple[str, ...],
    *,
    git_dir: Path,
    work_tree: Path | None,
    options: Mapping[str, str] | None = None,
) -> list[str]:
    """argv of a git command on an explicit repository.

    work_tree: None runs it bare: no index and no `.gitattributes` of the work tree take part.
    options: further `-c` settings.
    """
    place = [f"--git-dir={git_dir}", "--bare" if work_tree is None else f"--work-tree={work_tree}"]
    return unplaced_command(*place, *_settings(f"{key}={value}" for key, value in (options or {}).items()), *arguments)


def unplaced_command(*arguments: str) -> list[str]:
    """argv of a git command that names its repository itself (init)."""
    return ["git", "--no-pager", "--literal-pathspecs", *_settings(_OPTIONS), *arguments]


def _settings(pairs: Iterable[str]) -> list[str]:
    return [word for pair in pairs for word in ("-c", pair)]


def identity() -> tuple[str, str]:
    """Name and e-mail address that commits of agents carry (setting GIT_IDENTITY, as `Name <address>`)."""
    name, _, email = str(getattr(settings, "GIT_IDENTITY", DEFAULT_IDENTITY)).partition("<")
    return name.strip(), email.rstrip("> ").strip()
