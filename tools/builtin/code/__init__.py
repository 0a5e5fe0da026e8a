"""code.test, code.lint, code.format: the project's own commands, found out, run in the sandbox, read into counts and places."""

from tools.builtin.code.tool import FORMAT, LINT, TEST

__all__ = ["FORMAT", "LINT", "TEST"]
