"""Production. What has no safe default must be given; `manage.py check --deploy` and `manage.py doctor` say what is missing."""

from config import env
from config.settings.base import *

DEVELOPMENT = False
SECRET_KEY = env.text("SECRET_KEY")
PUBLIC_URL = env.text("PUBLIC_URL").rstrip("/")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
DATABASES = {"default": {**env.database("DATABASE_URL"), "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}}
REDIS_URL = env.text("REDIS_URL")
if not env.text("BROKER_URL", ""):
    BROKER_URL = CELERY_BROKER_URL = REDIS_URL
SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", True)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]  # load balancers ask by plain HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 31_536_000)
# Subdomains and browsers' preload lists are for whoever owns the domain to decide, not for one server on it.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
STEP_UP = env.boolean("STEP_UP", True)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
