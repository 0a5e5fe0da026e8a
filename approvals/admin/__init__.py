"""The back office: drafts of policies are edited here; requests are looked at, and decided by the one function."""

from approvals.admin import freezes, policies, requests, rules, versions

__all__ = ["freezes", "policies", "requests", "rules", "versions"]
