"""The server says at its start that an address of its settings is none."""

import pytest

from config import checks


@pytest.mark.parametrize(
    ("texts", "wrong"), [([], False), (["10.1.2.3:443", "10.8.0.0/16"], False), (["mirror.example"], True)]
)
def test_exceptions_are_addresses(texts, wrong, settings):
    settings.EGRESS_EXCEPTIONS = texts
    assert [message.id for message in checks.egress(None)] == (["countersign.E007"] if wrong else [])
