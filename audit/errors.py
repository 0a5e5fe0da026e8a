"""AuditError
├── InvalidRecord        what record() was given cannot stand in the log
│   └── NotCanonical     a value has no canonical JSON form
├── OutsideTransaction   record() was called outside atomic()
├── NotWritten           a record could not be written, so what it records must not happen
│   └── LogUnwritable    the database refused it (also an OperationalError: it may work later); says what to do
├── HeadMoved            another sequencer was first; nothing was written
├── SignerRefused        the log was rolled back or forked against what the signer remembers
├── KeyMissing           a key file is missing
├── KeyUnsafe            a key file is malformed, or others may read it
├── InvalidNote          a signed note or checkpoint is malformed, or no trusted key signed it
├── InvalidPolicy        a policy of witnesses is malformed
├── NotDelivered         a place outside did not take a checkpoint
├── InvalidProof         an inclusion or consistency proof does not hold
├── ArchiveRefused       a part of the log cannot be archived, or a hold not released; nothing was dropped
└── CannotVerify         the check could not run
"""

from django.db import OperationalError


class AuditError(Exception):
    """Base of the audit app's errors; `code` is stable."""

    code = "audit_error"


class InvalidRecord(AuditError, ValueError):
    code = "invalid_record"


class NotCanonical(InvalidRecord):
    code = "not_canonical"


class OutsideTransaction(AuditError):
    code = "outside_transaction"


class NotWritten(AuditError):
    code = "not_written"


class LogUnwritable(NotWritten, OperationalError):
    code = "log_unwritable"


class HeadMoved(AuditError):
    code = "head_moved"


class SignerRefused(AuditError):
    code = "signer_refused"


class KeyMissing(AuditError):
    code = "key_missing"


class KeyUnsafe(AuditError):
    code = "key_unsafe"


class InvalidNote(AuditError):
    code = "invalid_note"


class InvalidPolicy(AuditError):
    code = "invalid_policy"


class NotDelivered(AuditError):
    """`forked`: the place says that it knows another log of this name, which only people can resolve."""

    code = "not_delivered"

    def __init__(self, message: str, *, forked: bool = False) -> None:
        super().__init__(message)
        self.forked = forked


class InvalidProof(AuditError):
    code = "invalid_proof"


class ArchiveRefused(AuditError):
    code = "archive_refused"


class CannotVerify(AuditError):
    code = "cannot_verify"
