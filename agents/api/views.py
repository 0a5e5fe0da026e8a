"""What every view of this app is: a session or a token with the scope that the method needs."""

from typing import ClassVar, cast

from django.contrib.auth.models import User
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request

from audit.api.permissions import HasScope

READ, WRITE = "jobs:read", "jobs:write"


class View(GenericAPIView):
    """`scopes`: the scope that a token needs, by method; reading is the default, "" asks for none."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}

    def get_permissions(self) -> list[BasePermission]:
        scope = self.scopes.get(self.request.method or "GET", READ) if self.request is not None else READ
        return [IsAuthenticated(), HasScope(scope)()] if scope else [IsAuthenticated()]


def person(request: Request) -> User:
    """Who asks; `IsAuthenticated` has let nobody else in."""
    return cast(User, request.user)
