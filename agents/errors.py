"""Errors of the agents app.

AgentsError
├── InvalidInput            what was given cannot be used; `field` names where, `problems` lists every one
│   ├── InvalidPlan         the steps: an unknown tool, a cycle, arguments that the tool's schema refuses
│   ├── UnknownAgent        no enabled agent of that name
│   ├── UnknownTenant       no tenant of that name to which the user belongs
│   ├── UnknownRepository   no repository of that name that the user may see (or no such repository: same answer)
│   ├── InvalidWorkflow     a definition, each problem with its line
│   ├── InvalidPrompt       a prompt or a suite of cases: each problem with its line, each test that fails
│   └── UnknownWorkflow     no published workflow of that name and version
├── NotADraft               a published version never changes
├── ChangedMeanwhile        another person saved in between
├── NotVisible              there is no such thing for this user
├── Gone                    it was there, and is no longer kept
├── NotAllowed              the user sees it, but may not do this to it
├── TokenRefused            what was sent is no API token that is good; `code` tells which of the reasons
├── IdempotencyConflict     this Idempotency-Key was used with another body
├── QueueFull               too many unfinished jobs; `retry_after_s` says when to try again
├── KeyBusy                 another job has the concurrency key, and the submitter does not want to wait
├── IllegalTransition       the state machine has no such move
├── StepMoved               somebody else moved the step first; nothing was written
├── NotNow                  the job's state does not let it be paused, retried, forked or edited: the message says why
│   └── TurnRunning         the agent has not answered the last message of the conversation yet
├── MayHaveHappened         a retry would run what may have happened; `steps` are their keys
└── AlreadyDone             the job has ended
"""

from collections.abc import Sequence


class AgentsError(Exception):
    """Base of every error of this app. `code` is stable and stands in rows, logs and answers."""

    code = "agents_error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInput(AgentsError):
    """`problems` are (field, message) pairs; a field is a path such as `steps[2].arguments.argv`, or "" for the whole."""

    code = "invalid_input"

    def __init__(self, message: str, *, field: str = "", problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or ((field, message),)
        self.field = field or self.problems[0][0]


class InvalidPlan(InvalidInput):
    code = "invalid_plan"


class TokenRefused(AgentsError):
    """code: token_malformed, token_unknown, token_revoked, token_expired or user_inactive."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownAgent(InvalidInput):
    code = "unknown_agent"


class UnknownRepository(InvalidInput):
    code = "unknown_repository"


class InvalidWorkflow(InvalidInput):
    code = "invalid_workflow"


class InvalidPrompt(InvalidInput):
    code = "invalid_prompt"


class UnknownWorkflow(InvalidInput):
    code = "unknown_workflow"


class NotADraft(AgentsError):
    code = "not_a_draft"


class ChangedMeanwhile(AgentsError):
    """What is there is not what was looked at: another person saved in between."""

    code = "changed_meanwhile"


class UnknownTenant(InvalidInput):
    code = "unknown_tenant"


class NotVisible(AgentsError):
    code = "not_found"


class Gone(AgentsError):
    code = "gone"


class NotAllowed(AgentsError):
    code = "not_allowed"


class IdempotencyConflict(AgentsError):
    code = "idempotency_conflict"


class QueueFull(AgentsError):
    """Submit again after `retry_after_s` seconds."""

    code = "queue_full"

    def __init__(self, message: str = "Too many jobs are unfinished.", *, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class KeyBusy(AgentsError):
    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field

    code = "key_busy"


class IllegalTransition(AgentsError):
    code = "illegal_transition"


class StepMoved(AgentsError):
    code = "step_moved"


class AlreadyDone(AgentsError):
    code = "already_done"


class NotNow(AgentsError):
    code = "not_now"


class TurnRunning(NotNow):
    code = "turn_running"


class MayHaveHappened(AgentsError):
    """Look at the targets of `steps`, then name those that did not happen."""

    code = "may_have_happened"

    def __init__(self, message: str, *, steps: Sequence[str]) -> None:
        super().__init__(message, steps=list(steps))
        self.steps = list(steps)
