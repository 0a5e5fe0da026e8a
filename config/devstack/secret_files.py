"""Secrets that are made once and kept in files that only their owner reads (mode 0600, in a folder of mode 0700)."""

import os
import secrets
from pathlib import Path

from config.devstack.errors import StackError


class SecretFiles:
    """`folder`/secrets/NAME, one secret a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "secrets"

    def path(self, name: str) -> Path:
        return self.folder / name

    def get(self, name: str, *, size_bytes: int = 18) -> str:
        """The secret, made at the first call.

        Raises:
            StackError: it cannot be read or written.
        """
        path = self.path(name)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists():
                value = path.read_text(encoding="utf-8").strip()
                if value:
                    return value
            return self._make(path, size_bytes)
        except OSError as error:
            raise StackError(f"{path}: {error.strerror}.") from None

    def _make(self, path: Path, size_bytes: int) -> str:
        value = secrets.token_urlsafe(size_bytes)
        # written whole under another name: a reader sees the old state or the new one
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value + "\n")
        partial.rename(path)
        return value
