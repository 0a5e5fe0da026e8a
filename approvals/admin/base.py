"""What the admin pages share."""

from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin, TabularInline

Row = TypeVar("Row", bound=Model)


class ReadOnly(ModelAdmin):
    """Rows that services write: nobody adds, changes or deletes them here."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class OneByOne(ModelAdmin):
    """Nothing is deleted in bulk; each change made here is recorded (see `audit.signals`)."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def named(rows: QuerySet[Row], object_id: Any) -> Row | None:
    """The row that an address names; None also where its id is none at all."""
    try:
        return rows.filter(pk=object_id).first()
    except ValidationError:
        return None


def done(request: HttpRequest, address: str) -> HttpResponse:
    """Ends an action's dialog: htmx goes to `address`, and so does a browser without script."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": address})
    return HttpResponseRedirect(address)


def acting(request: HttpRequest) -> User:
    """Who acts; the admin has let in nobody else."""
    assert isinstance(request.user, User)
    return request.user
