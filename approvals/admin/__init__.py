"""The back office: drafts of policies are edited here; requests are looked at, and decided by the one function."""

from approvals.admin import policies, requests

__all__ = ["policies", "requests"]
