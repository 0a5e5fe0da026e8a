"""Requests without anybody above: the hook's callers are recorded here instead of the engine's steps."""

from collections.abc import Iterator

import pytest

from approvals import hooks
from approvals.models import ApprovalRequest


@pytest.fixture
def told() -> Iterator[list[tuple[str, str]]]:
    """(request id, state) of every decision that the hook told of."""
    seen: list[tuple[str, str]] = []

    def callback(request: ApprovalRequest) -> None:
        seen.append((str(request.pk), str(request.state)))

    hooks.on_decided(callback)
    yield seen
    hooks.forget(callback)
