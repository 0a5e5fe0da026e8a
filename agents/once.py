"""A submission with an idempotency key counts once, also where two of the same come at the same moment."""

import re
from collections.abc import Callable

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from agents.errors import IdempotencyConflict, InvalidInput
from agents.models import Job

_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_CONSTRAINT = "job_idempotency_key"


def once(make: Callable[[], Job], *, user: User, key: str, digest: str) -> tuple[Job, bool]:
    """The job that `make` makes, in a transaction; False: the user's job that was made with this key before.

    key: "" for none, so that each counts; digest: of what was sent.

    Raises:
        InvalidInput: the key is not 1 to 200 visible ASCII characters.
        IdempotencyConflict: it was used with something else.
    """
    if key:
        if not _KEY.fullmatch(key):
            raise InvalidInput("Must be 1 to 200 visible ASCII characters.", field="Idempotency-Key")
        earlier = _earlier(user, key, digest)
        if earlier is not None:
            return earlier, False
    try:
        with transaction.atomic():
            return make(), True
    except IntegrityError as error:
        earlier = _earlier(user, key, digest) if key and _constraint(error) == _CONSTRAINT else None
        if earlier is None:
            raise
        return earlier, False


def _earlier(user: User, key: str, digest: str) -> Job | None:
    job = Job.objects.select_related("agent", "repository", "owner").filter(owner=user, idempotency_key=key).first()
    if job is not None and job.request_sha256 != digest:
        raise IdempotencyConflict("This Idempotency-Key was used with another body.", job=str(job.pk))
    return job


def _constraint(error: IntegrityError) -> str | None:
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
