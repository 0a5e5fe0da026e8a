"""URLs under /api/v1/."""

from django.urls import include, path

from approvals.api import given, moving
from approvals.api.figures import Figures
from approvals.api.views import Answer, ApprovalDetail, ApprovalList, Approve, Deny

urlpatterns = [
    path("", include("approvals.api.policyurls")),
    path("approvals/figures", Figures.as_view(), name="approval-figures"),
    path("approvals", ApprovalList.as_view(), name="approvals-api"),
    path("approvals/batch", moving.Batch.as_view(), name="approval-batch"),
    path("approvals/<uuid:request_id>", ApprovalDetail.as_view(), name="approval-api"),
    path("approvals/<uuid:request_id>/approve", Approve.as_view(), name="approval-approve"),
    path("approvals/<uuid:request_id>/deny", Deny.as_view(), name="approval-deny"),
    path("approvals/<uuid:request_id>/answer", Answer.as_view(), name="approval-answer"),
    path("approvals/<uuid:request_id>/edit", moving.Edit.as_view(), name="approval-edit-api"),
    path("approvals/<uuid:request_id>/ask", moving.Ask.as_view(), name="approval-ask-api"),
    path(
        "approvals/<uuid:request_id>/comments/<uuid:comment_id>/answer",
        moving.AnswerComment.as_view(),
        name="comment-answer-api",
    ),
    path("approvals/<uuid:request_id>/take-back", moving.TakeBack.as_view(), name="approval-take-back-api"),
    path("approvals/<uuid:request_id>/break-glass", moving.BreakTheGlass.as_view(), name="approval-break-glass-api"),
    path("approvals/<uuid:request_id>/alike", moving.Alike.as_view(), name="approval-alike-api"),
    path("approvals/<uuid:request_id>/grant", given.GrantOf.as_view(), name="approval-grant-api"),
    path("grants", given.Grants.as_view(), name="grants-api"),
    path("grants/<uuid:grant_id>/revoke", given.RevokeGrant.as_view(), name="grant-revoke-api"),
    path("delegations", given.Delegations.as_view(), name="delegations-api"),
    path("delegations/<uuid:delegation_id>/revoke", given.RevokeDelegation.as_view(), name="delegation-revoke-api"),
    path("glass-reviews", given.Glasses.as_view(), name="glass-reviews-api"),
    path("glass-reviews/<uuid:glass_id>", given.ReviewGlass.as_view(), name="glass-review-api"),
]
