"""Tests. `bin/test` starts the servers and sets the addresses."""

from config.devstack.testrun import use_own_servers

use_own_servers()

from config.settings.dev import *  # noqa: E402

DEVELOPMENT = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STEP_LEASE_S = env.integer("STEP_LEASE_S", 30)
STEP_REPUBLISH_AFTER_S = env.integer("STEP_REPUBLISH_AFTER_S", 30)
WHITENOISE_AUTOREFRESH = True
API_RATES = {"anonymous": 0, "user": 0, "token": 0}  # all tests come from one address
RELEASE_WINDOW = 0  # nobody consumes in most tests; those of fair release set it
