"""The page of the OpenAPI document: Swagger UI from files of our own, under a policy of its own."""

from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny

# Swagger UI sets style attributes; scripts stay our own files: the page loads its start script as a second request.
STYLES = {"style-src": ["'unsafe-inline'"]}


@method_decorator(csp_update(STYLES), name="dispatch")
class SwaggerPage(SpectacularSwaggerSplitView):
    permission_classes = [AllowAny]
    http_method_names = ["get", "head"]  # what DRF would answer to OPTIONS has no template here
