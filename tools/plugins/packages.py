"""The plugins that are installed: what they are made of, without importing any of it."""

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from tools.plugins import GROUP

FILES_MAX = 5000
BYTES_MAX = 64 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"\bextra\s*==")
_OURS = {"agents", "approvals", "audit", "config", "tools"}
# What installers write about an installation, and what is made anew at will.
_VOLATILE = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


class Unreadable(Exception):
    """A plugin's files cannot be taken stock of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed distribution that brings tools. entries: `module:attribute` of each entry point."""

    name: str
    version: str
    entries: tuple[str, ...]
    dist: metadata.Distribution

    def files(self) -> dict[str, Path]:
        """Relative name -> file, of everything that it can run. Raises Unreadable."""
        found = dict(_recorded(self.dist))
        for top in sorted({entry.partition(":")[0].partition(".")[0].strip() for entry in self.entries}):
            found.update(_module_files(top))
        if len(found) > FILES_MAX or sum(path.stat().st_size for path in found.values()) > BYTES_MAX:
            raise Unreadable(f"It has more than {FILES_MAX} files or {BYTES_MAX} bytes.")
        return found

    def code_sha256(self) -> str:
        """Over each file's relative name and content. Raises Unreadable."""
        whole = hashlib.sha256(b"countersign-plugin/v1\n")
        try:
            for name, path in sorted(self.files().items()):
                whole.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        except OSError as error:
            raise Unreadable(f"{error}") from error
        return whole.hexdigest()

    def facts(self) -> dict[str, object]:
        """What is pinned about it. Raises Unreadable."""
        return {
            "name": self.name,
            "version": self.version,
            "code_sha256": self.code_sha256(),
            "entry_points": list(self.entries),
            "requires": {dist.name: dist.version for dist in required(self.dist)},
        }


def installed() -> list[Package]:
    """Every distribution with entry points of the group, by name. The first on the path counts, as for imports."""
    importlib.invalidate_caches()
    found: dict[str, Package] = {}
    for dist in metadata.distributions():
        package = _package(dist)
        if package is not None:
            found.setdefault(package.name, package)
    return [found[name] for name in sorted(found)]


def named(name: str) -> Package | None:
    """The installed plugin of this name."""
    importlib.invalidate_caches()
    try:
        package = _package(metadata.distribution(name))
    except (metadata.PackageNotFoundError, ValueError):
        return None
    return package if package is not None and package.name == canonical(name) else None


def _package(dist: metadata.Distribution) -> Package | None:
    entries = tuple(sorted(entry.value for entry in dist.entry_points if entry.group == GROUP))
    name = canonical(dist.metadata["Name"] or "") if entries else ""
    return Package(name=name, version=dist.version, entries=entries, dist=dist) if name else None


def canonical(name: str) -> str:
    """As PEP 503 writes a project's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(dist: metadata.Distribution) -> list[metadata.Distribution]:
    """What is installed of what it needs, and of what that needs, by name; extras are left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [dist]
    while waiting:
        for line in waiting.pop().requires or ():
            match = _NAME.match(line)
            if match is None or _EXTRA.search(line) or canonical(match[0]) in found:
                continue
            try:
                needed = metadata.distribution(match[0])
            except metadata.PackageNotFoundError:  # for another system, by its marker
                continue
            found[canonical(match[0])] = needed
            waiting.append(needed)
    return [found[name] for name in sorted(found)]


def recorded_files(dist: metadata.Distribution) -> dict[str, Path]:
    """Relative name -> file, as its installer recorded them."""
    return dict(_recorded(dist))


def _recorded(dist: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for file in dist.files or ():
        name, path = PurePosixPath(str(file)), Path(str(dist.locate_file(file)))
        if ".." in name.parts or name.is_absolute() or name.suffix == ".pyc" or name.name in _VOLATILE:
            continue
        if name.name.startswith("__editable__") or not path.is_file():
            continue
        yield str(name), path


def _module_files(top: str) -> Iterator[tuple[str, Path]]:
    """Of a top-level module or package, wherever it is; a `find_spec` of such a name imports nothing."""
    if top in _OURS:
        raise Unreadable(f"{top} is the server's own.")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError) as error:
        raise Unreadable(f"{top} cannot be found: {error}") from error
    if spec is None:
        raise Unreadable(f"{top} cannot be found: is it installed, and was this process started since?")
    if spec.submodule_search_locations is None:
        if spec.origin is None or not Path(spec.origin).is_file():
            raise Unreadable(f"{top} has no file.")
        yield Path(spec.origin).name, Path(spec.origin)
        return
    for location in spec.submodule_search_locations:
        folder = Path(location)
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(folder)
            if path.is_file() and "__pycache__" not in inner.parts and path.suffix != ".pyc":
                yield f"{top}/{inner.as_posix()}", path
