"""URLs under /api/: each app brings its own; the OpenAPI document and its page; a problem for everything else."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import AllowAny

from config.api_docs import SwaggerPage
from config.api_errors import unknown_url

urlpatterns = [
    path("v1/", include("agents.api.urls")),
    path("v1/", include("approvals.api.urls")),
    path("v1/", include("audit.api.urls")),
    # the document names no data: reading it needs no login
    path("schema", SpectacularAPIView.as_view(permission_classes=[AllowAny], authentication_classes=[]), name="schema"),
    path("docs", SwaggerPage.as_view(), name="docs"),
    re_path(r"^(?P<rest>.*)$", unknown_url),
]
