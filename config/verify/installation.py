"""The settings: what is right in development and wrong in production."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from django.conf import settings
from django.core import checks
from django.core.checks.messages import WARNING

from config.verify.line import Line, failed, not_here, passed

SECRET_MIN = 50
SECRET_LETTERS_MIN = 5
FREE_MIN, FREE_SHARE_MIN = 2 * 1024**3, 0.05
TIMEOUT_S = 5.0
DEVELOPMENT = "development: nobody else reaches this server"


def debug() -> Iterator[Line]:
    if settings.DEBUG:
        yield failed("debug", "DEBUG is on: errors show code and settings", "Use config.settings.prod.")
    else:
        yield passed("debug", "off")


def hosts() -> Iterator[Line]:
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    wild = [name for name in settings.ALLOWED_HOSTS if name in {"*", "."}]
    named = any(name == host or (name.startswith(".") and host.endswith(name)) for name in _plain_hosts())
    if wild:
        yield failed("hosts", "ALLOWED_HOSTS lets any host in", "Name the hosts of this server in ALLOWED_HOSTS.")
    elif not named:
        yield failed("hosts", f"PUBLIC_URL's host {host!r} is not in ALLOWED_HOSTS", f"Add {host} to ALLOWED_HOSTS.")
    else:
        yield passed("hosts", ", ".join(settings.ALLOWED_HOSTS))


def _plain_hosts() -> list[str]:
    return [name.strip("[]") for name in settings.ALLOWED_HOSTS]


def https() -> Iterator[Line]:
    if settings.DEVELOPMENT:
        yield not_here("https", DEVELOPMENT)
        return
    wrong = [] if settings.PUBLIC_URL.startswith("https://") else [f"PUBLIC_URL is {settings.PUBLIC_URL}"]
    wrong += [
        f"{name} is off"
        for name in ("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")
        if not getattr(settings, name, False)
    ]
    if wrong:
        yield failed(
            "https", "; ".join(wrong), "Serve it by HTTPS, set PUBLIC_URL to it, and use config.settings.prod."
        )
    else:
        yield passed("https", f"{settings.PUBLIC_URL}, cookies by HTTPS only")


def secret_key() -> Iterator[Line]:
    key = str(settings.SECRET_KEY)
    if settings.DEVELOPMENT:
        yield not_here("secret key", DEVELOPMENT)
    elif key.startswith(("development-only", "django-insecure")):
        yield failed("secret key", "it is the one that stands in the code", _new_key())
    elif len(key) < SECRET_MIN or len(set(key)) < SECRET_LETTERS_MIN:
        yield failed("secret key", f"shorter than {SECRET_MIN} characters, or hardly random", _new_key())
    else:
        yield passed("secret key", "set, long, and not the one of development")


def _new_key() -> str:
    return "Set SECRET_KEY_FILE to a file of your own: python3 -c 'import secrets; print(secrets.token_urlsafe(64))'"


def second_factor() -> Iterator[Line]:
    if settings.STEP_UP:
        yield passed("second factor", f"approving high risk takes one of the last {settings.STEP_UP_FRESH_S} seconds")
    elif settings.DEVELOPMENT:
        yield not_here("second factor", DEVELOPMENT)
    else:
        yield failed("second factor", "STEP_UP is off: a stolen session approves anything", "Set STEP_UP=true.")


def switches() -> Iterator[Line]:
    """What opens doors for development."""
    names = ("ALLOW_LOCAL_REPOSITORIES", "ALLOW_LOCAL_WEBHOOKS", "MAILBOX_ENABLED", "LLM_SCRIPTED")
    on = [name for name in names if getattr(settings, name)]
    if settings.DEVELOPMENT:
        yield not_here("development switches", DEVELOPMENT)
    elif on:
        yield failed("development switches", f"on: {', '.join(on)}", f"Turn off {', '.join(on)}.")
    else:
        yield passed("development switches", "all off")


def system_checks() -> Iterator[Line]:
    """Django's own, and ours."""
    found = [one for one in checks.run_checks(include_deployment_checks=not settings.DEVELOPMENT) if _counts(one)]
    if not found:
        yield passed("system checks", "nothing to say")
    for one in found:
        said = f"{one.id}: {str(one.msg).strip().splitlines()[0]}"
        yield failed("system checks", said, str(one.hint or "See manage.py check --deploy.").splitlines()[0])


def _counts(message: checks.CheckMessage) -> bool:
    return message.level >= WARNING and not message.is_silenced()


def signing_key() -> Iterator[Line]:
    """The key that signs checkpoints is its owner's alone."""
    folder = Path(settings.AUDIT_KEY_DIR)
    if not folder.exists():
        yield not_here("signing key", f"{folder} is not on this host")
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield passed("signing key", f"{folder} is closed to this user")
        return
    loose = [path for path in (folder, *sorted(folder.iterdir())) if _open_to_others(path)]
    if loose:
        modes = ", ".join(f"{path} (mode {stat.S_IMODE(path.stat().st_mode):04o})" for path in loose)
        yield failed("signing key", f"others may read {modes}", f"chmod go= {' '.join(map(str, loose))}")
    else:
        yield passed("signing key", f"{folder} and what is in it is its owner's alone")


def _open_to_others(path: Path) -> bool:
    public = path.suffix in {".vkey", ".pub", ".json", ".lock"}  # or state without secrets
    return not public and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def disk() -> Iterator[Line]:
    """Room where the server writes."""
    folders = {Path(getattr(settings, name)) for name in ("DATA_DIR", "WORKSPACE_DIR", "ARCHIVE_DIR")}
    looked = False
    for folder in sorted(folders):
        if not folder.is_dir():
            continue
        looked = True
        usage = shutil.disk_usage(folder)
        free = f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.1f} GiB free for {folder}"
        if usage.free < FREE_MIN or usage.free < FREE_SHARE_MIN * usage.total:
            yield failed(
                "disk", free, "Make room: archive old jobs (docs/howto/archiving.md), or give it a larger disk."
            )
        else:
            yield passed("disk", free)
    if not looked:
        yield not_here("disk", "none of its folders is on this host")


def web_server() -> Iterator[Line]:
    """As browsers reach it, with the certificate that they see."""
    address = f"{settings.PUBLIC_URL}/healthz"
    try:
        with httpx2.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            status = client.get(address).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        yield failed(
            "web server", f"{address}: {type(error).__name__}: {error}"[:300], "Start it, and check PUBLIC_URL."
        )
        return
    if status == 200:
        yield passed("web server", f"{address} answers 200")
    else:
        yield failed("web server", f"{address} answers {status}", "Look at the log of the web server and of its proxy.")
