"""Readers of environment variables that fail loudly.

Each variable may also be given as a file: with `NAME_FILE=/run/secrets/name` the value is read from there.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# libpq's: a server that cannot be reached is noticed within about twenty seconds, idle or in mid-statement
_NOTICES_A_CUT_NETWORK = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds
}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def text(name: str, default: str | None = None) -> str:
    """The value of `name`, or of the file named by `name_FILE`.

    Raises:
        ImproperlyConfigured: neither is set and there is no default, both are set, or the file cannot be read.
    """
    value, path = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value is not None and path:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE, not both.")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE: cannot read {path}: {error.strerror}.") from None
    if value is not None:
        return value
    if default is None:
        raise ImproperlyConfigured(f"{name} is not set (or {name}_FILE).")
    return default


def boolean(name: str, default: bool = False) -> bool:
    value = text(name, "true" if default else "false").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")


def integer(name: str, default: int | None = None) -> int:
    value = text(name, None if default is None else str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list; blanks are dropped."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def pairs(name: str, default: str = "") -> dict[str, str]:
    """`a=b,c=d` as a mapping. Raises ImproperlyConfigured where a part has no `=`."""
    parts = [part.partition("=") for part in words(name, default)]
    if not all(key.strip() and sign for key, sign, _ in parts):
        raise ImproperlyConfigured(f"{name} must be pairs such as a=b,c=d.")
    return {key.strip(): value.strip() for key, _, value in parts}


def database(name: str, default: str | None = None) -> dict[str, object]:
    """A Django `DATABASES` entry from `postgresql://user:password@host:port/name`.

    A socket directory may stand as `?host=/path`, as libpq writes it.
    """
    url = urlsplit(text(name, default))
    if url.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"{name} must start with postgresql://, since Countersign needs PostgreSQL.")
    query = dict(pair.split("=", 1) for pair in url.query.split("&") if "=" in pair)
    database_name = unquote(url.path.lstrip("/"))
    if not database_name:
        raise ImproperlyConfigured(f"{name} names no database: postgresql://user:password@host:port/NAME.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database_name,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": unquote(query.pop("host", "")) or (url.hostname or ""),
        "PORT": str(url.port or ""),
        "OPTIONS": {**_NOTICES_A_CUT_NETWORK, **{key: unquote(value) for key, value in query.items()}},
    }
