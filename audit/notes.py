"""Signed notes and checkpoints, as C2SP writes them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), with Ed25519.

A note is a text, an empty line, and signature lines `— NAME BASE64(key hash ‖ signature)`. A checkpoint is a note whose
text is `ORIGIN LF SIZE LF BASE64(root) LF`, maybe followed by extension lines. A cosignature (c2sp.org/tlog-cosignature)
is a signature line of a witness, over a time and the text.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import InvalidNote

ED25519 = 1
COSIGNATURE = 4  # Ed25519 as well, over a time and the text
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


def decode_hash(text: str, what: str) -> bytes:
    """32 bytes from their one spelling in base64.

    Raises:
        InvalidNote: names `what`.
    """
    decoded = _base64(text, what)
    if len(decoded) != 32:
        raise InvalidNote(f"{what} is not 32 bytes long.")
    return decoded


def _parse_key(text: str, what: str, kind: int) -> tuple[str, bytes, bytes]:
    """`NAME+HASH+BASE64(type ‖ key)` -> name, key hash, typed key (not yet compared)."""
    name, _, rest = text.partition("+")
    hash_hex, _, key = rest.partition("+")
    _check_name(name)
    if not re.fullmatch(r"[0-9a-f]{8}", hash_hex):
        raise InvalidNote(f"The {what} has no hash of eight hex digits.")
    typed = _base64(key, f"The {what}")
    if len(typed) != 33 or typed[0] != kind:
        raise InvalidNote(f"The {what} is not an Ed25519 key{' of a witness' if kind == COSIGNATURE else ''}.")
    return name, bytes.fromhex(hash_hex), typed


class NoteVerifier:
    """A public key with a name; `vkey` is its text form."""

    kind: ClassVar[int] = ED25519

    def __init__(self, name: str, public_key: bytes) -> None:
        _check_name(name)
        typed = bytes([self.kind]) + public_key
        self.name = name
        self.key_hash = _key_hash(name, typed)
        self.vkey = f"{name}+{self.key_hash.hex()}+{base64.b64encode(typed).decode()}"
        self.public_key = public_key
        self._public = Ed25519PublicKey.from_public_bytes(public_key)

    @classmethod
    def from_vkey(cls, vkey: str) -> Self:
        """Raises InvalidNote."""
        name, key_hash, typed = _parse_key(vkey, "verifier key", cls.kind)
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


class CosignatureVerifier(NoteVerifier):
    """A witness's public key. A signature of it is eight bytes of time, then an Ed25519 signature over both."""

    kind = COSIGNATURE

    def accepts(self, text: bytes, signature: bytes) -> bool:
        if len(signature) != 72 or cosigned_at_s(signature) >= 2**63:
            return False
        return super().accepts(_cosigned(text, cosigned_at_s(signature)), signature[8:])


def cosigned_at_s(signature: bytes) -> int:
    """The Unix time in a cosignature."""
    return int.from_bytes(signature[:8], "big")


def _cosigned(text: bytes, at_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % at_s + text


class NoteSigner:
    """A private key with a name; `skey` is its secret text form."""

    public: ClassVar[type[NoteVerifier]] = NoteVerifier

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = self.public(name, self._private.public_key().public_bytes_raw())
        self.name = name
        typed = bytes([self.public.kind]) + seed
        self.skey = f"{_SKEY_HEAD}{name}+{self.verifier.key_hash.hex()}+{base64.b64encode(typed).decode()}"

    @classmethod
    def from_skey(cls, skey: str) -> Self:
        """Raises InvalidNote."""
        if not skey.startswith(_SKEY_HEAD):
            raise InvalidNote("This is not a signer key.")
        name, key_hash, typed = _parse_key(skey.removeprefix(_SKEY_HEAD), "signer key", cls.public.kind)
        found = cls(name, typed[1:])
        if found.verifier.key_hash != key_hash:
            raise InvalidNote("The hash in the signer key is not that of its key.")
        return found

    def sign(self, text: str) -> str:
        """The note over `text`, which must end with a line feed and hold no other control character.

        Raises:
            InvalidNote
        """
        return f"{text}\n{self.line(text)}"

    def line(self, text: str) -> str:
        """The signature line alone, with its line feed.

        Raises:
            InvalidNote
        """
        _check_text(text)
        return self._line(self._private.sign(text.encode()))

    def _line(self, signature: bytes) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.verifier.key_hash + signature).decode()}\n"


class CosignatureSigner(NoteSigner):
    """A witness's private key."""

    public = CosignatureVerifier

    def cosign(self, text: str, at_s: int) -> str:
        """The signature line over a checkpoint's text, seen at a Unix time.

        Raises:
            InvalidNote
        """
        _check_text(text)
        return self._line(at_s.to_bytes(8, "big") + self._private.sign(_cosigned(text.encode(), at_s)))


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise InvalidNote("The text of a note ends with a line feed.")
    if any(ord(character) < 0x20 and character != "\n" for character in text):
        raise InvalidNote("A note holds a control character.")


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """text: what was signed; verified: names of trusted keys that signed it; unverified: names of unknown ones; by: the
    trusted keys that signed it, as vkeys (keys of one name may follow each other)."""

    text: str
    verified: tuple[str, ...]
    unverified: tuple[str, ...]
    by: frozenset[str] = frozenset()


def open_note(note: str | bytes, verifiers: Iterable[NoteVerifier]) -> OpenedNote:
    """Checks the signatures of trusted keys, of which there must be one. Unknown keys' lines are kept, not believed.

    Raises:
        InvalidNote: malformed, a trusted key's signature is wrong, or no trusted key signed it.
    """
    known = {(verifier.name, verifier.key_hash): verifier for verifier in verifiers}
    text, lines = _split_note(note)
    verified: list[NoteVerifier] = []
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
            verified.append(verifier)
        else:
            raise InvalidNote(f"The signature of {name} is wrong.")
    if not verified:
        raise InvalidNote("No trusted key signed this note.")
    names = tuple(verifier.name for verifier in verified)
    return OpenedNote(text, names, tuple(unverified), frozenset(verifier.vkey for verifier in verified))


def text_of(note: str) -> str:
    """The text of a note, whoever signed it.

    Raises:
        InvalidNote: malformed.
    """
    return _split_note(note)[0]


def cosignatures(note: str, verifiers: Iterable[NoteVerifier]) -> dict[str, int]:
    """The vkeys of those witnesses that cosigned a note, and when (Unix time). Others' lines, and wrong ones, are left out.

    Raises:
        InvalidNote: malformed.
    """
    text, lines = _split_note(note)
    known = {(verifier.name, verifier.key_hash): verifier for verifier in verifiers}
    found: dict[str, int] = {}
    for line in lines:
        name, key_hash, signature = _parse_signature(line)
        verifier = known.get((name, key_hash))
        if verifier is not None and verifier.accepts(text.encode(), signature):
            found[verifier.vkey] = cosigned_at_s(signature)
    return found


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
        return cls(origin, int(size), decode_hash(root, "The root"), tuple(extensions))


def open_checkpoint(note: str | bytes, verifiers: Iterable[NoteVerifier]) -> CheckpointText:
    """The checkpoint in a note that a trusted key signed.

    Raises:
        InvalidNote
    """
    return CheckpointText.parse(open_note(note, verifiers).text)
