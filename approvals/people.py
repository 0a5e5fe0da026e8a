"""Who acts on the command line: whoever may run it there may act for anybody, and the log names whom."""

from django.contrib.auth.models import User

from approvals.errors import NotEligible


def acting_user(username: str | None) -> User:
    """The user named, or the only active superuser.

    Raises:
        NotEligible: there is no such user, or no single superuser.
    """
    if username:
        found = User.objects.filter(username=username, is_active=True).first()
        if found is None:
            raise NotEligible(f"There is no active user {username!r}.")
        return found
    superusers = list(User.objects.filter(is_superuser=True, is_active=True)[:2])
    if len(superusers) != 1:
        raise NotEligible("Say who decides: --as USERNAME.")
    return superusers[0]
