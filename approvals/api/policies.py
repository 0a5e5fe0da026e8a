"""Policies by REST: list, read, draft, try, propose, publish, roll back."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.db.models import Max, OuterRef, Subquery
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api import policyforms as forms
from approvals.api.views import body as body_of
from approvals.api.views import check_query
from approvals.errors import UnknownPolicy
from approvals.models import Policy, PolicyVersion
from approvals.policy import (
    backtest,
    calls,
    comparing,
    importing,
    packs,
    recorded,
    rollback,
    shadow,
    simulate,
    versions,
)
from audit.api.pagination import ByName
from audit.api.permissions import HasScope

READ, WRITE = "policies:read", "policies:write"
VIEW, DRAFT, EDIT, PUBLISH = (f"approvals.{name}_policyversion" for name in ("view", "add", "change", "publish"))
TAGS = ["policies"]
_CONFLICT = {
    409: OpenApiResponse(description="Not in this state: no draft, not proposed, not tried, not acknowledged.")
}
FIRST_SLICE_S = 2.0


class View(GenericAPIView):
    """A session, or a token with the scope that the method needs; and the permission that the operation names."""

    queryset = Policy.objects.none()
    permission: ClassVar[Mapping[str, str]] = {}

    def get_permissions(self) -> list[BasePermission]:
        scope = READ if self.request is None or self.request.method in ("GET", "HEAD", "OPTIONS") else WRITE
        return [IsAuthenticated(), HasScope(scope)()]

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        needed = self.permission.get(request.method or "", VIEW)
        user = cast(User, request.user)
        if not (user.has_perm(needed) or (needed == VIEW and user.has_perm(EDIT))):
            raise PermissionDenied(f"You lack the permission {needed}.")

    def given(self, request: Request, form: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        check_query(request, set())
        found = form(data=body_of(request))
        found.is_valid(raise_exception=True)
        return dict(found.validated_data)


def policy_of(name: str) -> Policy:
    """Raises UnknownPolicy."""
    found = None if "\x00" in name else Policy.objects.filter(name=name).first()
    if found is None:
        raise UnknownPolicy("There is no such policy.")
    return found


def version_of(name: str, number: int) -> PolicyVersion:
    """Raises UnknownPolicy."""
    rows = PolicyVersion.objects.select_related("policy", "created_by", "published_by", "proposed_by")
    found = rows.filter(policy=policy_of(name), number=number).first() if number < 2**31 else None
    if found is None:
        raise UnknownPolicy("There is no such version.")
    return found


class PolicyList(View):
    serializer_class = forms.PolicySerializer
    pagination_class = ByName

    @extend_schema(operation_id="list_policies", tags=TAGS)
    def get(self, request: Request) -> Response:
        """Every policy; what is in force of each."""
        check_query(request, {"cursor", "limit"})
        published = PolicyVersion.objects.filter(policy=OuterRef("pk"), status="published").values("number")[:1]
        rows = Policy.objects.annotate(published=Subquery(published), latest=Max("versions__number"))
        return self.get_paginated_response(self.get_serializer(self.paginate_queryset(rows), many=True).data)


class VersionList(View):
    serializer_class = forms.PolicyVersionSerializer
    permission: ClassVar = {"POST": DRAFT}

    @extend_schema(
        operation_id="list_policy_versions", tags=TAGS, responses={200: forms.PolicyVersionSerializer(many=True)}
    )
    def get(self, request: Request, name: str) -> Response:
        """The policy's newest versions, at most a hundred."""
        check_query(request, set())
        rows = policy_of(name).versions.select_related("policy", "created_by", "published_by", "proposed_by")
        return Response(self.get_serializer(rows.order_by("-number")[:100], many=True).data)

    @extend_schema(
        operation_id="draft_policy",
        tags=TAGS,
        request=forms.PolicyDraftSerializer,
        responses={201: forms.PolicyVersionDetailSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        """A new draft: a copy of `source`, else of what is in force."""
        given = self.given(request, forms.PolicyDraftSerializer)
        policy = policy_of(name)
        if given["source"] is not None:
            source: PolicyVersion | None = version_of(name, given["source"])
        else:
            source = policy.versions.filter(status=PolicyVersion.Status.PUBLISHED).first()
        draft = versions.new_draft(policy, source=source, by=cast(User, request.user))
        return _detail(self, draft, status=201)


class VersionDetail(View):
    serializer_class = forms.PolicyVersionDetailSerializer
    permission: ClassVar = {"PUT": EDIT}

    @extend_schema(operation_id="get_policy_version", tags=TAGS)
    def get(self, request: Request, name: str, number: int) -> Response:
        """One version, with its rules as YAML, and what keeps you from publishing it."""
        check_query(request, set())
        return _detail(self, version_of(name, number))

    @extend_schema(
        operation_id="replace_policy_rules",
        tags=TAGS,
        request=forms.PolicyYamlSerializer,
        responses={200: forms.PolicyVersionDetailSerializer, **_CONFLICT},
    )
    def put(self, request: Request, name: str, number: int) -> Response:
        """Gives a draft other rules. A proposal is taken back, a backtest counts no more."""
        given = self.given(request, forms.PolicyYamlSerializer)
        importing.replace_by_yaml(version_of(name, number).pk, given["yaml"], by=cast(User, request.user))
        return _detail(self, version_of(name, number))


class Import(View):
    permission: ClassVar = {"POST": DRAFT}
    serializer_class = forms.PolicyVersionDetailSerializer

    @extend_schema(
        operation_id="import_policy",
        tags=TAGS,
        request=forms.PolicyImportSerializer,
        responses={201: forms.PolicyVersionDetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """A draft from YAML; `errors` of a refusal name each problem with its line."""
        given = self.given(request, forms.PolicyImportSerializer)
        draft = importing.import_yaml(given["yaml"], by=cast(User, request.user))
        return _detail(self, draft, status=201)


class PackList(View):
    serializer_class = forms.PolicyPackSerializer

    @extend_schema(operation_id="list_policy_packs", tags=TAGS, responses={200: forms.PolicyPackSerializer(many=True)})
    def get(self, request: Request) -> Response:
        """The policies that come with the server."""
        check_query(request, set())
        return Response(self.get_serializer(packs.every(), many=True).data)


class PackDraft(View):
    permission: ClassVar = {"POST": DRAFT}
    serializer_class = forms.PolicyVersionDetailSerializer

    @extend_schema(
        operation_id="draft_policy_pack", tags=TAGS, request=None, responses={201: forms.PolicyVersionDetailSerializer}
    )
    def post(self, request: Request, name: str) -> Response:
        """A draft from a pack. Its groups must exist."""
        self.given(request, forms.Nothing)
        return _detail(self, importing.import_pack(name, by=cast(User, request.user)), status=201)


class Simulate(View):
    permission: ClassVar = {"POST": VIEW}
    serializer_class = forms.PolicySimulatedSerializer

    @extend_schema(
        operation_id="simulate_policy",
        tags=TAGS,
        request=forms.PolicyCallSerializer,
        responses={200: forms.PolicySimulatedSerializer},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """What this version would say of one call, and of each rule why. Nothing is changed."""
        given = self.given(request, forms.PolicyCallSerializer)
        version = version_of(name, number)
        if given["step"]:
            found = recorded.source().of([given["step"]])
            if not found:
                raise UnknownPolicy("There is no such step that was decided on.")
            return Response(simulate.version(version, found[0].inputs[0]).as_json())
        return Response(simulate.version(version, calls.made(given["call"], now=timezone.now())).as_json())


class Backtest(View):
    permission: ClassVar = {"POST": DRAFT}
    serializer_class = forms.PolicyBacktestSerializer

    @extend_schema(operation_id="get_policy_backtest", tags=TAGS)
    def get(self, request: Request, name: str, number: int) -> Response:
        """How the last one stands; `state` is running, done or stale."""
        check_query(request, set())
        return Response(self._state(version_of(name, number)))

    @extend_schema(
        operation_id="run_policy_backtest",
        tags=TAGS,
        request=forms.PolicyDaysSerializer,
        responses={202: forms.PolicyBacktestSerializer, **_CONFLICT},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """Tries a draft on past decisions. Where there are many it goes on by itself: read how it stands."""
        given = self.given(request, forms.PolicyDaysSerializer)
        version = version_of(name, number)
        backtest.start(version.pk, days=given["days"], by=cast(User, request.user), now=timezone.now())
        backtest.run(version.pk, seconds=FIRST_SLICE_S)
        return Response(self._state(version_of(name, number)), status=202)

    def _state(self, version: PolicyVersion) -> dict[str, Any]:
        state = version.backtest or {"state": "none"}
        needed = backtest.is_current(version) and backtest.must_acknowledge(version)
        hidden = ("cursor", "started_by", "rules_sha256", "listed")
        return {name: value for name, value in state.items() if name not in hidden} | {"must_acknowledge": needed}


class Shadow(View):
    permission: ClassVar = {"POST": DRAFT, "DELETE": DRAFT}
    serializer_class = forms.PolicyShadowSerializer

    @extend_schema(operation_id="get_policy_shadow", tags=TAGS)
    def get(self, request: Request, name: str, number: int) -> Response:
        """Is it running, and the newest hundred decisions on which it differs."""
        check_query(request, set())
        return Response(self._state(version_of(name, number)))

    @extend_schema(operation_id="start_policy_shadow", tags=TAGS, request=None)
    def post(self, request: Request, name: str, number: int) -> Response:
        """The draft is asked about every decision after it was taken, without any say."""
        self.given(request, forms.Nothing)
        shadow.start(version_of(name, number).pk, by=cast(User, request.user), now=timezone.now())
        return Response(self._state(version_of(name, number)))

    @extend_schema(operation_id="stop_policy_shadow", tags=TAGS, responses={200: forms.PolicyShadowSerializer})
    def delete(self, request: Request, name: str, number: int) -> Response:
        """Ends it; its differences stay."""
        check_query(request, set())
        shadow.stop(version_of(name, number).pk, by=cast(User, request.user))
        return Response(self._state(version_of(name, number)))

    def _state(self, version: PolicyVersion) -> dict[str, Any]:
        state = version.shadow or {}
        rows = version.differences.all()[:100]
        return {
            "since": version.shadow_since,
            "ends_at": shadow.ends_at(version),
            "compared": state.get("compared", 0),
            "differ": state.get("differ", 0),
            "differences": forms.PolicyDifferenceSerializer(rows, many=True).data,
        }


class Diff(View):
    serializer_class = forms.PolicyDiffSerializer

    @extend_schema(
        operation_id="diff_policy",
        tags=TAGS,
        parameters=[OpenApiParameter("against", int, description="A version's number; default: what is in force.")],
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        """What changes from another version to this one."""
        check_query(request, {"against"})
        version, wanted = version_of(name, number), request.query_params.get("against")
        if wanted is not None and not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
            raise ValidationError({"against": ["Must be a version's number."]})
        if wanted is not None:
            other: PolicyVersion | None = version_of(name, int(wanted))
        else:
            other = version.policy.versions.select_related("policy").filter(status="published").first()
        if other is None:
            raise UnknownPolicy("Nothing of this policy is in force: say which version to compare with.")
        changes = [one.as_json() for one in comparing.changes(other, version)]
        return Response({"against": other.number, "changes": changes, "text": comparing.text(other, version)})


class _Act(View):
    serializer_class = forms.PolicyVersionDetailSerializer
    takes: ClassVar[type[serializers.Serializer[Any]]] = forms.Nothing

    def _post(self, request: Request, name: str, number: int) -> Response:
        given = self.given(request, self.takes)
        made = self.act(version_of(name, number), cast(User, request.user), given)
        return _detail(self, version_of(name, made.number))

    def act(self, version: PolicyVersion, by: User, given: dict[str, Any]) -> PolicyVersion:
        raise NotImplementedError


def _operation(operation_id: str, takes: type[serializers.Serializer[Any]] | None = None) -> Any:
    return extend_schema(
        operation_id=operation_id,
        tags=TAGS,
        request=takes,
        responses={200: forms.PolicyVersionDetailSerializer, **_CONFLICT},
    )


class Acknowledge(_Act):
    permission: ClassVar = {"POST": PUBLISH}
    takes = forms.PolicyNoteSerializer

    @_operation("acknowledge_policy_backtest", forms.PolicyNoteSerializer)
    def post(self, request: Request, name: str, number: int) -> Response:
        """You answer for the calls that were denied and would be allowed."""
        return self._post(request, name, number)

    def act(self, version: PolicyVersion, by: User, given: dict[str, Any]) -> PolicyVersion:
        return backtest.acknowledge(version.pk, by=by, note=given["note"], now=timezone.now())


class Propose(_Act):
    permission: ClassVar = {"POST": DRAFT}

    @_operation("propose_policy")
    def post(self, request: Request, name: str, number: int) -> Response:
        """Asks a second person to publish exactly these rules."""
        return self._post(request, name, number)

    def act(self, version: PolicyVersion, by: User, given: dict[str, Any]) -> PolicyVersion:
        return versions.propose(version.pk, by=by, now=timezone.now())


class Withdraw(_Act):
    permission: ClassVar = {"POST": DRAFT}

    @_operation("withdraw_policy")
    def post(self, request: Request, name: str, number: int) -> Response:
        """Takes a proposal back."""
        return self._post(request, name, number)

    def act(self, version: PolicyVersion, by: User, given: dict[str, Any]) -> PolicyVersion:
        return versions.withdraw(version.pk, by=by)


class Publish(_Act):
    permission: ClassVar = {"POST": PUBLISH}
    takes = forms.PolicyPublishSerializer

    @_operation("publish_policy", forms.PolicyPublishSerializer)
    def post(self, request: Request, name: str, number: int) -> Response:
        """Puts a draft in force that somebody else proposed."""
        return self._post(request, name, number)

    def act(self, version: PolicyVersion, by: User, given: dict[str, Any]) -> PolicyVersion:
        return versions.publish(version.pk, by=by, now=timezone.now(), digest=given["rules_sha256"] or None)


class Retire(_Act):
    permission: ClassVar = {"POST": PUBLISH}

    @_operation("retire_policy")
    def post(self, request: Request, name: str, number: int) -> Response:
        """Takes a version out of force with nothing in its place."""
        return self._post(request, name, number)

    def act(self, version: PolicyVersion, by: User, given: dict[str, Any]) -> PolicyVersion:
        return versions.retire(version.pk, by=by)


class Rollback(View):
    permission: ClassVar = {"POST": PUBLISH}
    serializer_class = forms.RolledBackSerializer

    @extend_schema(
        operation_id="roll_back_policy",
        tags=TAGS,
        request=forms.PolicyReasonSerializer,
        responses={200: forms.RolledBackSerializer, **_CONFLICT},
    )
    def post(self, request: Request, name: str, number: int) -> Response:
        """A new version with the rules of an earlier one; at once in force where it plainly gives no more leave."""
        given = self.given(request, forms.PolicyReasonSerializer)
        found = rollback.roll_back(
            version_of(name, number).pk, by=cast(User, request.user), reason=given["reason"], now=timezone.now()
        )
        made = version_of(name, found.version.number)
        return Response({"version": _shown(self, made), "missing": found.missing})


def _detail(view: View, version: PolicyVersion, *, status: int = 200) -> Response:
    return Response(_shown(view, version), status=status)


def _shown(view: View, version: PolicyVersion) -> Any:
    row = version_of(version.policy.name, version.number)
    return forms.PolicyVersionDetailSerializer(row, context=view.get_serializer_context()).data
