"""The admin pages of this app; Django looks here."""

from tools.admin import definitions, secrets

__all__ = ["definitions", "secrets"]
