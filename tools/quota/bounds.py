"""The bounds of a workspace, and in words what breaks them."""

from dataclasses import dataclass

from django.conf import settings

from tools.quota.measure import Usage

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a workspace may hold; 0: no bound. deep: folders may lie deeper than can be counted."""

    size_bytes: int = 0
    files: int = 0
    deep: bool = False

    def broken(self, usage: Usage) -> str:
        """Why `usage` is too much, for people; "" where it is not."""
        if usage.why and not self.deep:
            return usage.why
        if self.size_bytes and usage.size_bytes > self.size_bytes:
            return f"it holds {mib(usage.size_bytes)}, and {mib(self.size_bytes)} are allowed"
        if self.files and usage.files > self.files:
            return f"it holds {usage.files:,} files, and {self.files:,} are allowed"
        return ""

    def not_below(self, usage: Usage) -> "Bounds":
        """The same, or what is there already: who has too much may still make it less."""
        return Bounds(
            size_bytes=max(self.size_bytes, usage.size_bytes) if self.size_bytes else 0,
            files=max(self.files, usage.files) if self.files else 0,
            deep=bool(usage.why),
        )

    def passed(self, size_bytes: int, files: int) -> bool:
        """The same in short, for a count that is under way."""
        return bool((self.size_bytes and size_bytes > self.size_bytes) or (self.files and files > self.files))


def bounds() -> Bounds:
    """Those of the settings."""
    return Bounds(size_bytes=settings.WORKSPACE_QUOTA_MB * MIB, files=settings.WORKSPACE_QUOTA_FILES)


def mib(size_bytes: int) -> str:
    """`12.5 MiB`."""
    return f"{size_bytes / MIB:,.1f} MiB"
