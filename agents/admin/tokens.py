"""API tokens: made here, shown once, ended here."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from agents.admin.base import rows_of
from agents.errors import InvalidInput
from agents.models import ApiToken
from agents.tokens import prepare_token, record_created, revoke_token
from audit.actor import Actor


class TokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(choices=ApiToken.Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget)

    class Meta:
        model = ApiToken
        fields = ["name", "user", "scopes", "expires_at"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            self.prepared = prepare_token(
                user=cleaned["user"],
                name=cleaned["name"],
                scopes=cleaned["scopes"],
                now=timezone.now(),
                expires_at=cleaned["expires_at"],
            )
        except InvalidInput as error:
            self.add_error(error.field, error.message)
        return cleaned


@admin.register(ApiToken)
class ApiTokenAdmin(ModelAdmin):
    """A token acts as its user, so only superusers make one for somebody else."""

    list_display = ["name", "hint", "user", "scopes", "created_at", "expires_at", "revoked_at", "used_at"]
    list_filter = ["user", "revoked_at"]
    search_fields = ["name", "hint", "user__username"]
    list_select_related = ["user"]
    actions = ["revoke"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens = super().get_queryset(request)
        return tokens if request.user.is_superuser else tokens.filter(user=request.user)

    def get_form(self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        form = super().get_form(request, obj, change, **{**kwargs, "form": TokenForm})
        if not request.user.is_superuser:
            form.base_fields["user"].queryset = form.base_fields["user"].queryset.filter(pk=request.user.pk)
        return form

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        if obj is None:
            return ["name", "user", "scopes", "expires_at"]
        return ["name", "hint", "user", "scopes", "created_at", "expires_at", "revoked_at", "used_at"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, **super().get_changeform_initial_data(request)}

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("agents.change_apitoken"))

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> ApiToken:
        super().save_form(request, form, change)
        token: ApiToken = form.prepared[0]
        return token

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        if obj.user_id != request.user.pk:
            obj.created_by_id = request.user.pk
        obj.save(force_insert=True)
        record_created(obj, actor=Actor.user(request.user.pk))
        request._token_secret = form.prepared[1]  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None) -> HttpResponse:
        """The page that shows the token; it is not stored and cannot be shown again."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Token {obj.name}",
            "opts": self.opts,
            "token": obj,
            "secret": request._token_secret,  # type: ignore[attr-defined]
        }
        return TemplateResponse(
            request, "admin/agents/apitoken/created.html", context, headers={"Cache-Control": "no-store"}
        )

    @action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        now, by = timezone.now(), Actor.user(request.user.pk)
        ended = sum(revoke_token(token, now=now, actor=by) for token in rows_of(queryset))
        self.message_user(request, f"Revoked {ended} token{'s' if ended != 1 else ''}.", messages.SUCCESS)
