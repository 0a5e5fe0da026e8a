"""Errors of deliveries to incoming webhooks, and of expressions.

AgentsError
├── DeliveryRefused          nothing was started; `code` says why
│   ├── DeliveryMalformed    the body or a header cannot be read
│   ├── DeliveryTooLarge
│   ├── SignatureInvalid     it does not come from who knows the secret
│   ├── DeliveryStale        its time lies too far from ours
│   ├── DeliveryReplayed     it was taken before
│   ├── DeliveryUnusable     it fits the webhook's expressions, or the job that comes out of them, not
│   ├── OwnerInactive        whoever the job would belong to may not sign in any more
│   └── TooManyDeliveries    `retry_after_s` says when to come back
├── TriggerOff               it is paused, or turned off
├── ExpressionFailed         a CEL expression met a missing or unfitting value
└── AddressRefused           a URL that we do not post to
"""

from agents.errors import AgentsError


class DeliveryRefused(AgentsError):
    code = "delivery_refused"


class DeliveryMalformed(DeliveryRefused):
    code = "delivery_malformed"


class DeliveryTooLarge(DeliveryRefused):
    code = "body_too_large"


class SignatureInvalid(DeliveryRefused):
    code = "signature_invalid"


class DeliveryStale(DeliveryRefused):
    code = "delivery_stale"


class DeliveryReplayed(DeliveryRefused):
    code = "delivery_replayed"


class DeliveryUnusable(DeliveryRefused):
    code = "delivery_unusable"


class OwnerInactive(DeliveryRefused):
    code = "owner_inactive"


class TooManyDeliveries(DeliveryRefused):
    code = "throttled"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TriggerOff(AgentsError):
    code = "trigger_off"


class ExpressionFailed(AgentsError):
    code = "expression_failed"


class AddressRefused(AgentsError):
    code = "address_refused"
