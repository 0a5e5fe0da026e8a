"""The closed vocabulary of audit events. `record()` refuses any other."""

from enum import StrEnum


class Event(StrEnum):
    # jobs and steps: every effect leaves proposed -> decided -> (approval …) -> dispatched -> confirmed/failed/in_doubt
    JOB_SUBMITTED = "job.submitted"
    JOB_CANCELLED = "job.cancelled"
    JOB_FINISHED = "job.finished"
    STEP_PROPOSED = "step.proposed"
    STEP_DECIDED = "step.decided"
    STEP_DISPATCHED = "step.dispatched"
    STEP_CONFIRMED = "step.confirmed"
    STEP_FAILED = "step.failed"
    STEP_REFUSED = "step.refused"
    STEP_REQUEUED = "step.requeued"
    STEP_IN_DOUBT = "step.in_doubt"
    STEP_CANCELLED = "step.cancelled"
    STEP_SKIPPED = "step.skipped"
    STEP_LATE_RESULT = "step.late_result"
    PERMIT_REFUSED = "permit.refused"
    # approvals
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_VOTED = "approval.voted"
    APPROVAL_REFUSED = "approval.refused"
    APPROVAL_CLOSED = "approval.closed"
    # policies, people, administration
    POLICY_DRAFTED = "policy.drafted"
    POLICY_PUBLISHED = "policy.published"
    POLICY_RETIRED = "policy.retired"
    ADMIN_CHANGED = "admin.changed"
    AUTH_SIGNED_IN = "auth.signed_in"
    AUTH_SIGNED_OUT = "auth.signed_out"
    AUTH_FAILED = "auth.failed"
    TOKEN_CREATED = "token.created"
    TOKEN_REVOKED = "token.revoked"
    # the log itself
    LOG_OPENED = "log.opened"
    LOG_HEARTBEAT = "log.heartbeat"
    KEY_ADD = "key.add"
    KEY_RETIRE = "key.retire"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    PAYLOAD_ERASED = "payload.erased"
