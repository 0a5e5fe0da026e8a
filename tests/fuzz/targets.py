"""What a fuzzer throws bytes or text at, and what must hold whatever they are. Shared by the suite and by atheris."""

import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools import commands
from tools.builtin import script
from tools.builtin.beneath import Beneath, NotThere
from tools.commands import languages
from tools.errors import ToolRefused
from tools.redact import Redactor
from tools.sandbox.output import clean
from tools.spec import Risk

SECRET = b"outside the folder"
PIECES = ("..", ".", "a", "b", "file", "link", "folder-link", "loop", "", "/", "~", "a/b", "x" * 300, "\n", "-rf", "{}")
DENIED = ("rm", "-rf", "x")


def shell_text(text: str) -> None:
    """Shell text is opaque, or plain and read the same when it is written anew; what is in it is judged, and the worst
    of it decides."""
    parsed = script.parse(text)
    if parsed.opaque:
        assert parsed.commands == ()
        return
    assert "\r" not in parsed.text
    again = script.parse(parsed.text)
    assert again.opaque or again.commands == parsed.commands
    words([list(argv) for argv in parsed.commands])


def words(given: Sequence[Sequence[str]]) -> None:
    """Commands have a reading whatever their words are, with reasons; one that is denied is found wherever it stands."""
    found = commands.read(given)
    assert found.reasons
    assert found.risk is Risk.HIGH or (found.known and not found.unlisted and found.programs is not None)
    assert found.programs is None or {argv[0] for argv in given} <= set(found.programs)
    with_it = commands.read([*given, DENIED])
    assert with_it.risk is Risk.HIGH
    assert with_it.programs is None or "rm" in with_it.programs
    assert with_it.deletes
    if not any(posixpath.basename(argv[0]) == "cd" for argv in given):
        each = [commands.read([argv]).risk for argv in given]
        assert found.risk is max(each, key=list(Risk).index)
    for write in found.writes:
        if found.risk is not Risk.HIGH:
            assert not write.startswith(("/", "~")) and ".." not in write.split("/"), write


def languages_text(text: str) -> None:
    """Every reader of a small language gives an answer."""
    for reader in languages.READERS.values():
        reader(text)


@contextmanager
def tree() -> Iterator[Path]:
    """A folder with files, links that lead out of it, and a secret beside it."""
    with tempfile.TemporaryDirectory() as base:
        root = Path(base, "tree")
        (root / "a" / "b").mkdir(parents=True)
        (root / "file").write_bytes(b"inside")
        (root / "a" / "file").write_bytes(b"inside")
        Path(base, "secret").write_bytes(SECRET)
        (root / "link").symlink_to("../secret")
        (root / "a" / "link").symlink_to("/etc/passwd")
        (root / "folder-link").symlink_to("..")
        (root / "loop").symlink_to("loop")
        yield root


def path(root: Path, name: str, other: str) -> None:
    """No path leads out of the folder, for reading or for writing."""
    before = sorted(os.listdir(root.parent))
    with Beneath(root) as beneath:
        for act in (
            lambda: beneath.read(name, 1000),
            lambda: beneath.entries(name, depth=2, limit=50),
            lambda: beneath.kind(name),
            lambda: beneath.facts(name),
            lambda: beneath.write(name, b"written"),
            lambda: beneath.make_folder(name),
            lambda: beneath.move(name, other),
            lambda: beneath.remove_file(name),
        ):
            _attempt(act)
    assert sorted(os.listdir(root.parent)) == before
    assert Path(root.parent, "secret").read_bytes() == SECRET


def _attempt(act: Callable[[], object]) -> None:
    try:
        found = act()
    except (NotThere, ToolRefused):
        return
    assert not isinstance(found, bytes) or (SECRET not in found and b"root:" not in found)


def output(chunks: Sequence[str]) -> None:
    """What comes out of the filter does not depend on where the stream was cut, and holds no control characters."""
    redactor = Redactor()
    parts = "".join([redactor.feed(chunk) for chunk in chunks]) + redactor.flush()
    whole = Redactor()
    assert parts == whole.feed("".join(chunks)) + whole.flush()
    cleaned = clean(parts)
    assert not [sign for sign in cleaned if (ord(sign) < 32 and sign not in "\n\t\r") or ord(sign) == 127]
