"""Two processes of pytest never share a PostgreSQL or a Redis."""

import json
import os

import pytest

from config.devstack.testrun import PROCESS, SHARDS, use_own_servers

PLACES = {"gw0": {"REDIS_URL": "redis://first"}, "gw1": {"REDIS_URL": "redis://second"}}


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    own = {SHARDS: json.dumps(PLACES), "REDIS_URL": "redis://of-the-shell"}
    monkeypatch.setattr(os, "environ", own)
    return own


def test_the_process_that_starts_the_others_hands_on_where_they_go(environ):
    use_own_servers()
    assert environ["REDIS_URL"] == "redis://of-the-shell"
    assert json.loads(environ[SHARDS]) == PLACES


@pytest.mark.parametrize("name", PLACES)
def test_each_goes_to_its_own_and_what_it_starts_goes_there_too(environ, name):
    environ[PROCESS] = name
    use_own_servers()
    assert SHARDS not in environ
    use_own_servers()
    assert environ["REDIS_URL"] == PLACES[name]["REDIS_URL"]
