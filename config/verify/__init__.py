"""What `manage.py verify` holds the live configuration to. It looks as `doctor` does, but knows no "to look at": a line
passes, fails, or does not apply here."""

from config.verify.line import Line, Result
from config.verify.run import run

__all__ = ["Line", "Result", "run"]
