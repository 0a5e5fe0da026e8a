"""Secrets that agents use without seeing them: a call names a handle, its value is looked up at the moment of use.

    from tools.secrets import resolve
    token = resolve("deploy-token", tool="http.fetch", host="api.example.org")
    env = environment({"NPM_TOKEN": "npm-token"}, tool="shell.exec", hosts=["registry.npmjs.org"])

Both raise ToolRefused, write the use to the audit log, and make the value unspeakable (`tools.redact`). The handles are
rows (`tools.secrets.models.SecretHandle`); whose step it is comes from the runner (`tools.secrets.holding`).
"""

from tools.secrets.holding import Acting, Holder, acting, current, told_by
from tools.secrets.resolving import allowed, environment, for_host, resolve
from tools.secrets.values import keep_unspeakable

__all__ = [
    "Acting",
    "Holder",
    "acting",
    "allowed",
    "current",
    "environment",
    "for_host",
    "keep_unspeakable",
    "resolve",
    "told_by",
]
