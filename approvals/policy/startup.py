"""What a server says of its policies when it starts."""

import logging

from django.db import DatabaseError

from approvals.models import PolicyVersion

log = logging.getLogger(__name__)

NOTHING_RUNS = "No policy is published: every call is denied."


def say_where_nothing_runs() -> bool:
    """Logs it where no policy is published; True: some is, or it cannot be told now."""
    try:
        published = PolicyVersion.objects.filter(status=PolicyVersion.Status.PUBLISHED).exists()
    except DatabaseError:  # away, or not migrated: others say so
        return True
    if not published:
        log.error("policies.none_published", extra={"says": NOTHING_RUNS, "mend": "manage.py seed, or publish one"})
    return published
