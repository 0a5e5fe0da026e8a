"""Writes the pages of docs/reference that follow from the code: settings, commands, tools.

    .venv/bin/python docs/generate.py           writes them
    .venv/bin/python docs/generate.py --check   exit code 1 where a page is out of date, and says which

Needs no server: nothing is read but the code.
"""

import argparse
import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
NOTE = "<!-- Written by docs/generate.py from the code. Do not edit. -->\n"
APPS = ("agents", "approvals", "audit", "config", "tools")
READERS = {"text": "text", "boolean": "true or false", "integer": "whole number", "words": "list, comma between",
           "pairs": "pairs `a=b`, comma between", "database": "PostgreSQL URL"}  # fmt: skip

# What each variable means. `settings_page` refuses to run where one is missing here, or is not in the code any more.
MEANINGS: dict[str, dict[str, str]] = {
    "Where the server is": {
        "DJANGO_SETTINGS_MODULE": "Which settings: `config.settings.prod` in production. Without it `manage.py` and "
        "Celery use `config.settings.dev`, and the web server `config.settings.prod`.",
        "SECRET_KEY": "Signs sessions, and derives the key that endorses writers of the audit log. Keep it, and keep "
        "it secret.",
        "SECRET_KEY_FALLBACKS": "Keys that were `SECRET_KEY` before: sessions and second factors from their time still hold.",
        "PUBLIC_URL": "The address in people's browsers; links in mails start with it.",
        "ALLOWED_HOSTS": "Host names that the web server answers to.",
        "CSRF_TRUSTED_ORIGINS": "Further origins (`https://…`) that forms may come from.",
        "STEP_UP": "Approving what is of high risk, or what a rule says so of, takes a fresh second factor.",
        "STEP_UP_FRESH_S": "How many seconds ago it may have been given.",
        "GLASS_REVIEW_S": "Seconds until an approval in an emergency must have been reviewed.",
        "SECURE_SSL_REDIRECT": "Sends plain HTTP to HTTPS (all but `/healthz`).",
        "SECURE_HSTS_SECONDS": "How long browsers insist on HTTPS.",
        "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR.",
        "LOG_FORMAT": "`json` (a line an event) or `plain`.",
    },
    "Data": {
        "DATABASE_URL": "`postgresql://user:password@host:port/name`; a socket's folder as `?host=/path`.",
        "DATABASE_OWNER_URL": "For `bin/up` with a database of your own: the role that owns the tables and migrates, "
        "where `DATABASE_URL` names the role that does not.",
        "DATABASE_POOL_MAX": "Connections that one web process shares among its requests.",
        "REDIS_URL": "Redis or Valkey: messages and wake-ups, nothing that cannot be lost.",
        "BROKER_URL": "The broker of the steps' messages where it is not REDIS_URL: `amqp://user:password@host:5672//` for RabbitMQ.",
        "COUNTERSIGN_DATA_DIR": "Keys, the broker's copies of repositories, checkpoints. `bin/up` may choose another "
        "folder for root, and says so.",
        "COUNTERSIGN_ARCHIVE_DIR": "The logs of old jobs, a compressed file a day. Where several hosts serve pages, a "
        "folder that all of them share.",
        "ARCHIVE_AFTER_DAYS": "Days after its end until a job's log moves into the archive, by night; 0: never by "
        "itself.",
        "COUNTERSIGN_WORKSPACE_DIR": "A folder a job. The sandbox's user must be able to reach it.",
        "WORKSPACE_SNAPSHOTS": "How many snapshots of a workspace are kept, for forks; 0: none.",
        "WORKSPACE_SNAPSHOT_MB": "MiB that the snapshots of one workspace may take together.",
        "WORKSPACE_QUOTA_MB": "MiB on disk that one workspace may hold (snapshots apart); 0: no bound.",
        "WORKSPACE_QUOTA_FILES": "Files and folders that one workspace may hold; 0: no bound.",
        "WORKSPACES_TOTAL_MB": "MiB that all workspaces on one host may hold together; 0: no bound.",
        "WORKSPACE_DISK_FREE_MB": "MiB of the workspaces' disk that no step may take; 0: none.",
        "WORKSPACE_KEEP_HOURS": "Hours for which a job's workspace outlives it; forks and retries need it.",
        "COUNTERSIGN_ARTIFACT_DIR": "Files that jobs keep, by their SHA-256. Where several hosts serve pages or work, "
        "a folder that all of them share.",
        "ARTIFACT_MAX_MB": "MiB of one artifact.",
        "ARTIFACTS_JOB_MB": "MiB of one job's artifacts together.",
        "ARTIFACTS_JOB_COUNT": "How many artifacts one job may keep.",
        "ARTIFACTS_TOTAL_MB": "MiB of all artifacts together: beyond it the oldest are purged; 0: no bound.",
        "ARTIFACT_KEEP_DAYS": "Days for which an artifact is kept; 0: until room is needed.",
        "POD_ENGINE": "`docker` or `kubernetes`: commands run in its containers (tier `pod`). Empty: in namespaces of "
        "the server's own.",
        "POD_PROGRAM": "The engine's client, by name or whole path; `docker` or `kubectl` where it is empty.",
        "POD_IMAGE": "The image that commands run in; it has their programs, and is pulled beforehand.",
        "POD_RUNTIME": "The container runtime: `runsc` for gVisor (Kubernetes: a runtimeClassName).",
        "POD_NAMESPACE": "The Kubernetes namespace that pods are made in.",
        "POD_VOLUME_CLAIM": "The Kubernetes volume claim that holds COUNTERSIGN_WORKSPACE_DIR.",
        "POD_FOLDERS": "Where the engine finds our folders, should it see other paths: `/data/workspaces=/srv/workspaces`.",
    },
    "Signing in": {
        "OIDC_ISSUER": "The company's OpenID Connect provider, as it names itself: `https://login.example.com`. Empty: "
        "none. See [Sign in](../howto/sign-in.md).",
        "OIDC_CLIENT_ID": "What the provider calls this server.",
        "OIDC_CLIENT_SECRET": "Its secret there.",
        "OIDC_NAME": "What the button on the sign-in page says.",
        "OIDC_SCOPES": "Scopes that are asked for.",
        "OIDC_SIGN_UP": "Somebody whom the provider knows and this server does not becomes a user, without any rights.",
        "OIDC_GROUPS_CLAIM": "The claim that lists a person's groups at the provider. Empty: groups are kept here alone.",
        "OIDC_GROUPS": "Which of those are groups here: `their-name=our-name`.",
    },
    "The model": {
        "OPENAI_BASE_URL": "An OpenAI-compatible endpoint.",
        "OPENAI_API_KEY": "Its key.",
        "LLM_MODEL": "The model's name, for agents that name none.",
        "LLM_TIMEOUT_S": "Seconds for one answer of the model.",
        "MEMORY_ROUTE": "The model route whose endpoint makes the vectors of memories: all of them by one model, whichever "
        "agent asks. Empty: the agent's route.",
        "LLM_SCRIPTED": "Marks the model as scripted in every page. `bin/up` sets it where it starts the stand-in.",
    },
    "Mail and Slack": {
        "EMAIL_HOST": "SMTP server. In development without it, mails go to the mailbox page.",
        "EMAIL_PORT": "Its port.",
        "EMAIL_HOST_USER": "Login, where it asks for one.",
        "EMAIL_HOST_PASSWORD": "Password.",
        "EMAIL_USE_TLS": "STARTTLS. On by itself for port 587.",
        "EMAIL_USE_SSL": "TLS from the first byte. On by itself for port 465.",
        "EMAIL_FROM": "Sender of mails.",
        "SLACK_WEBHOOK_URL": "An incoming webhook: each request is posted there. Not needed where the app's bot posts.",
        "SLACK_BOT_TOKEN": "The Slack app's bot token (`xoxb-…`): messages with buttons, changed in place.",
        "SLACK_SIGNING_SECRET": "The app's signing secret, which proves that a press came from Slack.",
        "SLACK_CHANNEL": "The id of the conversation that the app posts to.",
        "SLACK_API_URL": "Slack's Web API, or a server that speaks it.",
        "APPROVAL_CHANNELS": "The ways to reach people about approvals, as dotted paths of classes.",
        "APPROVAL_DENIALS_PAUSE": "After so many denials of its calls a job is paused, and again after as many more; 0: never.",
        "APPROVAL_WEBHOOK_URL": "A service of your own that is told of requests and outcomes.",
        "APPROVAL_WEBHOOK_SECRET": "What those messages are signed with (`whsec_…`, Standard Webhooks).",
    },
    "Policies": {
        "POLICY_SECOND_PERSON": "Publishing takes two people: one proposes a draft, another publishes exactly that. On in "
        "production, off in development.",
        "POLICY_BACKTEST_DAYS": "A draft must be tried on the decisions of so many days before it is published; 0: not "
        "asked for.",
        "POLICY_SHADOW_DAYS": "After so many days a draft's shadow ends by itself.",
    },
    "Repositories and sandbox": {
        "ALLOW_LOCAL_REPOSITORIES": "Also repositories by path or `file://`. On in development, off in production.",
        "ALLOW_LOCAL_WEBHOOKS": "Outgoing webhooks also to `http://` and to addresses that are not on the public internet. "
        "On in development, off in production.",
        "EGRESS_EXCEPTIONS": "Addresses that calls may reach although they are not of the public internet, such as a "
        "company's package mirror: `10.1.2.3:443`, `10.8.0.0/16`. The host must be allowed as well.",
        "GIT_HOSTS": "Hosts that git may go to (`git.example.org`, `*.example.org`, `host:8443`, comma-separated). Empty: where this server's repositories are, and what a rule's network constraint names.",
        "GIT_CREDENTIALS_FILE": "Path of a file with logins for https remotes. A path, never the contents.",
        "SECRETS_DIR": "Files whose contents agents may use by handles, a secret each "
        "([how to](../howto/secrets.md)). Only the workers' user reads it.",
        "GIT_IDENTITY": "Author and committer of the agents' commits.",
        "SANDBOX_TIER": "Forces `bwrap`, `ns`, `ll` or `pod` instead of the best that works.",
    },
    "Engine": {
        "JOBS_QUEUED_MAX_PER_USER": "The same for one user; 0: no bound. A tenant's own bound stands in its row.",
        "RELEASE_WINDOW": "Messages that may lie in a broker's queue for each thread that consumes it; further steps wait "
        "in the database and are released in the fair order. 0: no bound, and no order.",
        "RELEASE_AGEING_S": "Seconds of waiting that count as one priority better.",
        "JOBS_QUEUED_MAX": "Jobs that may be open at once; further ones are refused with 429.",
        "LLM_THREADS": "Model calls that one `llm` worker holds at a time.",
        "LLM_DATABASE_POOL_MAX": "Database connections that they share; a call needs one for moments only.",
        "STEP_LEASE_S": "Seconds without a sign of life after which a worker counts as dead.",
        "STEPS_PER_TASK": "Plain steps of one job that a worker may run one after the other in one Celery task, for a"
        " second at most. 1: each step is a task of its own, as Flower shows them.",
        "STEP_REPUBLISH_AFTER_S": "Seconds until a message that nobody took is sent again.",
        "POISON_LOSSES": "After so many workers were lost with one step it is quarantined.",
        "CANARY_EVERY_S": "Seconds between the small messages that show that each queue is consumed; 0: no watchdog.",
        "CANARY_LIMIT_S": "A worker with a free thread that took none of them for so long is told to restart.",
        "WORKER_DRAIN_S": "What a stopping worker gives its running steps to end; what runs then is handed back.",
        "COUNTERSIGN_WORKER_GROUP": "Set for each worker process: its group's name (`llm`, `shell`, `git`, "
        "`mcp`, `control`), as the dashboard shows it.",
    },
    "Limits of the API": {
        "API_RATE_ANONYMOUS": "Requests a minute from one address without a login; 0: no bound. Beyond it the answer is "
        "429 with `Retry-After`.",
        "API_RATE_USER": "The same for one signed-in user.",
        "API_RATE_TOKEN": "The same for one token.",
    },
    "Audit log": {
        "AUDIT_KEY_DIR": "The checkpoint key and the signer's memory. For the sequencer's user alone.",
        "AUDIT_PUBLISH_DIR": "Where checkpoints are published, for copying elsewhere.",
        "AUDIT_ORIGIN": "The log's name in its checkpoints, chosen once.",
        "AUDIT_PUBLISH_TO": "Places outside that checkpoints are sent to: `git:…`, `s3+https://…`, `mailto:…`, `https://…`, "
        "`file:///…` (`docs/howto/audit-publishing.md`).",
        "AUDIT_PUBLISH_EVERY_S": "Seconds between two checkpoints for one such place; for mail a day.",
        "AUDIT_S3_ACCESS_KEY": "The access key of the bucket in AUDIT_PUBLISH_TO.",
        "AUDIT_S3_SECRET_KEY": "Its secret.",
        "AUDIT_WITNESS_POLICY": "Path of a C2SP tlog-policy file: the witnesses that are asked to cosign checkpoints, and "
        "how many must have (`docs/howto/audit-witnesses.md`).",
        "AUDIT_WITNESS_EVERY_S": "Seconds between two rounds of asking them.",
        "AUDIT_WITNESS_DIR": "For `manage.py audit_witness`: the key and the state of a witness.",
    },
    "Flower": {
        "FLOWER_URL": "Where Flower listens (`http://127.0.0.1:5555`); shown to staff under `/flower/`.",
        "FLOWER_BASIC_AUTH": "`user:password`, the same for Flower and the web server.",
    },
    "Setting up and testing": {
        "ADMIN_PASSWORD": "For `manage.py seed`: the password of a new administrator.",
        "CHROMIUM": "For `bin/test`: the browser, where none is found on `PATH`.",
    },
}  # fmt: skip
# Read from the environment, and no setting of ours.
FOREIGN = {"PATH", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """default: as code, or None where there is none; kind: one of READERS' values."""

    name: str
    default: str | None
    kind: str
    module: str


def main() -> int:
    """Exit code: 0 all pages are as the code says, 1 with --check one is not."""
    parser = argparse.ArgumentParser(description="Writes docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    check = parser.parse_args().check
    stale = []
    made = pages()
    for path in (PAGES / "tools").glob("*.md"):
        if f"tools/{path.name}" not in made:  # a tool that is gone
            stale.append(f"tools/{path.name}")
            if not check:
                path.unlink()
    for name, text in made.items():
        path = PAGES / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"Out of date: {', '.join(stale)}. Run .venv/bin/python docs/generate.py.", file=sys.stderr)
        return 1
    return 0


def pages() -> dict[str, str]:
    """File name -> text."""
    sys.path.insert(0, str(ROOT))
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.test"
    import django  # after the path and the settings are known

    django.setup()
    import toolpages  # beside this file

    tools = toolpages.pages(NOTE)
    return {"settings.md": settings_page(), "commands.md": commands_page(), **tools}


# settings


def settings_page() -> str:
    """Raises SystemExit where MEANINGS and the code disagree."""
    found = variables()
    explained = {name for group in MEANINGS.values() for name in group}
    if missing := sorted(set(found) - explained - FOREIGN):
        raise SystemExit(f"docs/generate.py: MEANINGS lacks {', '.join(missing)}.")
    if gone := sorted(explained - set(found)):
        raise SystemExit(f"docs/generate.py: nothing in the code reads {', '.join(gone)}.")
    text = NOTE + (
        "# Settings\n\n"
        "Settings come from environment variables. A variable `NAME` that the table marks with † may also be given as a "
        "file: `NAME_FILE=/run/secrets/name`; giving both is an error. The settings modules are "
        "`config.settings.dev` (what `bin/up` runs), `config.settings.prod` and `config.settings.test`.\n\n"
        "Beside a stack that `bin/up` started, `manage.py` takes that stack's values from `environment.json` in the data "
        "folder, unless the shell gives others.\n"
    )
    for title, group in MEANINGS.items():
        text += f"\n## {title}\n\n| Variable | Default | What it is |\n|---|---|---|\n"
        for name, meaning in group.items():
            ways = found[name]
            mark = " †" if any(way.kind for way in ways) else ""
            text += f"| `{name}`{mark} | {_defaults(ways)} | {_kind(ways)}{_cell(meaning)} |\n"
    return text


def variables() -> dict[str, list[Variable]]:
    """Every environment variable that the code reads, with each place's default."""
    found: dict[str, list[Variable]] = {}
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for one in _reads(ast.parse(path.read_text(encoding="utf-8")), module):
                found.setdefault(one.name, []).append(one)
    found["DJANGO_SETTINGS_MODULE"] = []
    return found


def _reads(tree: ast.AST, module: str) -> Iterator[Variable]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        called, first = node.func, node.args[0]
        if (
            not isinstance(first, ast.Constant)
            or not isinstance(first.value, str)
            or first.value.endswith("_FILE_FILE")
        ):
            continue
        owner = ast.unparse(called.value)
        default = ast.unparse(node.args[1]) if len(node.args) > 1 else None
        if owner == "env" and called.attr in READERS:
            yield Variable(name=first.value, default=default, kind=READERS[called.attr], module=module)
        elif owner in {"os.environ", "environ"} and called.attr == "get" and not first.value.endswith("_FILE"):
            yield Variable(name=first.value, default=default or "''", kind="", module=module)


def _defaults(ways: list[Variable]) -> str:
    by_module = {way.module: way for way in ways if way.module.startswith("config.settings.")}
    base = by_module.get("config.settings.base")
    said = [_default(base)] if base is not None else []
    if not by_module:
        said += sorted({_default(way) for way in ways})
    for module, word in (("config.settings.dev", "development"), ("config.settings.prod", "production")):
        way = by_module.get(module)
        if way is not None and (base is None or way.default != base.default):
            said.append(f"{_default(way)} in {word}")
    return "; ".join(said)


def _default(way: Variable) -> str:
    if way.default is None:
        return "none: must be given" if way.kind != READERS["words"] or way.module.endswith("prod") else "empty"
    plain = way.default.strip("'\"")
    known = {
        "": "empty",
        "str(BASE_DIR / '.data')": "`.data`",
        "str(DATA_DIR / 'workspaces')": "`workspaces` in the data folder",
        "str(DATA_DIR / 'audit-keys')": "`audit-keys` in the data folder",
        "str(DATA_DIR / 'audit-log')": "`audit-log` in the data folder",
        "bool(EMAIL_HOST) and EMAIL_PORT == 587": "by the port",
        "EMAIL_PORT == 465": "by the port",
        "development-only-not-a-secret-0123456789abcdef0123456789": "a fixed text that is no secret",
    }
    return (
        known.get(way.default)
        or known.get(plain)
        or f"`{_cell(plain.lower() if plain in {'True', 'False'} else plain)}`"
    )


def _kind(ways: list[Variable]) -> str:
    kinds = {way.kind for way in ways} - {"", READERS["text"], READERS["database"]}
    return "".join(f"({kind}) " for kind in sorted(kinds))


# commands


def commands_page() -> str:
    """Every command of our own apps, with its arguments, as argparse knows them."""
    from django.core.management import get_commands, load_command_class

    text = NOTE + (
        "# Commands\n\n"
        "`bin/up`, `bin/down`, `bin/test` and `bin/manage` stand in the repository's folder; each has `--help`. The "
        "others are Django's: `bin/manage NAME`, or `.venv/bin/python manage.py NAME`. Beside a stack that `bin/up` "
        "started they talk to that stack; with `--data-dir` set `COUNTERSIGN_DATA_DIR` to the same folder.\n\n"
        "| | |\n|---|---|\n"
        "| `bin/up` | Sets up `.venv`, starts everything for development. Options as `manage.py up` below. |\n"
        "| `bin/down [--data-dir DIR]` | Stops what `bin/up --detach` started. |\n"
        "| `bin/test` | Every check and test; `--checks` the checks alone; `PATH …` goes to pytest. |\n"
        "| `bin/manage NAME …` | A command below, in the right environment. |\n"
    )
    for name, app in sorted(get_commands().items()):
        if app not in APPS:
            continue
        command = load_command_class(str(app), name)
        parser = command.create_parser("manage.py", name)
        text += f"\n## {name}\n\n{command.help}\n" + _arguments(parser, inherited=_inherited())
    return text


def _inherited() -> set[str]:
    from django.core.management.base import BaseCommand

    return {action.dest for action in BaseCommand().create_parser("manage.py", "x")._actions}


def _arguments(parser: argparse.ArgumentParser, *, inherited: set[str], prefix: str = "") -> str:
    rows, nested = "", ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                nested += f"\n`{prefix}{name}`: {helps.get(name, '')}\n"
                nested += _arguments(sub, inherited=inherited, prefix=f"{prefix}{name} ")
        elif action.dest not in inherited:
            rows += f"| {_written(action)} | {_cell(_meaning(action))} |\n"
    return (f"\n| Argument | |\n|---|---|\n{rows}" if rows else "") + nested


def _written(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    value = ""
    if action.nargs != 0:
        shown = action.metavar or (
            ("{" + ",".join(map(str, action.choices)) + "}") if action.choices else action.dest.upper()
        )
        value = str(shown)
    optional = not action.option_strings and action.nargs == "?"
    written = f"{names} {value}".strip() if names else value
    return f"`[{written}]`" if optional else f"`{written}`"


def _meaning(action: argparse.Action) -> str:
    words = (action.help or "").replace("%(default)s", str(action.default))
    required = "required" if action.option_strings and action.required else ""
    return "; ".join(part for part in (words, required) if part)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
