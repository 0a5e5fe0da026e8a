"""Tiles, and proofs from them: against the proofs from all leaves, and the published paths."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import merkle, proofs
from audit.errors import InvalidProof, SignerRefused
from audit.tiles import TileWriter, bundle, folder_reader, tile_path, tile_paths, unbundle
from tests.unit.audit.vectors import needs_vectors, read

ENTRIES = [b"entry %d" % number for number in range(70_000)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


def _source(start: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
    yield from zip(ENTRIES[start:stop], LEAVES[start:stop], strict=True)


def _written(folder: Path, *sizes: int) -> None:
    for old, new in zip((0, *sizes), sizes, strict=False):
        TileWriter(folder).extend(old, new, _source)


@needs_vectors
def test_paths_are_the_published_ones():
    known = read("tiles/paths.json")
    for case in known["c2sp"]:
        assert tile_path(0, case["index"]) == f"tile/0/{case['path']}"
        assert tile_path("entries", case["index"], 17) == f"tile/entries/{case['path']}.p/17"
    for path, tile in known["cases"]:
        if tile is not None:  # without the height, which C2SP left out
            _, _, rest = path.split("/", 2)
            assert tile_path(tile["L"], tile["N"], 256 if tile["W"] == 2 ** tile["H"] else tile["W"]) == f"tile/{rest}"


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    _written(folder, 200, 256, 65_535, 65_536, 66_000, 70_000)
    return folder


def test_a_log_of_70_000_has_the_files_of_the_specification(big: Path):
    """The example of tlog-tiles: 273 full and a partial tile of 112, a full one and one of 17, and one of width 1."""
    assert len([path for path in (big / "tile/0").rglob("*") if path.is_file()]) == 273 + 1
    assert (big / "tile/0/273.p/112").stat().st_size == 112 * 32
    assert (big / "tile/1/000").stat().st_size == 8192
    assert {path.name for path in (big / "tile/1/001.p").iterdir()} >= {"17"}
    assert (big / "tile/2/000.p/1").stat().st_size == 32
    reader = folder_reader(big, 70_000)
    assert proofs.root_at(70_000, reader.node) == merkle.root(LEAVES)
    assert list(reader.entries(69_000, 70_000)) == ENTRIES[69_000:]
    assert list(reader.leaf_hashes(255, 513)) == LEAVES[255:513]
    assert all((big / path).is_file() for path in tile_paths(0, 70_000))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 1000, 65_537])
def test_roots_of_every_earlier_size_can_be_read(big: Path, size: int):
    assert proofs.root_at(size, folder_reader(big, 70_000).node) == merkle.root(LEAVES[:size])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_from_tiles_are_those_from_all_leaves(big: Path, data: st.DataObject):
    size = data.draw(st.integers(1, 900))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    node = folder_reader(big, 70_000).node
    assert proofs.inclusion(index, size, node) == merkle.inclusion_proof(LEAVES[:size], index)
    assert proofs.consistency(old, size, node) == merkle.consistency_proof(LEAVES[:size], old)
    assert proofs.consistency(0, size, node) == []


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 1200), min_size=1, max_size=5, unique=True).map(sorted))
def test_a_log_that_grew_in_steps_has_the_files_of_one_that_grew_at_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
):
    steps, once = tmp_path_factory.mktemp("steps"), tmp_path_factory.mktemp("once")
    _written(steps, *sizes)
    _written(once, sizes[-1])
    for path in tile_paths(0, sizes[-1]):
        assert (steps / path).read_bytes() == (once / path).read_bytes(), path


def test_files_that_are_gone_are_made_anew(tmp_path: Path):
    TileWriter(tmp_path).extend(300, 700, _source)
    assert proofs.root_at(700, folder_reader(tmp_path, 700).node) == merkle.root(LEAVES[:700])


def test_damaged_files_are_not_built_upon(tmp_path: Path):
    _written(tmp_path, 300)
    (tmp_path / tile_path("entries", 1, 44)).write_bytes(b"\x00\x09abc")
    with pytest.raises(SignerRefused, match="damaged"):
        TileWriter(tmp_path).extend(300, 400, _source)


def test_an_entry_that_was_exchanged_in_a_bundle_is_found(big: Path, tmp_path: Path):
    _written(tmp_path, 10)
    (tmp_path / tile_path("entries", 0, 10)).write_bytes(bundle([b"forged", *ENTRIES[1:10]]))
    with pytest.raises(InvalidProof, match="disagree"):
        list(folder_reader(tmp_path, 10).leaf_hashes(0, 10))


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x05abcd", b"\xff\xff"])
def test_a_malformed_bundle_is_refused(data: bytes):
    with pytest.raises(InvalidProof):
        unbundle(data)


def test_bundles_survive_the_way_there_and_back():
    entries = [b"", b"a", b"b" * 65_535]
    assert unbundle(bundle(entries)) == entries
    with pytest.raises(ValueError, match="too long"):
        bundle([b"c" * 65_536])
