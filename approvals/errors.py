"""Errors of the approvals app.

ApprovalsError
├── PolicyError
│   ├── InvalidPolicy        a version cannot be published; `problems` names each rule and what is wrong with it
│   ├── InvalidCondition     a condition is not CEL that gives true or false; `line` and `column` say where
│   ├── ConditionFailed      a condition met a value that it cannot work with: the rule fails closed
│   ├── NotADraft            published and retired versions never change
│   ├── NotProposed          a second person is needed, and nobody proposed these very rules
│   ├── SamePerson           who proposed a draft does not publish it
│   ├── BacktestNeeded       these rules were not tried on the decisions on record
│   ├── NotAcknowledged      denied calls would be allowed, and nobody has answered for it
│   ├── InvalidPolicyFile    a policy as YAML; `problems` has each with its line and column
│   ├── UnknownPolicy        there is no such policy, version, pack or step
│   └── InvalidTrial         a call to try that cannot be one; `field` says what does not fit
├── DecisionError
│   ├── NotFound             there is no such request
│   ├── NotEligible          this person may not decide this request
│   ├── AlreadyDecided       the request is closed; `state` says how
│   ├── AlreadyVoted         this person has voted on it
│   ├── RequestExpired       nobody answered in time
│   ├── InvalidVerdict       not a verdict for this kind of request
│   ├── ReasonMissing        a denial needs a reason, an answer needs words
│   ├── InvalidReason        too long, or not text that can be stored
│   ├── SecondFactorNeeded   this approval takes a fresh second factor
│   ├── PolicyChanged        the policy that asked is in force no more: people are asked anew
│   ├── TooLate              what was approved has begun, or can no longer be changed
│   ├── NothingToTakeBack    this person has no approval on the request that could be taken back
│   ├── NotAlike             a request that is not like the others, or not of low risk, is decided alone
│   ├── InvalidGrant         no such grant may be given here; `field` says what does not fit
│   ├── InvalidDelegation    nobody can be deputised so; `field` says what does not fit
│   ├── InvalidEdit          the call cannot be changed so; `field` says what does not fit
│   └── AlreadyReviewed      somebody has reviewed it
├── LinkError
│   ├── LinkUnknown          no such link
│   └── LinkExpired          the link's time is over
├── SignatureError
│   ├── SignatureWrong       not signed by whom it says, too old, or from the future
│   └── SignatureReplayed    it was taken before
├── PressMalformed           what came signed from a chat is no press that we know
├── IdentityRefused          an account in a chat is not linked to this user
└── ChannelError             a message was not taken; `permanent` says that trying again will not help
"""

from collections.abc import Sequence


class ApprovalsError(Exception):
    """Base of every error of this app. `code` is stable and stands in rows, logs and answers."""

    code = "approvals_error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class PolicyError(ApprovalsError):
    code = "policy_error"


class InvalidPolicy(PolicyError):
    """`problems` are (rule name, message) pairs; the name is "" for the version as a whole."""

    code = "invalid_policy"

    def __init__(self, message: str, *, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class InvalidCondition(PolicyError):
    """`line` and `column` count from 1."""

    code = "invalid_condition"

    def __init__(self, message: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


class ConditionFailed(PolicyError):
    code = "condition_failed"


class NotADraft(PolicyError):
    code = "not_a_draft"


class NotProposed(PolicyError):
    code = "not_proposed"


class SamePerson(PolicyError):
    code = "same_person"


class BacktestNeeded(PolicyError):
    code = "backtest_needed"


class NotAcknowledged(PolicyError):
    code = "not_acknowledged"


class InvalidPolicyFile(PolicyError):
    """`problems` are (path, "line 3, column 5: what is wrong") pairs."""

    code = "invalid_policy_file"

    def __init__(self, message: str, *, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class UnknownPolicy(PolicyError):
    code = "unknown_policy"


class InvalidTrial(PolicyError):
    """`field` names what does not fit."""

    code = "invalid_trial"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message, field=field)
        self.field = field


class DecisionError(ApprovalsError):
    code = "decision_error"


class NotFound(DecisionError):
    code = "not_found"


class NotEligible(DecisionError):
    code = "not_eligible"


class AlreadyDecided(DecisionError):
    code = "already_decided"

    def __init__(self, message: str, *, state: str) -> None:
        super().__init__(message, state=state)
        self.state = state


class AlreadyVoted(DecisionError):
    code = "already_voted"


class RequestExpired(DecisionError):
    code = "request_expired"


class InvalidVerdict(DecisionError):
    code = "invalid_verdict"


class ReasonMissing(DecisionError):
    code = "reason_missing"


class InvalidReason(DecisionError):
    code = "invalid_reason"


class SecondFactorNeeded(DecisionError):
    code = "second_factor_needed"


class PolicyChanged(DecisionError):
    code = "policy_changed"


class TooLate(DecisionError):
    code = "too_late"


class NothingToTakeBack(DecisionError):
    code = "nothing_to_take_back"


class NotAlike(DecisionError):
    code = "not_alike"


class InvalidField(DecisionError):
    """`field` names what does not fit."""

    code = "invalid_field"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message, field=field)
        self.field = field


class InvalidGrant(InvalidField):
    code = "invalid_grant"


class InvalidDelegation(InvalidField):
    code = "invalid_delegation"


class InvalidEdit(InvalidField):
    code = "invalid_edit"


class AlreadyReviewed(DecisionError):
    code = "already_reviewed"


class LinkError(ApprovalsError):
    code = "link_error"


class LinkUnknown(LinkError):
    code = "link_unknown"


class LinkExpired(LinkError):
    code = "link_expired"


class SignatureError(ApprovalsError):
    code = "signature_error"


class SignatureWrong(SignatureError):
    code = "signature_wrong"


class SignatureReplayed(SignatureError):
    code = "signature_replayed"


class PressMalformed(ApprovalsError):
    code = "press_malformed"


class IdentityRefused(ApprovalsError):
    code = "identity_refused"


class ChannelError(ApprovalsError):
    """The message was not taken by the mail server or by Slack."""

    code = "channel_error"

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
