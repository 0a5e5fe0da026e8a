"""Permissions by token scope, for every app's API."""

from functools import cache

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, PermissionsMixin
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

AUDITORS = "auditors"


class _Scoped(BasePermission):
    scope = ""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.auth is None:  # a person's session
            return True
        return self.scope in (getattr(request.auth, "scopes", None) or ())


@cache
def HasScope(scope: str) -> type[BasePermission]:
    """A permission class: a session passes, a token needs `scope` among its `scopes`.

    It does not ask who somebody is: put it beside IsAuthenticated.
    """
    message = f"This token lacks the scope {scope}."
    return type("HasScope", (_Scoped,), {"scope": scope, "message": message, "code": "scope_missing"})


class IsAuditor(BasePermission):
    """Who holds `audit.view_record`, as in the admin, and members of the group `auditors`."""

    message = "The audit log is for those with the permission to view records and for members of the group auditors."
    code = "not_an_auditor"

    def has_permission(self, request: Request, view: APIView) -> bool:
        return may_read(request.user)


def may_read(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Is the log open to this user?"""
    if not isinstance(user, PermissionsMixin) or not user.is_active:
        return False
    return bool(user.has_perm("audit.view_record") or user.groups.filter(name=AUDITORS).exists())
