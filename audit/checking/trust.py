"""What a check believes: public keys, and what was written down outside the database."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from audit.enrolment import trusted_enrolment_keys
from audit.notes import NoteVerifier
from audit.publish import COSIGNED_LOG_FILE, Published, read_enrolment_keys, read_published
from audit.signing import Memory, load_verifier, read_memory
from audit.witness.policy import Policy, read_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """verifier: the checkpoint key, None where no log was signed here; enrolment_keys: raw public keys that may endorse
    process keys; published: lines of the checkpoint file; memory: what the signer remembers, None where it cannot be
    read here; policy: the witnesses, None where none are asked; cosigned: lines of the file of cosigned checkpoints;
    accepted_restarts: sizes from which on a declared loss is known to whoever asks, and no finding any more; folder: of the
    published files, None where they are not here.

    Read it before the database: the log is never behind what was published of it.
    """

    verifier: NoteVerifier | None
    enrolment_keys: frozenset[bytes]
    published: tuple[Published, ...] = ()
    memory: Memory | None = None
    policy: Policy | None = None
    cosigned: tuple[Published, ...] = ()
    accepted_restarts: frozenset[int] = frozenset()
    folder: Path | None = None

    @classmethod
    def from_settings(cls) -> "Trust":
        """Raises KeyUnsafe, SignerRefused, InvalidPolicy: a file is damaged."""
        keys: Path = settings.AUDIT_KEY_DIR
        folder: Path = settings.AUDIT_PUBLISH_DIR
        memory = read_memory(keys)
        return cls(
            verifier=load_verifier(keys) or load_verifier(folder),
            enrolment_keys=frozenset({*trusted_enrolment_keys(), *read_enrolment_keys(folder)}),
            published=tuple(read_published(folder)),
            memory=memory,
            policy=configured_policy(),
            cosigned=tuple(read_published(folder, COSIGNED_LOG_FILE)),
            folder=folder,
        )


def configured_policy() -> Policy | None:
    """Raises InvalidPolicy."""
    return read_policy(Path(settings.AUDIT_WITNESS_POLICY)) if settings.AUDIT_WITNESS_POLICY else None
