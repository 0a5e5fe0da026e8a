"""Signed notes and checkpoints, as C2SP writes them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), with Ed25519.

A note is a text, an empty line, and signature lines `— NAME BASE64(key hash ‖ signature)`. A checkpoint is a note whose
text is `ORIGIN LF SIZE LF BASE64(root) LF`, maybe followed by extension lines.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import InvalidNote

ED25519 = 1
NOTE_MAX_BYTES = 1_000_000
SIGNATURES_MAX = 100
SIZE_MAX = 2**63 - 1
_DASH = "— "
_SIZE = re.compile(r"0|[1-9][0-9]*")
_SKEY_HEAD = "PRIVATE+KEY+"


def _key_hash(name: str, typed_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:4]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name):
        raise InvalidNote(f"{name!r} cannot name a key.")


def _base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidNote(f"{what} is not base64.") from None
    if base64.b64encode(data).decode() != text:
        raise InvalidNote(f"{what} is not canonical base64.")
    return data


def _parse_key(text: str, what: str) -> tuple[str, bytes, bytes]:
    """`NAME+HASH+BASE64(type ‖ key)` -> name, key hash, typed key (not yet compared)."""
    name, _, rest = text.partition("+")
    hash_hex, _, key = rest.partition("+")
    _check_name(name)
    if not re.fullmatch(r"[0-9a-f]{8}", hash_hex):
        raise InvalidNote(f"The {what} has no hash of eight hex digits.")
    typed = _base64(key, f"The {what}")
    if len(typed) != 33 or typed[0] != ED25519:
        raise InvalidNote(f"The {what} is not an Ed25519 key.")
    return name, bytes.fromhex(hash_hex), typed


class NoteVerifier:
    """A public key with a name; `vkey` is its text form."""

    def __init__(self, name: str, public_key: bytes) -> None:
        _check_name(name)
        typed = bytes([ED25519]) + public_key
        self.name = name
        self.key_hash = _key_hash(name, typed)
        self.vkey = f"{name}+{self.key_hash.hex()}+{base64.b64encode(typed).decode()}"
        self._public = Ed25519PublicKey.from_public_bytes(public_key)

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Raises InvalidNote."""
        name, key_hash, typed = _parse_key(vkey, "verifier key")
        found = cls(name, typed[1:])
        if found.key_hash != key_hash:
            raise InvalidNote("The hash in the verifier key is not that of its key.")
        return found

    def accepts(self, text: bytes, signature: bytes) -> bool:
        try:
            self._public.verify(signature, text)
        except InvalidSignature:
            return False
        return True


class NoteSigner:
    """A private key with a name; `skey` is its secret text form."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = NoteVerifier(name, self._private.public_key().public_bytes_raw())
        self.name = name
        typed = bytes([ED25519]) + seed
        self.skey = f"{_SKEY_HEAD}{name}+{self.verifier.key_hash.hex()}+{base64.b64encode(typed).decode()}"

    @classmethod
    def from_skey(cls, skey: str) -> Self:
        """Raises InvalidNote."""
        if not skey.startswith(_SKEY_HEAD):
            raise InvalidNote("This is not a signer key.")
        name, key_hash, typed = _parse_key(skey.removeprefix(_SKEY_HEAD), "signer key")
        found = cls(name, typed[1:])
        if found.verifier.key_hash != key_hash:
            raise InvalidNote("The hash in the signer key is not that of its key.")
        return found

    def sign(self, text: str) -> str:
        """The note over `text`, which must end with a line feed and hold no other control character.

        Raises:
            InvalidNote
        """
        _check_text(text)
        signature = self.verifier.key_hash + self._private.sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {base64.b64encode(signature).decode()}\n"


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise InvalidNote("The text of a note ends with a line feed.")
    if any(ord(character) < 0x20 and character != "\n" for character in text):
        raise InvalidNote("A note holds a control character.")


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """text: what was signed; verified: names of trusted keys that signed it; unverified: names of unknown ones."""

    text: str
    verified: tuple[str, ...]
    unverified: tuple[str, ...]


def open_note(note: str | bytes, verifiers: Iterable[NoteVerifier]) -> OpenedNote:
    """Checks the signatures of trusted keys, of which there must be one. Unknown keys' lines are kept, not believed.

    Raises:
        InvalidNote: malformed, a trusted key's signature is wrong, or no trusted key signed it.
    """
    known = {(verifier.name, verifier.key_hash): verifier for verifier in verifiers}
    text, lines = _split_note(note)
    verified: list[str] = []
    unverified: list[str] = []
    seen: set[tuple[str, bytes]] = set()
    for line in lines:
        name, key_hash, signature = _parse_signature(line)
        if (name, key_hash) in seen:
            continue
        seen.add((name, key_hash))
        verifier = known.get((name, key_hash))
        if verifier is None:
            unverified.append(name)
        elif verifier.accepts(text.encode(), signature):
            verified.append(name)
        else:
            raise InvalidNote(f"The signature of {name} is wrong.")
    if not verified:
        raise InvalidNote("No trusted key signed this note.")
    return OpenedNote(text, tuple(verified), tuple(unverified))


def _split_note(note: str | bytes) -> tuple[str, list[str]]:
    """The text, and the signature lines without their line feeds."""
    if len(note) > NOTE_MAX_BYTES:
        raise InvalidNote("The note is too long.")
    try:
        whole = note.decode() if isinstance(note, bytes) else note
        whole.encode()
    except UnicodeError:
        raise InvalidNote("The note is not UTF-8.") from None
    _check_text(whole)
    head, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail:
        raise InvalidNote("The note has no signatures.")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise InvalidNote("The note has too many signatures.")
    return head + "\n", lines


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    if not line.startswith(_DASH):
        raise InvalidNote("A signature line is malformed.")
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    _check_name(name)
    data = _base64(encoded, "A signature")
    if len(data) < 5:
        raise InvalidNote("A signature is too short.")
    return name, data[:4], data[4:]


@dataclass(frozen=True, slots=True)
class CheckpointText:
    """origin: which log; size: number of entries; root: 32 bytes; extensions: further lines, uninterpreted."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions]
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidNote."""
        if not text.endswith("\n"):
            raise InvalidNote("A checkpoint ends with a line feed.")
        lines = text[:-1].split("\n")
        if len(lines) < 3:
            raise InvalidNote("A checkpoint has an origin, a size and a root.")
        origin, size, root, *extensions = lines
        if not origin:
            raise InvalidNote("A checkpoint names its origin.")
        if not _SIZE.fullmatch(size) or int(size[:20]) > SIZE_MAX:
            raise InvalidNote(f"{size[:40]!r} is no size of a log.")
        if any(not line for line in extensions):
            raise InvalidNote("An extension line is empty.")
        decoded = _base64(root, "The root")
        if len(decoded) != 32:
            raise InvalidNote("The root is not 32 bytes long.")
        return cls(origin, int(size), decoded, tuple(extensions))


def open_checkpoint(note: str | bytes, verifiers: Iterable[NoteVerifier]) -> CheckpointText:
    """The checkpoint in a note that a trusted key signed.

    Raises:
        InvalidNote
    """
    return CheckpointText.parse(open_note(note, verifiers).text)
