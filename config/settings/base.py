"""Settings that every installation shares. Values that differ come from the environment (see `config.env`)."""

from pathlib import Path

from config import env

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VERSION = "0.1.0"

# Where keys, workspaces, checkpoints and logs live. One folder a server.
DATA_DIR = Path(env.text("COUNTERSIGN_DATA_DIR", str(BASE_DIR / ".data"))).resolve()
# One folder a job. Must be reachable by the user that the sandbox drops to (see `tools.sandbox`).
WORKSPACE_DIR = Path(env.text("COUNTERSIGN_WORKSPACE_DIR", str(DATA_DIR / "workspaces"))).resolve()
# What a job's workspace held after each step that may write (see `tools.snapshots`): how many, and MiB together.
WORKSPACE_SNAPSHOTS = env.integer("WORKSPACE_SNAPSHOTS", 200)
WORKSPACE_SNAPSHOT_MB = env.integer("WORKSPACE_SNAPSHOT_MB", 2048)
# Bounds of the workspaces (tools.quota), 0: none: of each, of all together, and what stays free of their disk.
WORKSPACE_QUOTA_MB = env.integer("WORKSPACE_QUOTA_MB", 4096)
WORKSPACE_QUOTA_FILES = env.integer("WORKSPACE_QUOTA_FILES", 300_000)
WORKSPACES_TOTAL_MB = env.integer("WORKSPACES_TOTAL_MB", 0)
WORKSPACE_DISK_FREE_MB = env.integer("WORKSPACE_DISK_FREE_MB", 256)
WORKSPACE_KEEP_HOURS = env.integer("WORKSPACE_KEEP_HOURS", 168)
# Files that jobs keep (tools.artifacts). Where several hosts serve pages or work, a folder that all of them share.
ARTIFACT_DIR = Path(env.text("COUNTERSIGN_ARTIFACT_DIR", str(DATA_DIR / "artifacts"))).resolve()
ARTIFACT_MAX_MB = env.integer("ARTIFACT_MAX_MB", 64)
ARTIFACTS_JOB_MB = env.integer("ARTIFACTS_JOB_MB", 512)
ARTIFACTS_JOB_COUNT = env.integer("ARTIFACTS_JOB_COUNT", 100)
ARTIFACTS_TOTAL_MB = env.integer("ARTIFACTS_TOTAL_MB", 10_240)
ARTIFACT_KEEP_DAYS = env.integer("ARTIFACT_KEEP_DAYS", 30)
# Containers instead of namespaces (tools.pod). Empty: none.
POD_ENGINE = env.text("POD_ENGINE", "")
POD_PROGRAM = env.text("POD_PROGRAM", "")
POD_IMAGE = env.text("POD_IMAGE", "")
POD_RUNTIME = env.text("POD_RUNTIME", "")
POD_NAMESPACE = env.text("POD_NAMESPACE", "default")
POD_VOLUME_CLAIM = env.text("POD_VOLUME_CLAIM", "")
POD_FOLDERS = env.pairs("POD_FOLDERS")
# Old jobs' feeds, out of the database (see `agents.archive`). Where several hosts serve pages, a folder that all share.
ARCHIVE_DIR = Path(env.text("COUNTERSIGN_ARCHIVE_DIR", str(DATA_DIR / "archive"))).resolve()
ARCHIVE_AFTER_DAYS = env.integer("ARCHIVE_AFTER_DAYS", 90)
# The address that people's browsers use; links in mails start with it.
PUBLIC_URL = env.text("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
SITE_NAME = "Countersign"
# Approving what is of high risk, or where a rule says so, takes a second factor given within so many seconds.
STEP_UP = env.boolean("STEP_UP", False)
STEP_UP_FRESH_S = env.integer("STEP_UP_FRESH_S", 300)
# Seconds until an approval in an emergency must have been reviewed by somebody else.
GLASS_REVIEW_S = env.integer("GLASS_REVIEW_S", 259_200)

SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")

DEBUG = False
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEST_RUNNER = "django.test.runner.DiscoverRunner"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin.apps.SimpleAdminConfig",  # config.urls discovers: workers need no admin in memory
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "unfold.contrib.guardian",
    "guardian",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_htmx",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "audit",
    "tools",
    "approvals",
    "agents",
    "config",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.csp.PolicyByPath",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "agents.web.context.site",
            ],
        },
    },
]

DATABASES = {
    "default": {
        **env.database("DATABASE_URL", "postgresql://countersign@127.0.0.1:5432/countersign"),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
REDIS_URL = env.text("REDIS_URL", "redis://127.0.0.1:6379/0")

AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/accounts/login/"

# Signing in (agents.accounts): by a name, bounded by our own counts, which all processes share.
ACCOUNT_ADAPTER = "agents.accounts.adapter.Accounts"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_UNIQUE_EMAIL = False
ACCOUNT_RATE_LIMITS = False
MFA_ADAPTER = "agents.accounts.adapter.SecondFactors"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1
# The company's accounts, by OpenID Connect. Empty: none.
OIDC_ISSUER = env.text("OIDC_ISSUER", "").rstrip("/")
OIDC_NAME = env.text("OIDC_NAME", "Company account")
OIDC_SIGN_UP = env.boolean("OIDC_SIGN_UP", False)
OIDC_GROUPS_CLAIM = env.text("OIDC_GROUPS_CLAIM", "")
OIDC_GROUPS = env.pairs("OIDC_GROUPS")
SOCIALACCOUNT_ADAPTER = "agents.accounts.oidc.Companies"
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_QUERY_EMAIL = True
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "APPS": [
            {
                "provider_id": "sso",
                "name": OIDC_NAME,
                "client_id": env.text("OIDC_CLIENT_ID", ""),
                "secret": env.text("OIDC_CLIENT_SECRET", ""),
                "settings": {
                    "server_url": OIDC_ISSUER,
                    "oauth_pkce_enabled": True,
                    "scope": env.words("OIDC_SCOPES", "openid,profile,email"),
                },
            }
        ]
        if OIDC_ISSUER
        else []
    }
}

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "agents.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.api.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["agents.api.throttling.Throttle"],
    "EXCEPTION_HANDLER": "config.api_errors.problem_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
# Requests a minute of one address without a login, one signed-in user, one token; 0: no bound.
API_RATES = {
    "anonymous": env.integer("API_RATE_ANONYMOUS", 300),
    "user": env.integer("API_RATE_USER", 3000),
    "token": env.integer("API_RATE_TOKEN", 3000),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Countersign API",
    "DESCRIPTION": "Submit jobs, watch steps, decide approvals, check the audit log.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "config.api.declare_problems"],
    "ENUM_NAME_OVERRIDES": {
        "JobState": "agents.states.JobState",
        "StepState": "agents.states.StepState",
        "JobKind": "agents.models.job.Job.Kind",
        "StepKind": "agents.models.step.Step.Kind",
        "ApprovalKind": "approvals.models.ApprovalRequest.Kind",
        "ApprovalState": "approvals.models.ApprovalRequest.State",
    },
}

# The model. Any OpenAI-compatible endpoint; the development stack starts a scripted one where none is given.
LLM_BASE_URL = env.text("OPENAI_BASE_URL", "https://api.openai.com/v1")
LLM_API_KEY = env.text("OPENAI_API_KEY", "")
LLM_MODEL = env.text("LLM_MODEL", "gpt-5-mini")
LLM_SCRIPTED = env.boolean("LLM_SCRIPTED", False)  # shown wherever the model is named
LLM_TIMEOUT_S = env.integer("LLM_TIMEOUT_S", 120)
MEMORY_ROUTE = env.text("MEMORY_ROUTE", "")  # the model route for vectors of memories; empty: the agent's

# Mail. In development without EMAIL_HOST, mails go to the mailbox page.
EMAIL_HOST = env.text("EMAIL_HOST", "")
EMAIL_PORT = env.integer("EMAIL_PORT", 587)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", bool(EMAIL_HOST) and EMAIL_PORT == 587)
EMAIL_USE_SSL = env.boolean("EMAIL_USE_SSL", EMAIL_PORT == 465)
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "Countersign <countersign@localhost>")
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
MAILBOX_ENABLED = False  # the development mailbox page
SLACK_WEBHOOK_URL = env.text("SLACK_WEBHOOK_URL", "")
# The ways to reach people about approvals: classes of `approvals.channels.base.Channel`.
APPROVAL_CHANNELS = env.words(
    "APPROVAL_CHANNELS",
    "approvals.channels.email.Email,approvals.channels.slack.Slack,approvals.channels.webhook.Webhook",
)
# After so many denials of its calls a job is paused, and again after as many more; 0: never.
APPROVAL_DENIALS_PAUSE = env.integer("APPROVAL_DENIALS_PAUSE", 3)
# Slack with buttons: an app's bot token, its signing secret, and the conversation that it posts to.
SLACK_BOT_TOKEN = env.text("SLACK_BOT_TOKEN", "")
SLACK_SIGNING_SECRET = env.text("SLACK_SIGNING_SECRET", "")
SLACK_CHANNEL = env.text("SLACK_CHANNEL", "")
SLACK_API_URL = env.text("SLACK_API_URL", "https://slack.com/api/")
# A service of one's own that is told of requests and outcomes (Standard Webhooks).
APPROVAL_WEBHOOK_URL = env.text("APPROVAL_WEBHOOK_URL", "")
APPROVAL_WEBHOOK_SECRET = env.text("APPROVAL_WEBHOOK_SECRET", "")

# Flower, reverse-proxied under /flower/ for staff only. Empty: not running.
FLOWER_URL = env.text("FLOWER_URL", "")
FLOWER_BASIC_AUTH = env.text("FLOWER_BASIC_AUTH", "")

# Repositories by path or file:// are for development and tests.
ALLOW_LOCAL_REPOSITORIES = env.boolean("ALLOW_LOCAL_REPOSITORIES", False)
# Outgoing webhooks to http and to private addresses are for development and tests.
ALLOW_LOCAL_WEBHOOKS = env.boolean("ALLOW_LOCAL_WEBHOOKS", False)
# Logins for https remotes, a line `https://user:token@host[/path]` each (git-credential-store(1)).
# Where git may go, as patterns (`git.example.org`, `*.example.org`, `host:8443`); empty: where the repositories are.
GIT_HOSTS = env.text("GIT_HOSTS", "")
GIT_CREDENTIALS_FILE = env.text("GIT_CREDENTIALS_FILE", "")
# Files whose contents agents may use by handles (see docs/howto/secrets.md), a secret each.
SECRETS_DIR = Path(env.text("SECRETS_DIR", str(DATA_DIR / "agent-secrets"))).resolve()
# Author and committer of the commits that agents make, as `Name <address>`.
GIT_IDENTITY = env.text("GIT_IDENTITY", "Countersign agent <agent@countersign.invalid>")
# Addresses that calls may reach although they are not of the public internet: `address`, `network/prefix`, each with `:port`.
EGRESS_EXCEPTIONS = env.words("EGRESS_EXCEPTIONS", "")

# Policies: who proposes a draft does not publish it; drafts are tried on the decisions of so many days before (0: not
# asked for); a draft's shadow ends by itself after so many days.
POLICY_SECOND_PERSON = env.boolean("POLICY_SECOND_PERSON", True)
POLICY_BACKTEST_DAYS = env.integer("POLICY_BACKTEST_DAYS", 30)
POLICY_SHADOW_DAYS = env.integer("POLICY_SHADOW_DAYS", 7)

# The engine (see docs/explanation).
STEP_LEASE_S = env.integer("STEP_LEASE_S", 30)
STEPS_PER_TASK = env.integer("STEPS_PER_TASK", 1)
STEP_REPUBLISH_AFTER_S = env.integer("STEP_REPUBLISH_AFTER_S", 30)
POISON_LOSSES = env.integer("POISON_LOSSES", 3)
CANARY_EVERY_S = env.integer("CANARY_EVERY_S", 10)
CANARY_LIMIT_S = env.integer("CANARY_LIMIT_S", 30)
WORKER_DRAIN_S = env.integer("WORKER_DRAIN_S", 20)
SWEEP_INTERVAL_S = 1.0
JOBS_QUEUED_MAX = env.integer("JOBS_QUEUED_MAX", 1000)
JOBS_QUEUED_MAX_PER_USER = env.integer("JOBS_QUEUED_MAX_PER_USER", 0)
# Messages that may lie in a broker's queue, for each thread that consumes it; what waits behind is released in the
# fair order. 0: no bound, and no order.
RELEASE_WINDOW = env.integer("RELEASE_WINDOW", 8)
RELEASE_AGEING_S = env.integer("RELEASE_AGEING_S", 30)

# Celery: why each stands as it does is written in docs/explanation/engine.md.
BROKER_URL = CELERY_BROKER_URL = env.text("BROKER_URL", REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_RATE_LIMITS = True
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "ack_emulation": False,
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
if BROKER_URL.startswith("amqp"):
    # RabbitMQ: a message is sent when the broker says so; queues and messages outlive its restart
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
    CELERY_BROKER_HEARTBEAT = 10
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_ENABLE_UTC = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

LLM_DATABASE_POOL_MAX = env.integer("LLM_DATABASE_POOL_MAX", 16)  # connections that the llm worker's threads share
# A worker process a group; a group serves these queues with this many threads.
WORKER_GROUPS = {
    "llm": {"queues": ["llm"], "threads": env.integer("LLM_THREADS", 16)},
    "shell": {"queues": ["shell", "files"], "threads": 4},
    "git": {"queues": ["git"], "threads": 4},
    "mcp": {"queues": ["mcp"], "threads": 8},
    "control": {"queues": ["control"], "threads": 2},
}
QUEUES = [queue for group in WORKER_GROUPS.values() for queue in group["queues"]]  # type: ignore[attr-defined]

# Keys of the audit log: the checkpoint key is read by the signer process alone.
AUDIT_KEY_DIR = Path(env.text("AUDIT_KEY_DIR", str(DATA_DIR / "audit-keys")))
AUDIT_PUBLISH_DIR = Path(env.text("AUDIT_PUBLISH_DIR", str(DATA_DIR / "audit-log")))
AUDIT_ORIGIN = env.text("AUDIT_ORIGIN", "countersign.local/audit")
# Where checkpoints are sent besides the folder: see docs/howto/audit-publishing.md.
AUDIT_PUBLISH_TO = env.words("AUDIT_PUBLISH_TO")
AUDIT_PUBLISH_EVERY_S = env.integer("AUDIT_PUBLISH_EVERY_S", 60)
AUDIT_S3_ACCESS_KEY = env.text("AUDIT_S3_ACCESS_KEY", "")
AUDIT_S3_SECRET_KEY = env.text("AUDIT_S3_SECRET_KEY", "")
# A C2SP tlog-policy file: the witnesses that are asked, and how many must have cosigned.
AUDIT_WITNESS_POLICY = env.text("AUDIT_WITNESS_POLICY", "")
AUDIT_WITNESS_EVERY_S = env.integer("AUDIT_WITNESS_EVERY_S", 15)
AUDIT_WITNESS_DIR = Path(env.text("AUDIT_WITNESS_DIR", str(DATA_DIR / "audit-witness")))

LOGGING_CONFIG = "config.logging.configure"
LOGGING = {"level": env.text("LOG_LEVEL", "INFO"), "format": env.text("LOG_FORMAT", "json")}

# The back office: what it shows is said in agents.web.backoffice; the colours are those of templates/static.
UNFOLD = {
    "SITE_TITLE": "Countersign",
    "SITE_HEADER": "Countersign",
    "SITE_SUBHEADER": "Back office",
    "SITE_URL": "/",
    "SITE_ICON": "agents.web.backoffice.icon",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "agents.web.backoffice.icon"}],
    "STYLES": ["agents.web.backoffice.styles"],
    "DASHBOARD_CALLBACK": "agents.web.backoffice.dashboard",
    "SIDEBAR": {"navigation": "agents.web.backoffice.navigation"},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "COLORS": {
        "primary": {
            "50": "#f1f4fe",
            "100": "#e1e7fd",
            "200": "#c9d3fb",
            "300": "#b3c3ff",
            "400": "#93a9ff",
            "500": "#7089f5",
            "600": "#2c4bc9",
            "700": "#233ca3",
            "800": "#1e3384",
            "900": "#1c2d6b",
            "950": "#131d45",
        },
    },
}
