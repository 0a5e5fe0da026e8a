"""What the admin pages share. Changes made here are recorded by `audit.signals`, from Django's own log entries."""

from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event


class ReadOnly(ModelAdmin):
    """Rows that the engine writes: nobody adds, changes or deletes them here."""

    actions_on_top = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class SharedByObject:
    """Mixin over guardian's object permission pages: each grant and each withdrawal is recorded."""

    def obj_perms_manage_user_view(self, request: HttpRequest, object_pk: str, user_id: str) -> HttpResponse:
        return self._recorded(request, object_pk, "user", user_id)

    def obj_perms_manage_group_view(self, request: HttpRequest, object_pk: str, group_id: str) -> HttpResponse:
        return self._recorded(request, object_pk, "group", group_id)

    def _recorded(self, request: HttpRequest, object_pk: str, kind: str, pk: str) -> HttpResponse:
        view = getattr(super(), f"obj_perms_manage_{kind}_view")
        with transaction.atomic():
            response: HttpResponse = view(request, object_pk, pk)
            allowed = self.has_change_permission(request, None)  # type: ignore[attr-defined]
            if allowed and request.method == "POST" and response.status_code == 302:
                record(
                    Event.ADMIN_CHANGED,
                    actor=Actor.user(request.user.pk),
                    target=Target(type=self.model._meta.label_lower, id=str(object_pk)),  # type: ignore[attr-defined]
                    context={
                        "action": "shared",
                        "with": kind,
                        "id": str(pk),
                        "permissions": sorted(request.POST.getlist("permissions")),
                    },
                )
            return response


def rows_of(queryset: QuerySet[Any]) -> list[Any]:
    """The chosen rows in a steady order, so that two people's actions lock alike."""
    return list(queryset.order_by("pk"))
