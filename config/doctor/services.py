"""The services around: Redis, the model, mail, Slack, Flower. Nothing is sent to anybody."""

import base64
import smtplib
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import redis
from django.conf import settings

from approvals.errors import ChannelError
from approvals.slack import api
from config.doctor.finding import Finding, fail, ok, warn
from config.health import check_redis

TIMEOUT_S = 5.0


def redis_server() -> Iterator[Finding]:
    try:
        check_redis()
    except redis.RedisError as error:
        yield fail(
            "redis", f"{type(error).__name__}: {error}"[:200], "Start Redis and check REDIS_URL (bin/up brings one)."
        )
        return
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=TIMEOUT_S, decode_responses=True)
    try:
        version = client.info("server").get("redis_version", "?")
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "?")
    except redis.ResponseError:  # managed services refuse CONFIG
        version, policy = "?", "noeviction"
    finally:
        client.close()
    if policy == "noeviction":
        yield ok("redis", f"{version} at {urlsplit(settings.REDIS_URL).hostname}")
    else:
        yield warn("redis", f"{version}, maxmemory-policy {policy}: messages may be dropped", "Set noeviction.")


def model() -> Iterator[Finding]:
    """Asks for the list of models, which costs nothing."""
    where = f"{settings.LLM_MODEL} at {settings.LLM_BASE_URL}"
    if not settings.LLM_API_KEY and urlsplit(settings.LLM_BASE_URL).hostname == "api.openai.com":
        yield warn("model", "no key", "Set OPENAI_API_KEY, or OPENAI_BASE_URL for an endpoint of your own.")
        return
    headers = {"Authorization": f"Bearer {settings.LLM_API_KEY or 'none'}"}
    try:
        with httpx2.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            answer = client.get(f"{settings.LLM_BASE_URL.rstrip('/')}/models", headers=headers)
        known = _model_ids(answer) if answer.status_code == 200 else None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        yield fail("model", f"{where}: {type(error).__name__}: {error}"[:300], "Check OPENAI_BASE_URL and the network.")
        return
    if answer.status_code in {401, 403}:
        yield fail("model", f"{where} refuses the key (HTTP {answer.status_code})", "Check OPENAI_API_KEY.")
    elif known is None:
        yield warn(
            "model",
            f"{where} answers /models with HTTP {answer.status_code}",
            "Some endpoints lack /models; try a job.",
        )
    elif known and settings.LLM_MODEL not in known:
        yield warn("model", f"{settings.LLM_MODEL} is not among {', '.join(sorted(known)[:8])}", "Check LLM_MODEL.")
    elif settings.LLM_SCRIPTED:
        yield warn("model", f"{where}: SCRIPTED, it plays the demo only", "Set OPENAI_API_KEY for a real model.")
    else:
        yield ok("model", where)


def _model_ids(answer: httpx2.Response) -> set[str] | None:
    try:
        return {str(entry["id"]) for entry in answer.json()["data"]}
    except (ValueError, KeyError, TypeError):
        return None


def mail() -> Iterator[Finding]:
    """Connects and signs in where mail is configured; sends nothing."""
    if not settings.EMAIL_HOST:
        if settings.MAILBOX_ENABLED:
            yield ok("mail", "kept in the mailbox page (development)")
        else:
            yield warn("mail", "EMAIL_HOST is not set, so approvers get no mail", "Set EMAIL_HOST and EMAIL_FROM.")
        return
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    kind = smtplib.SMTP_SSL if settings.EMAIL_USE_SSL else smtplib.SMTP
    try:
        with kind(settings.EMAIL_HOST, settings.EMAIL_PORT, timeout=TIMEOUT_S) as server:
            if settings.EMAIL_USE_TLS:
                server.starttls()
            if settings.EMAIL_HOST_USER:
                server.login(settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD)
            server.noop()
    except (OSError, smtplib.SMTPException) as error:
        yield fail(
            "mail", f"{where}: {type(error).__name__}: {error}"[:300], "Check EMAIL_HOST, EMAIL_PORT and the login."
        )
    else:
        yield ok("mail", f"{where} as {settings.DEFAULT_FROM_EMAIL}")


def slack() -> Iterator[Finding]:
    """The app's bot signs in, which posts nothing. Of an incoming webhook the address alone is looked at: a request to
    it would be a message."""
    if settings.SLACK_BOT_TOKEN:
        yield from _bot()
    elif not settings.SLACK_WEBHOOK_URL:
        yield ok("slack", "not configured (SLACK_BOT_TOKEN or SLACK_WEBHOOK_URL)")
    elif urlsplit(settings.SLACK_WEBHOOK_URL).scheme != "https":
        yield warn("slack", "SLACK_WEBHOOK_URL is not https", "Use the webhook's https address.")
    else:
        yield ok("slack", f"posts to {urlsplit(settings.SLACK_WEBHOOK_URL).hostname}")


def _bot() -> Iterator[Finding]:
    try:
        who = api.ask("auth.test", {}, timeout_s=TIMEOUT_S)
    except ChannelError as error:
        yield fail("slack", error.message, "Check SLACK_BOT_TOKEN and the way out to Slack.")
        return
    if not settings.SLACK_CHANNEL:
        yield fail("slack", "SLACK_CHANNEL is not set", "Set it to the id of the conversation to post to.")
    else:
        yield ok("slack", f"posts to {settings.SLACK_CHANNEL} in {who.get('team')} as {who.get('user')}")


def flower() -> Iterator[Finding]:
    if not settings.FLOWER_URL:
        yield ok("flower", "not configured (FLOWER_URL); nothing needs it")
        return
    advice = "Start it (bin/up, or deploy/systemd); nothing else needs it."
    login = base64.b64encode(settings.FLOWER_BASIC_AUTH.encode()).decode("ascii")
    try:
        with httpx2.Client(trust_env=False, timeout=TIMEOUT_S) as client:
            url = f"{settings.FLOWER_URL.rstrip('/')}/flower/api/task/types"
            refused = client.get(url).status_code
            answer = client.get(url, headers={"Authorization": f"Basic {login}"})
    except httpx2.HTTPError as error:
        yield warn("flower", f"{type(error).__name__} at {settings.FLOWER_URL}", advice)
        return
    if refused == 200:
        yield fail("flower", "answers without a password", "Set FLOWER_BASIC_AUTH for Flower and for the web server.")
    elif answer.status_code == 401:
        yield fail("flower", "refuses the password", "Give Flower and the web server the same FLOWER_BASIC_AUTH.")
    else:
        yield ok("flower", "answers, behind its password")
