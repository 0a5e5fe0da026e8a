"""Users and groups."""

from django.contrib.auth.models import Group, User


def user(name: str = "ada", *, groups: tuple[str, ...] = (), **fields: object) -> User:
    made, _ = User.objects.get_or_create(username=name, defaults={"email": f"{name}@example.invalid", **fields})
    made.groups.add(*(Group.objects.get_or_create(name=group)[0] for group in groups))
    return made
