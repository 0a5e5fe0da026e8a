"""Secret handles, and files that hold their values."""

from pathlib import Path
from typing import Any

from tools.models import SecretHandle

VALUE = "s3cr3t/Value+with=signs & more"


def a_handle(folder: Path, name: str = "deploy-token", *, value: str = VALUE, **more: Any) -> SecretHandle:
    """A handle that everybody may use for everything, but for what `more` says, with its file in `folder`."""
    (folder / name).write_text(value + "\n")
    (folder / name).chmod(0o600)
    fields = {
        "tools": ["*"],
        "agents": ["*"],
        "groups": ["*"],
        "hosts": ["api.example.org"],
        "env_names": ["TOKEN"],
        "place": name,
        **more,
    }
    handle = SecretHandle(name=name, **fields)
    handle.full_clean()
    handle.save()
    return handle
