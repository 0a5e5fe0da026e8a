"""Users and groups, on unfold's pages. Only superusers hand out power here, and each bit of it is recorded."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Manager, Model
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event

# one door for all, with its second factor
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.unregister(User)
admin.site.unregister(Group)


class PowersRecorded(ModelAdmin):
    """Django's log entry says which field changed; who becomes an approver by it is recorded here."""

    power_fields: tuple[str, ...] = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, *self.power_fields)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        before = self.model._default_manager.filter(pk=obj.pk).first() if change else None
        request._powers_before = powers(before) if before is not None else set()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        before = request._powers_before  # type: ignore[attr-defined]
        after = powers(form.instance)
        if before != after:
            record(
                Event.ADMIN_CHANGED,
                actor=Actor.user(request.user.pk),
                target=Target(type=self.model._meta.label_lower, id=str(form.instance.pk)),
                context={"action": "powers", "given": sorted(after - before), "taken": sorted(before - after)},
            )


@admin.register(User)
class UserAdmin(PowersRecorded, DjangoUserAdmin):
    """Staff who may change users change those without power only: a new password for an approver would be an approval."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    power_fields = ("is_staff", "is_superuser", "groups", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_change_permission(request, obj) and _within(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _within(request, obj)

    @transaction.atomic
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        """As Django's, in one transaction with its record."""
        response: HttpResponse = super().user_change_password(request, id, form_url)
        return response


@admin.register(Group)
class GroupAdmin(PowersRecorded, DjangoGroupAdmin):
    power_fields = ("permissions",)


def powers(of: Any) -> set[str]:
    """What lets a user or a group do more than others: `is_staff`, `group:3:approvers`, `permission:agents.view_job`."""
    if isinstance(of, Group):
        return _permissions(of.permissions)
    flags = {name for name in ("is_staff", "is_superuser") if getattr(of, name)}
    groups = {f"group:{pk}:{name}" for pk, name in of.groups.values_list("pk", "name")}
    return flags | groups | _permissions(of.user_permissions)


def _permissions(of: Manager) -> set[str]:
    rows = of.values_list("content_type__app_label", "codename")
    return {f"permission:{app}.{name}" for app, name in rows}


def _within(request: HttpRequest, obj: Model | None) -> bool:
    """Superusers change everybody; others nobody who holds power, themselves included."""
    return obj is None or request.user.is_superuser or not powers(obj)
