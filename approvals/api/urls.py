"""URLs under /api/v1/."""

from django.urls import path

from approvals.api.figures import Figures
from approvals.api.views import Answer, ApprovalDetail, ApprovalList, Approve, Deny

urlpatterns = [
    path("approvals/figures", Figures.as_view(), name="approval-figures"),
    path("approvals", ApprovalList.as_view(), name="approvals-api"),
    path("approvals/<uuid:request_id>", ApprovalDetail.as_view(), name="approval-api"),
    path("approvals/<uuid:request_id>/approve", Approve.as_view(), name="approval-approve"),
    path("approvals/<uuid:request_id>/deny", Deny.as_view(), name="approval-deny"),
    path("approvals/<uuid:request_id>/answer", Answer.as_view(), name="approval-answer"),
]
