"""Pages of this app, from the root."""

from django.urls import path

from audit.web import views

urlpatterns = [
    path("audit/", views.explorer, name="audit"),
    path("audit/records/<uuid:record_id>/", views.record, name="audit-record"),
    path("audit/records/<uuid:record_id>/proof", views.proof, name="audit-proof"),
    path("audit/jobs/<uuid:job_id>/bundle.zip", views.bundle, name="audit-bundle"),
]
