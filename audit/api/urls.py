from django.urls import path

from audit.api import views

urlpatterns = [
    path("audit/records", views.RecordList.as_view(), name="api-audit-records"),
    path("audit/records/<uuid:record_id>", views.RecordDetail.as_view(), name="api-audit-record"),
    path("audit/status", views.Status.as_view(), name="api-audit-status"),
]
