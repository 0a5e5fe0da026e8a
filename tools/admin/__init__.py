"""The admin pages of this app; Django looks here."""

from tools.admin import definitions, mcp, secrets

__all__ = ["definitions", "mcp", "secrets"]
