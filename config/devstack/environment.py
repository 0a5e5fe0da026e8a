"""The environment that the stack gives to its processes, and to whoever types `manage.py …` beside it.

It is kept in `<data folder>/environment.json` (mode 0600), so that in another shell `manage.py watch` finds the same
database. What the caller's own environment says always wins.
"""

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from config.devstack.errors import StackError
from config.devstack.places import data_folder

SCRIPTED_MODEL = "scripted-demo"
_NAME = "environment.json"
_ADOPTED = "COUNTERSIGN_ADOPTED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the caller's environment brings along; the stack starts the rest."""

    database: bool
    redis: bool
    model: bool

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Given":
        """Raises StackError where settings that belong together are half given."""
        given = cls(
            database=_has(environ, "DATABASE_URL"),
            redis=_has(environ, "REDIS_URL"),
            model=_has(environ, "OPENAI_API_KEY") or _has(environ, "OPENAI_BASE_URL"),
        )
        if _has(environ, "OPENAI_BASE_URL") and not _has(environ, "LLM_MODEL"):
            raise StackError("LLM_MODEL is not set: name the model that OPENAI_BASE_URL serves.")
        if _has(environ, "EMAIL_HOST_USER") and not _has(environ, "EMAIL_HOST"):
            raise StackError("EMAIL_HOST is not set, but EMAIL_HOST_USER is.")
        if _has(environ, "EMAIL_HOST_USER") and not _has(environ, "EMAIL_HOST_PASSWORD"):
            raise StackError("EMAIL_HOST_PASSWORD is not set, but EMAIL_HOST_USER is.")
        if _has(environ, "EMAIL_HOST") and not _has(environ, "EMAIL_FROM"):
            raise StackError("EMAIL_FROM is not set: mails through EMAIL_HOST need a sender.")
        return given


def write(folder: Path, values: Mapping[str, str]) -> None:
    partial = folder / f".{_NAME}.{os.getpid()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(dict(values), file, indent=1)
    partial.rename(folder / _NAME)


def adopt(environ: MutableMapping[str, str]) -> None:
    """Takes the environment of the stack that was last started here, unless `environ` names a database itself."""
    if _has(environ, "DATABASE_URL"):
        return
    folder, _ = data_folder(environ.get("COUNTERSIGN_DATA_DIR"))
    try:
        values = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    adopted = [name for name in values if not _has(environ, name)]
    environ.update({name: values[name] for name in adopted})
    environ[_ADOPTED] = ",".join(adopted)


def disown(environ: MutableMapping[str, str]) -> None:
    """Takes out again what `adopt` put in, for a new stack: those servers are gone."""
    for name in environ.pop(_ADOPTED, "").split(","):
        environ.pop(name, None)


def _has(environ: Mapping[str, str], name: str) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))
