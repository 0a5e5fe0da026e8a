"""Who acts at the command line."""

from django.contrib.auth.models import User

from agents.errors import InvalidInput


def acting_user(username: str | None) -> User:
    """The active user of that name; without a name the server's only active superuser.

    Raises:
        InvalidInput: field `as`.
    """
    if username:
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            raise InvalidInput(f"There is no active user {username!r}.", field="as")
        return user
    superusers = list(User.objects.filter(is_superuser=True, is_active=True).order_by("pk")[:2])
    if len(superusers) != 1:
        found = "is no superuser" if not superusers else "are several superusers"
        raise InvalidInput(f"Say who you are with --as USER: there {found}.", field="as")
    return superusers[0]
