"""Errors of the approvals app as DRF raises them; `config.api_errors` makes problems of them."""

from rest_framework.exceptions import APIException

from approvals.errors import ApprovalsError

STATUS = {
    "not_found": 404,
    "not_eligible": 403,
    "already_decided": 409,
    "already_voted": 409,
    "request_expired": 409,
    "invalid_verdict": 409,
    "reason_missing": 400,
    "invalid_reason": 400,
    "second_factor_needed": 403,
    "policy_changed": 409,
    "too_late": 409,
    "nothing_to_take_back": 409,
    "already_reviewed": 409,
    "not_alike": 409,
    "invalid_grant": 400,
    "invalid_delegation": 400,
    "invalid_edit": 400,
}


class Refused(APIException):
    """One of STATUS, with its code, its words and the field that it is about, where it is about one."""

    def __init__(self, error: ApprovalsError) -> None:
        self.status_code = STATUS[error.code]
        self.field = str(getattr(error, "field", ""))
        super().__init__(detail=error.message, code=error.code)


class LengthRequired(APIException):
    """A chunked body, which the parser would take for an empty one."""

    status_code = 411
    default_detail = "Send the body with a Content-Length."
    default_code = "length_required"
