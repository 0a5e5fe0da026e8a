"""What a check believes: public keys, and what was written down outside the database."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from audit.enrolment import trusted_enrolment_keys
from audit.notes import NoteVerifier
from audit.publish import Published, read_enrolment_keys, read_published
from audit.signing import Memory, load_verifier, read_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """verifier: the checkpoint key, None where no log was signed here; enrolment_keys: raw public keys that may endorse
    process keys; published: lines of the checkpoint file; memory: what the signer remembers, None where it cannot be
    read here.

    Read it before the database: the log is never behind what was published of it.
    """

    verifier: NoteVerifier | None
    enrolment_keys: frozenset[bytes]
    published: tuple[Published, ...] = ()
    memory: Memory | None = None

    @classmethod
    def from_settings(cls) -> "Trust":
        """Raises KeyUnsafe, SignerRefused: a file is damaged."""
        keys: Path = settings.AUDIT_KEY_DIR
        folder: Path = settings.AUDIT_PUBLISH_DIR
        memory = read_memory(keys)
        return cls(
            verifier=load_verifier(keys) or load_verifier(folder),
            enrolment_keys=frozenset({*trusted_enrolment_keys(), *read_enrolment_keys(folder)}),
            published=tuple(read_published(folder)),
            memory=memory,
        )
