"""The Merkle tree of RFC 6962, section 2: hashes, proofs, and their checks. Pure functions over bytes."""

import hashlib
from collections.abc import Iterable, Sequence

from audit.errors import InvalidProof

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962, 2.1: the prefix 0x00 keeps an entry from passing as an inner node."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Edge:
    """The right edge of a growing tree: the roots of its full subtrees, largest first.

    Enough to append leaves and to know the root, in log(size) hashes of memory.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Raises ValueError where `hashes` are not as many as a tree of `size` leaves has."""
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(f"A tree of {size} leaves has {size.bit_count()} full subtrees, not {len(self.hashes)}.")

    def append(self, leaf: bytes) -> None:
        """Adds a leaf hash."""
        size, hashes = self.size, self.hashes
        while size & 1:
            leaf = hashlib.sha256(b"\x01" + hashes.pop() + leaf).digest()
            size >>= 1
        hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        result = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            result = node_hash(left, result)
        return result

    def copy(self) -> "Edge":
        return Edge(self.size, self.hashes)


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    edge = Edge()
    for leaf in leaves:
        edge.append(leaf)
    return edge.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index` in the tree of all `leaves` (RFC 6962, 2.1.1).

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    return _path(leaves, index, 0, len(leaves))


def _path(leaves: Sequence[bytes], index: int, start: int, stop: int) -> list[bytes]:
    if stop - start == 1:
        return []
    middle = start + split(stop - start)
    if index < middle:
        return [*_path(leaves, index, start, middle), root(leaves[middle:stop])]
    return [*_path(leaves, index, middle, stop), root(leaves[start:middle])]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """That the tree of the first `old_size` leaves is a prefix of the tree of all (RFC 6962, 2.1.2).

    Raises:
        IndexError: `old_size` is not between 1 and the number of leaves.
    """
    if not 0 < old_size <= len(leaves):
        raise IndexError(old_size)
    return _prefix(leaves, old_size, 0, len(leaves), whole=True)


def _prefix(leaves: Sequence[bytes], old: int, start: int, stop: int, *, whole: bool) -> list[bytes]:
    if old == stop - start:
        return [] if whole else [root(leaves[start:stop])]
    width = split(stop - start)
    middle = start + width
    if old <= width:
        return [*_prefix(leaves, old, start, middle, whole=whole), root(leaves[middle:stop])]
    return [*_prefix(leaves, old - width, middle, stop, whole=False), root(leaves[start:middle])]


def split(size: int) -> int:
    """The largest power of two below `size` (which is at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def check_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Does `leaf` stand at `index` in the tree of `size` leaves with this `root`? (RFC 9162, 2.1.3.2)

    Raises:
        InvalidProof
    """
    if not 0 <= index < size:
        raise InvalidProof(f"Index {index} lies outside a tree of {size} leaves.")
    _check_lengths(leaf, root, *proof)
    place, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise InvalidProof("The proof is too long.")
        if place & 1 or place == last:
            result = node_hash(sibling, result)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise InvalidProof("The proof is too short.")
    if result != root:
        raise InvalidProof("The proof leads to another root.")


def check_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Is the tree of `old_size` leaves a prefix of the one of `new_size`? (RFC 9162, 2.1.4.2)

    An empty tree is no prefix of anything that could be checked, so `old_size` is at least 1.

    Raises:
        InvalidProof
    """
    if not 0 < old_size <= new_size:
        raise InvalidProof(f"A tree of {old_size} leaves is no prefix of one of {new_size}.")
    _check_lengths(old_root, new_root, *proof)
    if old_size == new_size:
        if proof:
            raise InvalidProof("Trees of one size need an empty proof.")
        if old_root != new_root:
            raise InvalidProof("Two roots for one size: the log forked.")
        return
    if not proof:
        raise InvalidProof("The proof is empty.")
    rest = list(proof)
    if old_size & (old_size - 1) == 0:
        rest.insert(0, old_root)
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise InvalidProof("The proof is too long.")
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise InvalidProof("The proof is too short.")
    if old != old_root:
        raise InvalidProof("The proof leads to another old root.")
    if new != new_root:
        raise InvalidProof("The proof leads to another new root.")


def _check_lengths(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise InvalidProof("A hash is not 32 bytes long.")
