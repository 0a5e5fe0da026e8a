"""Unit tests have no database: the tools are the server's own."""

import pytest

from tools import registry


@pytest.fixture(autouse=True)
def no_sources(monkeypatch):
    monkeypatch.setattr(registry, "_sources", {})
