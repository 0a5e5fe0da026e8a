"""Inclusion and consistency proofs from the hashes of full subtrees, as tiles hold them: log(size) reads a proof.

A node (level, index) is the root of the full subtree over the leaves from `index << level` to `(index + 1) << level`.
"""

from collections.abc import Callable

from audit.merkle import EMPTY_ROOT, node_hash, split

Node = Callable[[int, int], bytes]
"""(level, index) -> hash."""


def root_at(size: int, node: Node) -> bytes:
    """The root over the first `size` leaves."""
    return range_root(0, size, node) if size else EMPTY_ROOT


def range_root(start: int, stop: int, node: Node) -> bytes:
    """The root over leaves start..stop, which must be a subtree of an RFC 6962 tree (so `start` is aligned)."""
    hashes = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        hashes.append(node(level, start >> level))
        start += 1 << level
    result = hashes.pop()
    for left in reversed(hashes):
        result = node_hash(left, result)
    return result


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1).

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError(index)
    path: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + split(stop - start)
        if index < middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    return path[::-1]


def consistency(old: int, new: int, node: Node) -> list[bytes]:
    """That the tree of `old` leaves is a prefix of the one of `new` (RFC 6962, 2.1.2). Empty for `old` 0, as C2SP's
    tlog-witness has it.

    Raises:
        IndexError: `old` is larger than `new`.
    """
    if not 0 <= old <= new:
        raise IndexError(old)
    if old in (0, new):
        return []
    path: list[bytes] = []
    start, stop, whole = 0, new, True
    while stop != old:
        middle = start + split(stop - start)
        if old <= middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(range_root(start, stop, node))
    return path[::-1]
