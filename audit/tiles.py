"""The log as files, as C2SP's tlog-tiles lays them out: the tree's hashes in tiles of 256, and the entries themselves.

    tile/<L>/<N>[.p/<W>]        256 hashes of level 8·L, or W of them
    tile/entries/<N>[.p/<W>]    the entries under a tile of level 0, each after its length (two bytes, big-endian)

The files hold what the database's log holds, but payloads: of these the entries have salted hashes alone.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from audit.errors import InvalidProof, SignerRefused
from audit.merkle import HASH_BYTES, leaf_hash, node_hash

WIDTH = 256
HEIGHT = 8
ENTRIES = "entries"
FLUSH_EVERY = 64  # files

Fetch = Callable[[str], bytes | None]
"""The bytes at a path below the log's folder, or None."""
Entries = Callable[[int, int], Iterator[tuple[bytes, bytes]]]
"""(start, stop) -> (entry, leaf hash) of that range."""


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """The path of a tile, or with the level `entries` of a bundle of entries."""
    parts = [f"{number % 1000:03}"]
    while number >= 1000:
        number //= 1000
        parts.append(f"x{number % 1000:03}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(parts))}{partial}"


def tile_paths(old: int, new: int) -> Iterator[str]:
    """The files of a log of `new` entries that one of `old` has not, entries first and higher levels last."""
    for level in (ENTRIES, *range(1 + max(new.bit_length() - 1, 0) // HEIGHT)):
        shift = 0 if level == ENTRIES else HEIGHT * int(level)
        before, after = old >> shift, new >> shift
        for number in range(before // WIDTH, -(-after // WIDTH)):
            width = min(WIDTH, after - number * WIDTH)
            if after > before:
                yield tile_path(level, number, width)


def bundle(entries: list[bytes]) -> bytes:
    """Raises ValueError where an entry is longer than 65,535 bytes."""
    if any(len(entry) > 0xFFFF for entry in entries):
        raise ValueError("An entry is too long for a bundle.")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        InvalidProof: malformed.
    """
    entries, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            raise InvalidProof("A bundle of entries ends in the middle of one.")
        entries.append(data[at + 2 : end])
        at = end
    return entries


class TileReader:
    """Reads a log of `size` entries. A partial tile that is gone is looked for in the full one."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self.fetch = fetch
        self.size = size
        self._cache: dict[tuple[int, int], bytes] = {}

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile.

        Raises:
            InvalidProof: it is not there, or too short.
        """
        known = self._cache.get((level, number))
        if known is not None:
            return known
        width = min(WIDTH, (self.size >> (HEIGHT * level)) - number * WIDTH)
        if width <= 0:
            raise InvalidProof(f"A log of {self.size} entries has no tile {number} of level {level}.")
        data = self._read(level, number, width)
        if len(data) < width * HASH_BYTES:
            raise InvalidProof(f"The tile {tile_path(level, number, width)} is too short.")
        if len(self._cache) >= 64:
            self._cache.clear()
        self._cache[level, number] = data = data[: width * HASH_BYTES]
        return data

    def node(self, level: int, index: int) -> bytes:
        """The root of the full subtree over the leaves from `index << level` on; see `audit.proofs`.

        Raises:
            InvalidProof: a tile is missing.
        """
        tile_level, rest = divmod(level, HEIGHT)
        first = index << rest
        data = self.tile(tile_level, first // WIDTH)
        at = first % WIDTH * HASH_BYTES
        return _fold(_split(data[at : at + (HASH_BYTES << rest)]))

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """The entries of a range.

        Raises:
            InvalidProof: a bundle is missing or malformed.
        """
        for number in range(start // WIDTH, -(-stop // WIDTH)):
            width = min(WIDTH, self.size - number * WIDTH)
            found = unbundle(self._read(ENTRIES, number, width))
            if len(found) < width:
                raise InvalidProof(f"The bundle {tile_path(ENTRIES, number, width)} is too short.")
            yield from found[max(0, start - number * WIDTH) : min(width, stop - number * WIDTH)]

    def leaf_hashes(self, start: int, stop: int) -> Iterator[bytes]:
        """Computed from the entries, and the same as in the tiles.

        Raises:
            InvalidProof: a file is missing or malformed, or the two disagree.
        """
        tile = b""
        for index, entry in enumerate(self.entries(start, stop), start=start):
            place = index % WIDTH
            if place == 0 or not tile:
                tile = self.tile(0, index // WIDTH)
            value = leaf_hash(entry)
            if value != tile[place * HASH_BYTES : (place + 1) * HASH_BYTES]:
                raise InvalidProof(f"The entry {index} and its tile disagree.")
            yield value

    def _read(self, level: int | str, number: int, width: int) -> bytes:
        data = self.fetch(tile_path(level, number, width))
        if data is None and width != WIDTH:
            data = self.fetch(tile_path(level, number))
        if data is None:
            raise InvalidProof(f"There is no {tile_path(level, number, width)}.")
        return data


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _fold(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def folder_reader(folder: Path, size: int) -> TileReader:
    """Reads the files below a folder."""

    def fetch(path: str) -> bytes | None:
        try:
            return (folder / path).read_bytes()
        except FileNotFoundError:
            return None

    return TileReader(fetch, size)


class TileWriter:
    """Writes the files of one log below a folder. What a signed checkpoint covers is never written anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: list[tuple[Path, Path]] = []  # (where it is, where it will be)
        self._touched: set[Path] = set()  # folders with new names that may not be on the disk yet
        self._replaced: list[Path] = []  # folders of partial files that a full one holds

    def extend(self, old: int, new: int, entries: Entries) -> TileReader:
        """Makes the files of a log of `new` entries from those of one of `old`; they are on the disk when this returns.

        old: the size of the last published checkpoint. Where its files are not there, all are made anew.

        Raises:
            SignerRefused: what is published does not fit together.
        """
        written = folder_reader(self.folder, old)
        if not self._has(old):
            old = 0
        try:
            self._written.clear()  # of an attempt that failed
            self._entries(written, old, new, entries)
            for level in range(1, 1 + max(new.bit_length() - 1, 0) // HEIGHT):
                self._level(written, level, old, new)
            self._settle()
        except InvalidProof as error:
            raise SignerRefused(
                f"The published files in {self.folder} are damaged ({error}) Put back a copy of its folder `tile`, "
                "or move it away, so that it is made anew."
            ) from None
        return folder_reader(self.folder, new)

    def _has(self, size: int) -> bool:
        number, width = divmod(max(size - 1, 0), WIDTH)
        return size > 0 and all(
            any((self.folder / tile_path(kind, number, wide)).is_file() for wide in (width + 1, WIDTH))
            for kind in (ENTRIES, 0)
        )

    def _entries(self, written: TileReader, old: int, new: int, entries: Entries) -> None:
        first = old - old % WIDTH
        held = list(written.entries(first, old)) if old % WIDTH else []
        hashes = written.tile(0, first // WIDTH) if held else b""
        number = first // WIDTH
        for entry, value in entries(old, new):
            held.append(entry)
            hashes += value
            if len(held) == WIDTH:
                self._full(number, held, hashes)
                held, hashes, number = [], b"", number + 1
        if held:
            self._put(tile_path(ENTRIES, number, len(held)), bundle(held))
            self._put(tile_path(0, number, len(held)), hashes)

    def _full(self, number: int, held: list[bytes], hashes: bytes) -> None:
        self._put(tile_path(ENTRIES, number), bundle(held))
        self._put(tile_path(0, number), hashes)

    def _level(self, written: TileReader, level: int, old: int, new: int) -> None:
        before, after = old >> (HEIGHT * level), new >> (HEIGHT * level)
        if after == before:
            return
        self._flush()
        below = folder_reader(self.folder, new)
        number = before // WIDTH
        hashes = written.tile(level, number) if before % WIDTH else b""
        for index in range(before, after):
            hashes += _fold(_split(below.tile(level - 1, index)))
            if len(hashes) == WIDTH * HASH_BYTES:
                self._put(tile_path(level, number), hashes)
                hashes, number = b"", number + 1
        if hashes:
            self._put(tile_path(level, number, len(hashes) // HASH_BYTES), hashes)

    def _put(self, path: str, data: bytes) -> None:
        """Writes one file; `_flush` gives it its name."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.new")
        partial.write_bytes(data)
        self._written.append((partial, target))
        if len(self._written) >= FLUSH_EVERY:
            self._flush()

    def _flush(self) -> None:
        """The files are on the disk before they have their names. Several at a time: the first takes most of the wait."""
        for partial, _ in self._written:
            _sync(partial)
        for partial, target in self._written:
            partial.replace(target)
            self._touched.update(parent for parent in target.parents if parent.is_relative_to(self.folder))
            self._replaced.append(target.with_name(f"{target.name}.p"))
        self._written.clear()

    def _settle(self) -> None:
        """The names are on the disk; then what a full file holds is not needed in parts."""
        self._flush()
        for folder in self._touched:
            _sync(folder)
        for folder in self._replaced:
            shutil.rmtree(folder, ignore_errors=True)
        self._touched.clear()
        self._replaced.clear()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
