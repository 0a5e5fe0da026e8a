"""URLs of policies under /api/v1/."""

from django.urls import path

from approvals.api import policies

_VERSION = "policies/<str:name>/versions/<int:number>"
urlpatterns = [
    path("policies", policies.PolicyList.as_view(), name="policies-api"),
    path("policy-imports", policies.Import.as_view(), name="policy-imports-api"),
    path("policy-packs", policies.PackList.as_view(), name="policy-packs-api"),
    path("policy-packs/<str:name>/draft", policies.PackDraft.as_view(), name="policy-pack-draft-api"),
    path("policies/<str:name>/versions", policies.VersionList.as_view(), name="policy-versions-api"),
    path(_VERSION, policies.VersionDetail.as_view(), name="policy-version-api"),
    path(f"{_VERSION}/simulate", policies.Simulate.as_view(), name="policy-simulate-api"),
    path(f"{_VERSION}/backtest", policies.Backtest.as_view(), name="policy-backtest-api"),
    path(f"{_VERSION}/acknowledge", policies.Acknowledge.as_view(), name="policy-acknowledge-api"),
    path(f"{_VERSION}/shadow", policies.Shadow.as_view(), name="policy-shadow-api"),
    path(f"{_VERSION}/diff", policies.Diff.as_view(), name="policy-diff-api"),
    path(f"{_VERSION}/propose", policies.Propose.as_view(), name="policy-propose-api"),
    path(f"{_VERSION}/withdraw", policies.Withdraw.as_view(), name="policy-withdraw-api"),
    path(f"{_VERSION}/publish", policies.Publish.as_view(), name="policy-publish-api"),
    path(f"{_VERSION}/retire", policies.Retire.as_view(), name="policy-retire-api"),
    path(f"{_VERSION}/rollback", policies.Rollback.as_view(), name="policy-rollback-api"),
]
