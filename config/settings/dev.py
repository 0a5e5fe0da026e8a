"""Development: what `bin/up` runs. Not for production."""

import os

from config import env
from config.devstack import environment

environment.adopt(os.environ)  # `manage.py …` in another shell talks to the stack that bin/up started

from config.settings.base import *  # noqa: E402  it reads the environment

SECRET_KEY = env.text("SECRET_KEY", "development-only-not-a-secret-0123456789abcdef0123456789")
ALLOW_LOCAL_REPOSITORIES = env.boolean("ALLOW_LOCAL_REPOSITORIES", True)
ALLOW_LOCAL_WEBHOOKS = env.boolean("ALLOW_LOCAL_WEBHOOKS", True)
DEVELOPMENT = True
POLICY_SECOND_PERSON = env.boolean("POLICY_SECOND_PERSON", False)  # one newcomer has nobody to ask
WORKER_DRAIN_S = env.integer("WORKER_DRAIN_S", 5)  # the stack's supervisor waits for eight seconds
WHITENOISE_USE_FINDERS = True  # static files come from where they are written: no collectstatic
WHITENOISE_AUTOREFRESH = True
if not EMAIL_HOST:
    EMAIL_BACKEND = "approvals.channels.mailbox.MailboxBackend"
    MAILBOX_ENABLED = True
