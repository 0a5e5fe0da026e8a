"""The proxy in front of a real Flower."""

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest
from django.contrib.auth.models import User
from django.test import Client

from config.devstack.linux import die_with_parent
from config.devstack.places import REPOSITORY, free_port
from tests.stack import wait_until

pytestmark = pytest.mark.django_db
LOGIN = "proxy:only-the-proxy-knows"


@dataclass(frozen=True)
class Running:
    url: str


@pytest.fixture(scope="module")
def flower() -> Iterator[Running]:
    port, us = free_port(), os.getpid()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "config.celery", "--quiet", "flower", "--address=127.0.0.1"),
            *(f"--port={port}", "--url_prefix=flower", "--enable_events=False", "--read_only=True"),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "FLOWER_BASIC_AUTH": LOGIN},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(us, signal.SIGKILL),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), why="Flower answers")
        yield Running(url)
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/flower/healthcheck", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture
def configured(settings, flower: Running) -> None:  # type: ignore[no-untyped-def]
    settings.FLOWER_URL, settings.FLOWER_BASIC_AUTH = flower.url, LOGIN


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    return client


def test_flower_itself_asks_for_a_password(flower: Running) -> None:
    assert httpx2.get(f"{flower.url}/flower/workers", trust_env=False).status_code == 401


def test_strangers_are_sent_to_the_login(client: Client, configured: None) -> None:
    answer = client.get("/flower/workers?x=1")
    assert answer.status_code == 302
    assert answer["Location"] == "/accounts/login/?next=/flower/workers%3Fx%3D1"


def test_users_who_are_no_staff_are_refused(client: Client, configured: None) -> None:
    client.force_login(User.objects.create_user("plain"))
    assert client.get("/flower/").status_code == 403


def test_staff_see_the_workers_page(staff: Client, configured: None) -> None:
    answer = staff.get("/flower/")
    assert answer.status_code == 200
    assert b"Flower" in answer.content
    assert answer["Content-Type"].startswith("text/html")


def test_static_files_and_queries_pass(staff: Client, configured: None) -> None:
    assert staff.get("/flower/static/css/flower.css")["Content-Type"].startswith("text/css")
    assert "data" in staff.get("/flower/workers?json=1").json()


def test_only_reading_passes(staff: Client, configured: None) -> None:
    for method in (staff.post, staff.put, staff.delete, staff.patch, staff.options):
        assert method("/flower/api/task/send-task/agents.run_step").status_code == 405


def test_head_is_answered_without_a_body(staff: Client, configured: None) -> None:
    answer = staff.head("/flower/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_policy_allows_flowers_one_inline_script_by_hash_and_no_other(staff: Client, configured: None) -> None:
    policy = staff.get("/flower/")["Content-Security-Policy"]
    scripts = re.search(r"script-src ([^;]*)", policy)
    assert scripts and re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/=]{44}'", scripts[1])
    assert "'unsafe-inline'" not in scripts[1]
    assert "'sha256" not in staff.get("/flower/broker")["Content-Security-Policy"]


def test_no_cookie_of_ours_reaches_flower_and_none_of_its_comes_back(staff: Client, configured: None) -> None:
    answer = staff.get("/flower/")
    assert "_xsrf" not in answer.cookies


def test_a_wrong_password_is_our_fault_and_not_the_readers(staff: Client, configured: None, settings) -> None:  # type: ignore[no-untyped-def]
    settings.FLOWER_BASIC_AUTH = "proxy:wrong"
    answer = staff.get("/flower/")
    assert answer.status_code == 502
    assert "WWW-Authenticate" not in answer
    assert base64.b64encode(b"proxy:wrong") not in answer.content


def test_a_flower_that_does_not_run_gets_a_page_that_says_so(staff: Client, settings) -> None:  # type: ignore[no-untyped-def]
    settings.FLOWER_URL = f"http://127.0.0.1:{free_port()}"
    answer = staff.get("/flower/")
    assert answer.status_code == 503
    assert b"Flower does not answer" in answer.content


def test_a_server_without_flower_says_so(staff: Client, settings) -> None:  # type: ignore[no-untyped-def]
    settings.FLOWER_URL = ""
    assert b"FLOWER_URL is empty" in staff.get("/flower/").content
