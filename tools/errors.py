"""Errors of the tools app.

ToolError
├── UnknownTool            no tool of that name
│   └── ToolDisabled       there is one, and no administrator lets it be used (as it is now)
├── InvalidArguments       the arguments do not fit the tool's schema; `field` names where
├── ToolRefused            the tool itself refuses these arguments (a ref with a leading dash, a path outside)
├── PermitError
│   ├── PermitMismatch     the call about to run is not the call that was permitted
│   └── PermitSpent        this permit was used before, or has expired
├── OverQuota              the job's workspace, or what it may keep, is full
├── ServerFull             the disk, or what all jobs may hold together, is used up; another try may find room
├── SandboxUnavailable     no sandbox tier works here: nothing runs
└── ToolFailed             the tool ran and failed; `transient` says whether another try may help
"""

from tools import redact, storable


class ToolError(Exception):
    """Base of every error of this app. `code` is stable and stands in rows, logs and answers. Secrets, and
    what no row can hold, are taken out of the message and the details here: whoever shows or keeps an error need not
    think of it."""

    code = "tool_error"
    transient = False

    def __init__(self, message: str, **details: object) -> None:
        message = redact.text(storable.text(message))
        super().__init__(message)
        self.message = message
        self.details = {name: redact.data(storable.data(value)) for name, value in details.items()}


class UnknownTool(ToolError):
    code = "unknown_tool"


class ToolDisabled(UnknownTool):
    code = "tool_disabled"


class InvalidArguments(ToolError):
    """`field` is a path such as `arguments.argv[0]`."""

    code = "invalid_arguments"

    def __init__(self, message: str, *, field: str = "arguments") -> None:
        super().__init__(message, field=field)
        self.field = field


class ToolRefused(ToolError):
    code = "tool_refused"


class PermitError(ToolError):
    code = "permit_error"


class PermitMismatch(PermitError):
    """The call about to run is not the call that was permitted."""

    code = "permit_mismatch"


class PermitSpent(PermitError):
    code = "permit_spent"


class OverQuota(ToolError):
    code = "over_quota"


class ServerFull(ToolError):
    code = "server_full"
    transient = True


class SandboxUnavailable(ToolError):
    code = "sandbox_unavailable"


class ToolFailed(ToolError):
    code = "tool_failed"

    def __init__(self, message: str, *, transient: bool = False, **details: object) -> None:
        super().__init__(message, **details)
        self.transient = transient
