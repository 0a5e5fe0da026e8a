"""The admin pages of this app; Django looks here."""

from tools.admin import definitions

__all__ = ["definitions"]
