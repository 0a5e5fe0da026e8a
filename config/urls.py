"""URLs of the whole server; each app brings its own."""

from django.contrib import admin
from django.urls import include, path

from agents.triggers.views import Incoming
from config import flower, health

admin.autodiscover()

# problems under /api/, pages elsewhere
handler400 = "config.api_errors.bad_request"
handler403 = "config.api_errors.permission_denied"
handler404 = "config.api_errors.page_not_found"
handler500 = "config.api_errors.server_error"

urlpatterns = [
    path("accounts/", include("agents.accounts.urls")),
    path("", include("agents.web.urls")),
    path("", include("approvals.web.urls")),
    path("", include("audit.web.urls")),
    path("api/", include("config.api_urls")),
    path("hooks/<slug:name>/", Incoming.as_view(), name="hook"),
    path("admin/", admin.site.urls),
    path("flower/", flower.proxy, {"path": ""}, name="flower"),
    path("flower/<path:path>", flower.proxy),
    path("healthz", health.healthz, name="healthz"),
]
