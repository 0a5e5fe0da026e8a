"""What a witness answers, and who counts as enough of them."""

from pathlib import Path

import pytest

from audit import merkle
from audit.errors import InvalidPolicy, SignerRefused
from audit.notes import CheckpointText, CosignatureSigner, NoteSigner, cosignatures
from audit.witness.keeper import SIZE_TYPE, Answer, Keeper, request_body
from audit.witness.policy import parse_policy

LOG = NoteSigner("example.org/log", bytes(32))
LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(20)]
FORKED = [*LEAVES[:3], *(merkle.leaf_hash(b"other %d" % number) for number in range(17))]


def _note(size: int, leaves: list[bytes] = LEAVES, signer: NoteSigner = LOG) -> str:
    return signer.sign(CheckpointText(signer.name, size, merkle.root(leaves[:size])).text())


def _ask(keeper: Keeper, old: int, new: int, leaves: list[bytes] = LEAVES) -> Answer:
    proof = merkle.consistency_proof(leaves[:new], old) if 0 < old <= new else []
    return keeper.add_checkpoint(request_body(old, proof, _note(new, leaves)), 1_700_000_000)


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(CosignatureSigner("witness.example/w", bytes(range(32))), tmp_path / "state", [LOG.verifier])


def _again(keeper: Keeper) -> Keeper:
    """The witness after a restart."""
    return Keeper(keeper.key, keeper.folder, [LOG.verifier])


def test_a_log_that_grows_is_cosigned(keeper: Keeper):
    for old, new in ((0, 3), (3, 3), (3, 8), (8, 20)):
        answer = _ask(_again(keeper), old, new)
        assert answer.status == 200
        assert cosignatures(_note(new) + answer.body, [keeper.key.verifier]) == {
            keeper.key.verifier.vkey: 1_700_000_000
        }
    seen = _again(keeper).seen(LOG.name)
    assert (seen.size, seen.root) == (20, merkle.root(LEAVES))
    assert cosignatures(seen.note, [keeper.key.verifier])


def test_a_log_that_was_rolled_back_or_forked_is_refused_with_the_size_that_was_seen(keeper: Keeper):
    assert _ask(keeper, 0, 8).status == 200
    for answer in (_ask(keeper, 0, 5), _ask(keeper, 5, 8), _ask(keeper, 3, 20), _ask(keeper, 8, 8, FORKED)):
        assert (answer.status, answer.content_type, answer.body) == (409, SIZE_TYPE, "8\n")
    assert _ask(keeper, 8, 20, FORKED).status == 422
    assert keeper.seen(LOG.name).size == 8  # and nothing of it stayed
    assert _ask(keeper, 8, 20).status == 200


def test_what_is_none_of_its_logs_is_refused(keeper: Keeper):
    stranger = NoteSigner("example.org/other", bytes(32))
    thief = NoteSigner(LOG.name, bytes([1]) * 32)

    def status(old: int, note: str, proof: list[bytes] | None = None) -> int:
        return keeper.add_checkpoint(request_body(old, proof or [], note), 0).status

    assert status(0, _note(3, signer=stranger)) == 404
    assert status(0, _note(3, signer=thief)) == 403
    assert status(0, _note(3).replace("\n3\n", "\n4\n")) == 403
    assert status(4, _note(3)) == 400
    assert status(0, _note(3), [bytes(32)]) == 422
    assert status(0, _note(3), [bytes(32)] * 64) == 400
    assert keeper.seen(LOG.name).size == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"old 0\n\n", b"old 00\n\n%s", b"old -1\n\n%s", b"new 0\n\n%s", b"old 0\nx\n\n%s", b"old 0\n%s", b"\xff"],
)
def test_a_malformed_request_is_refused(keeper: Keeper, body: bytes):
    assert keeper.add_checkpoint(body.replace(b"%s", _note(3).encode()), 0).status == 400


def test_a_damaged_state_is_not_taken_for_none(keeper: Keeper):
    assert _ask(keeper, 0, 8).status == 200
    (path,) = keeper.folder.glob("*.json")
    path.write_text("{}")
    with pytest.raises(SignerRefused, match="state"):
        _ask(keeper, 0, 3)


# policies

W1, W2, W3 = (CosignatureSigner(f"w{number}.example", bytes([number]) * 32).verifier.vkey for number in (1, 2, 3))
POLICY = f"""
# three witnesses of two houses
log {LOG.verifier.vkey} https://example.org/log
witness a {W1} https://w1.example
witness\tb {W2}
witness c {W3}
group house 1 a b
group both all house c
quorum both
"""


def test_a_quorum_of_groups():
    policy = parse_policy(POLICY)
    assert policy.witnesses["a"].url == "https://w1.example"
    assert [verifier.name for verifier in policy.logs] == [LOG.name]
    for enough in ([W1, W3], [W2, W3], [W1, W2, W3]):
        assert policy.met(enough)
    for few in ([], [W1], [W1, W2], [W3]):
        assert not policy.met(few)
    assert parse_policy("quorum none\n").met([])


@pytest.mark.parametrize(
    "change",
    [
        ("quorum both", ""),
        ("quorum both", "quorum nobody"),
        ("quorum both", "quorum both\nquorum both"),
        ("group house 1", "group house 3"),
        ("group house 1", "group house 0"),
        ("group both all house c", "group both all house c c"),
        ("group both all house c", "group both all house d"),
        ("group both all house c", "group both all house a"),
        ("witness c", "witness a"),
        ("witness c", "witness none"),
        (W3, W2),
        (W3, LOG.verifier.vkey),
        (W3, W3[:-4] + "AAAA"),
        ("log ", "lag "),
    ],
)
def test_a_malformed_policy_is_refused(change: tuple[str, str]):
    assert change[0] in POLICY
    with pytest.raises(InvalidPolicy):
        parse_policy(POLICY.replace(*change))
